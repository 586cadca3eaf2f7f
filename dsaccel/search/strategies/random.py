"""Draw hierarchies uniformly."""

from dsaccel.search.strategies import Strategy


class Random(Strategy):
    """Feasible hierarchies, each as likely as any other."""
