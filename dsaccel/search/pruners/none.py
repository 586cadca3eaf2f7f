"""No pruning."""

from dsaccel.search.pruners import Prefixes, Pruner, Values
from dsaccel.spec.hierarchy import Hierarchy


class Nobody(Pruner):
    """All hierarchies are trained to their end."""

    asked = "never"

    def losers(self, step: int, values: Values, prefixes: Prefixes) -> list[Hierarchy]:
        return []
