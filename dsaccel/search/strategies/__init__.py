"""Strategies: who proposes the hierarchies of a cohort, a file each.

References come before all proposals, repeated and infeasible ones never come: that is seen to
elsewhere (`proposals.py`). A strategy only suggests.
"""

import itertools
from abc import ABC
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from optuna.trial import FrozenTrial

from dsaccel.config.section import Section
from dsaccel.config.study import StudyConfig
from dsaccel.schedules import Schedule
from dsaccel.space.space import SearchSpace
from dsaccel.spec.costs import Cost
from dsaccel.spec.hierarchy import Hierarchy


@dataclass(frozen=True)
class Told:
    """What a strategy may look at when it is asked for suggestions."""

    space: SearchSpace
    """What is feasible."""
    finished: Sequence[FrozenTrial]
    """The stored trials that are complete or pruned, in the order of cohorts."""
    values: Mapping[Hashable, float | None]
    """Accuracies of their networks (`SearchSpace.identity`); None: pruned."""
    taken: set[Hashable]
    """Networks that must not be suggested; it grows meanwhile by what was yielded."""
    seed: int
    """The study's."""
    costs: Sequence[Cost] = ()
    """What is to be weighed against accuracy."""

    def is_new(self, hierarchy: Hierarchy) -> bool:
        """Whether it may be suggested: it is feasible, and a network that is not taken."""
        space = self.space
        return space.identity(hierarchy) not in self.taken and space.violation(hierarchy) is None


class Strategy(Section, ABC):
    """A kind of strategy; its fields are its options.

    An option that `[budget]` has too is taken from there.
    """

    takes_all: ClassVar[bool] = False
    """Whether all that is feasible is proposed, in lexicographic order: neighbours share most
    blocks. It is asked for no suggestions then."""
    learns: ClassVar[bool] = False
    """Whether it suggests by what earlier cohorts have come to. The first hierarchies of a study
    are drawn uniformly then."""
    one_by_one: ClassVar[bool] = False
    """Whether a cohort is one hierarchy unless the user asks for more."""
    weighs_costs: ClassVar[bool] = True
    """Whether it may be asked to weigh costs against accuracy."""
    decides: ClassVar[bool] = False
    """Whether it says itself who goes on, after each step but the last, in place of a pruner."""

    def suggestions(self, told: Told) -> Iterator[Hierarchy | None]:
        """Suggest feasible hierarchies that are not taken; None: a uniform one is drawn instead.

        What is told alike is answered alike.
        """
        return itertools.repeat(None)

    def prepared(self, config: StudyConfig) -> StudyConfig:
        """The settings of a study with this strategy.

        Raises:
            ConfigError: if they do not go with it.
        """
        return config

    def schedule(self, schedule: Schedule) -> Schedule:
        """The schedule that its cohorts are trained by, in place of the study's."""
        return schedule

    def losers(self, step: int, values: Mapping[Hierarchy, float]) -> list[Hierarchy]:
        """If it `decides`: who stops at a step.

        Args:
            step: epochs, or stages, that are trained.
            values: accuracy of each living feasible hierarchy.
        """
        return []
