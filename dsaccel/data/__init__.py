"""Images on the device, from a named data set or a folder."""
