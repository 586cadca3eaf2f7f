"""The best part of a cohort goes on."""

import math

from dsaccel.search.pruners import Prefixes, Pruner, Values, all_but
from dsaccel.spec.hierarchy import Hierarchy


class Halving(Pruner):
    """At each rung one of `reduction_factor` hierarchies goes on, rounded up."""

    reduction_factor: float = 2.0

    def losers(self, step: int, values: Values, prefixes: Prefixes) -> list[Hierarchy]:
        return all_but(math.ceil(len(values) / self.reduction_factor), values, prefixes)
