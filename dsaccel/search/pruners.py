"""Who goes on at a rung: the better part of the cohort, by rank. Decides, trains nothing.

Optuna's pruners judge one trial against earlier ones, so trials in lock-step fare by the order of
their reports. Here a cohort is ranked as a whole at one fidelity.
"""

import math
from collections.abc import Hashable, Iterable, Mapping

from dsaccel.config.study import PruningConfig, TrainingConfig
from dsaccel.parts import part_of
from dsaccel.spec.hierarchy import Hierarchy


def rung_steps(
    pruning: PruningConfig, training: TrainingConfig, num_stages: int
) -> tuple[int, ...]:
    """The rungs at which a cohort is ranked, ascending, all before the last.

    Raises:
        ConfigError: as `Schedule.stops`.
    """
    return part_of(training, "schedule").stops(pruning, training, num_stages)


def prefixes_at(
    step: int, hierarchies: Iterable[Hierarchy], training: TrainingConfig
) -> dict[Hierarchy, Hashable]:
    """Equal for those who are one network as far as they are trained at a rung."""
    schedule = part_of(training, "schedule")
    return {h: schedule.prefix(h, step) for h in hierarchies}


def losers(
    values: Mapping[Hierarchy, float],
    pruning: PruningConfig,
    prefixes: Mapping[Hierarchy, Hashable] | None = None,
) -> list[Hierarchy]:
    """Those who stop at a rung, best first: all but the best ceil(n / reduction_factor), or
    `percentile` percent of n, rounded up.

    Equal values rank by text, whatever the order of the mapping. What is not finite (diverged)
    ranks last; the best goes on even so. Those who are one network so far go on together or stop
    together: nothing tells them apart, and if one of them goes on, all do.

    Args:
        values: accuracy (higher is better) at this rung of everyone who may be pruned.
        pruning: how many go on.
        prefixes: equal for those who are one network so far; None: no two are.
    """
    if pruning.kind == "none":
        return []
    by_text = {str(h): h for h in values}
    group: Mapping[Hierarchy, Hashable] = {h: h for h in values} if prefixes is None else prefixes
    first: dict[Hashable, str] = {}
    for text in sorted(by_text):
        first.setdefault(group[by_text[text]], text)

    def rank(h: Hierarchy) -> tuple[bool, float, str, str]:
        finite = math.isfinite(values[h])
        return (not finite, -values[h] if finite else 0.0, first[group[h]], str(h))

    ranked = sorted(values, key=rank)
    num_living = _num_living(len(ranked), pruning)
    last = group[ranked[num_living - 1]] if ranked else None
    return [h for h in ranked[num_living:] if group[h] != last]


def _num_living(num: int, pruning: PruningConfig) -> int:
    """How many of `num` go on; at least one, if there is one."""
    if pruning.percentile is not None:
        return math.ceil(num * pruning.percentile / 100)
    return math.ceil(num / pruning.reduction_factor)
