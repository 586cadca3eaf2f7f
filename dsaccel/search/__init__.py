"""Propose, train, prune, tell: a study from where it stands to its budget."""
