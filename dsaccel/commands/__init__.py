"""One module a command. Heavy modules are imported inside the command that needs them."""
