"""What is trained: hierarchies, networks as data, the trie. Needs no tensors."""
