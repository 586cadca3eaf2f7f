"""The best percent of a cohort go on."""

import math

from dsaccel.search.pruners import Prefixes, Pruner, Values, all_but
from dsaccel.spec.hierarchy import Hierarchy


class Percentile(Pruner):
    """At each rung `percentile` percent of the hierarchies go on, rounded up."""

    percentile: float = 50.0

    def losers(self, step: int, values: Values, prefixes: Prefixes) -> list[Hierarchy]:
        return all_but(math.ceil(len(values) * self.percentile / 100), values, prefixes)
