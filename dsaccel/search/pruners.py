"""Who goes on at a rung: the better part of the cohort, by rank. Decides, trains nothing.

Optuna's pruners judge one trial against earlier ones, so trials in lock-step fare by the order of
their reports. Here a cohort is ranked as a whole at one fidelity.
"""

import math
from collections.abc import Hashable, Iterable, Mapping

from dsaccel.config.study import PruningConfig, TrainingConfig
from dsaccel.errors import ConfigError
from dsaccel.spec.hierarchy import Hierarchy


def rung_steps(
    pruning: PruningConfig, training: TrainingConfig, num_stages: int
) -> tuple[int, ...]:
    """The rungs at which a cohort is ranked, ascending, all before the last.

    `simultaneous`: the epochs of `rung_epochs`. `sequential`: the end of each stage but the last,
    after which only the output layer would be left to save.

    Raises:
        ConfigError: if `grace_epochs` are set for a sequential schedule.
    """
    if training.schedule == "simultaneous":
        return rung_epochs(pruning, training)
    if pruning.by == "output":
        raise ConfigError(
            "pruning.by must be head with the sequential schedule, which trains the output layer "
            "last, but got output; leave it out"
        )
    if pruning.grace_epochs is not None:
        raise ConfigError(
            "pruning.grace_epochs must not be set with the sequential schedule, which prunes at "
            f"the end of each stage, but got {pruning.grace_epochs}; leave it out"
        )
    return () if pruning.kind == "none" else tuple(range(1, num_stages))


def rung_epochs(pruning: PruningConfig, training: TrainingConfig) -> tuple[int, ...]:
    """The epochs (1-based) after which a cohort is ranked, ascending, all before the last epoch.

    Without `grace_epochs` the first is the epoch after the first learning-rate decay: before it the
    noise of a large learning rate hides which hierarchy is better. Nothing is pruned if there is
    no such epoch. Optuna's pruners, which know warm-ups of their own, are asked after every epoch.
    """
    if pruning.kind == "none":
        return ()
    if pruning.is_optunas:
        return tuple(range(pruning.grace_epochs or 1, training.epochs))
    first = pruning.grace_epochs
    if first is None:
        first = training.first_rung()
    if first is None:
        raise ConfigError(
            f"pruning.grace_epochs must be set with lr_schedule {training.lr_schedule}, which does "
            f"not say after which epoch networks can be ranked; or set pruning.kind = 'none'"
        )
    rungs: list[int] = []
    fidelity = float(first)
    while round(fidelity) < training.epochs:
        rungs.append(round(fidelity))
        fidelity *= pruning.reduction_factor
    # with a factor near 1 neighbours round to the same epoch
    return tuple(dict.fromkeys(rungs))


def prefixes_at(
    step: int, hierarchies: Iterable[Hierarchy], training: TrainingConfig
) -> dict[Hierarchy, int]:
    """A number for each hierarchy, equal for those who are one network as far as they are trained
    at a rung; see `Cohort.prefixes`. If the schedule is simultaneous, no two are.
    """
    numbers: dict[Hierarchy, int] = {}
    prefixes = {h: h for h in hierarchies}
    if training.schedule == "sequential":
        prefixes = {h: h.beginning(step) for h in prefixes}
    return {h: numbers.setdefault(p, len(numbers)) for h, p in prefixes.items()}


def losers(
    values: Mapping[Hierarchy, float],
    pruning: PruningConfig,
    prefixes: Mapping[Hierarchy, int] | None = None,
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
