"""Nobody is stopped."""

from collections.abc import Hashable, Mapping

from dsaccel.search.pruners import Pruner
from dsaccel.spec.hierarchy import Hierarchy


class Nobody(Pruner):
    """All hierarchies are trained to their end."""

    asked = "never"

    def losers(
        self,
        step: int,
        values: Mapping[Hierarchy, float],
        prefixes: Mapping[Hierarchy, Hashable],
    ) -> list[Hierarchy]:
        return []
