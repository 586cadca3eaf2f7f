"""From which rung on pruning can be trusted."""
