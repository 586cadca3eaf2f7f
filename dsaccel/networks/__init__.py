"""Networks as data, the trie of their shared prefixes, and the modules that are trained."""
