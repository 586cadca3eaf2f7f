"""Train all that is feasible."""

from dsaccel.search.strategies import Strategy


class Exhaustive(Strategy):
    """All feasible hierarchies, in order."""

    takes_all = True
