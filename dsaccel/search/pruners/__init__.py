"""Pruners: who goes on at a rung, a file each. They decide, and train nothing.

Optuna's pruners judge one trial against earlier ones, so trials in lock-step fare by the order of
their reports. The pruners here rank a cohort as a whole at one fidelity.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial

from dsaccel.config.section import Section
from dsaccel.config.study import PruningConfig, TrainingConfig
from dsaccel.parts import part_of
from dsaccel.schedules import Asked
from dsaccel.spec.hierarchy import Hierarchy

Values = Mapping[Hierarchy, float]
Prefixes = Mapping[Hierarchy, Hashable]


@dataclass(frozen=True)
class Race:
    """One cohort, as a pruner may want to know it before its first rung."""

    asked: Sequence[Hierarchy]
    """The hierarchies in the order in which they were proposed."""
    finished: Sequence[FrozenTrial]
    """The complete and pruned trials of earlier cohorts, in their order."""
    distributions: Mapping[str, BaseDistribution]
    """The distributions of the study's parameters."""
    training: TrainingConfig
    stops: Collection[int]
    """The rungs at which a hierarchy may be stopped."""
    references: Collection[Hierarchy]
    """Hierarchies that are compared with, but never stop."""


class Judge(ABC):
    """Decides on one cohort."""

    sees_all: ClassVar[bool] = False
    """Whether it is told of every rung and of references too. If not, it is told of the stops
    alone, and of those alone who may be stopped."""

    @abstractmethod
    def losers(self, step: int, values: Values, prefixes: Prefixes) -> list[Hierarchy]:
        """Those who stop at a rung, best first; the best goes on.

        Args:
            step: epochs, or stages, that are trained.
            values: accuracy (higher is better) at this rung of everyone who may be stopped.
            prefixes: equal for those who are one network so far: they go on together, or stop
                together.
        """


class PrunerKind(Section, ABC):
    """A kind of pruner; its fields are its options.

    An option that `[pruning]` has too is taken from there.
    """

    asked: ClassVar[Asked] = "at rungs"
    """When it is asked: at the schedule's rungs, after every step, or never."""

    @abstractmethod
    def judge(self, race: Race) -> Judge:
        """The judge of a cohort."""


class Pruner(PrunerKind, Judge):
    """A kind of pruner that remembers nothing, and so decides on every cohort by itself."""

    def judge(self, race: Race) -> Judge:
        return self


def find_pruner(pruning: PruningConfig) -> PrunerKind:
    """The pruner that a study names.

    Raises:
        ConfigError: as `part_of`, or if Optuna has no such pruner, or it does not take its options.
    """
    if pruning.is_optunas:
        from dsaccel.search.pruners.optunas import Optunas, make_pruner

        make_pruner(pruning.kind, pruning.options)  # refused now, and not at the first rung
        return Optunas(kind=pruning.kind, options=pruning.options)
    return part_of(pruning, "pruner", pruning.kind)


def rung_steps(
    pruning: PruningConfig, training: TrainingConfig, num_stages: int
) -> tuple[int, ...]:
    """The rungs at which a pruner is asked, ascending, all before the last.

    Raises:
        ConfigError: as `Schedule.stops`.
    """
    schedule, asked = part_of(training, "schedule"), find_pruner(pruning).asked
    return schedule.stops(pruning, training, num_stages, asked)


def prefixes_at(
    step: int, hierarchies: Iterable[Hierarchy], training: TrainingConfig
) -> dict[Hierarchy, Hashable]:
    """Equal for those who are one network as far as they are trained at a rung."""
    schedule = part_of(training, "schedule")
    return {h: schedule.prefix(h, step) for h in hierarchies}


def all_but(num_living: int, values: Values, prefixes: Prefixes) -> list[Hierarchy]:
    """All but the best so many, best first.

    Equal values rank by text, whatever the order of the mapping. What is not finite (diverged)
    ranks last; the best goes on even so. Those who are one network so far go on together or stop
    together: nothing tells them apart, and if one of them goes on, all do.
    """
    by_text = {str(h): h for h in values}
    first: dict[Hashable, str] = {}
    for text in sorted(by_text):
        first.setdefault(prefixes[by_text[text]], text)

    def rank(h: Hierarchy) -> tuple[bool, float, str, str]:
        finite = math.isfinite(values[h])
        return (not finite, -values[h] if finite else 0.0, first[prefixes[h]], str(h))

    ranked = sorted(values, key=rank)
    last = prefixes[ranked[num_living - 1]] if ranked else None
    return [h for h in ranked[num_living:] if prefixes[h] != last]
