"""Strategies: who proposes the hierarchies of a cohort, a file each.

References come before all proposals, repeated and infeasible ones never come: that is seen to
elsewhere (`proposals.py`). A strategy only suggests.
"""

import itertools
from abc import ABC
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import ClassVar

from optuna.trial import FrozenTrial

from dsaccel.config.section import Section
from dsaccel.config.study import StudyConfig
from dsaccel.schedules import Schedule
from dsaccel.space.space import SearchSpace
from dsaccel.spec.costs import Cost
from dsaccel.spec.hierarchy import Hierarchy


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
    """Whether it may be asked to weigh a cost against accuracy."""
    decides: ClassVar[bool] = False
    """Whether it says itself who goes on, after each step but the last, in place of a pruner."""

    def suggestions(
        self,
        space: SearchSpace,
        finished: Sequence[FrozenTrial],
        values: Mapping[Hashable, float | None],
        taken: set[Hashable],
        *,
        seed: int,
        cost: Cost | None = None,
    ) -> Iterator[Hierarchy | None]:
        """Suggest feasible hierarchies that are not taken; None: a uniform one is drawn instead.

        Equal arguments give equal suggestions.

        Args:
            space: what is feasible.
            finished: the stored trials that are complete or pruned, in the order of cohorts.
            values: accuracies of their networks (`SearchSpace.identity`); None: pruned.
            taken: networks that must not be suggested; grows meanwhile by what was yielded.
            seed: the study's.
            cost: what is to be weighed against accuracy.
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
