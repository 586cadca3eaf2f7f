"""The search space: which hierarchies may be proposed, and which may be called the best.

Bounds and constraint are hard here; Optuna knows soft ones only. References are free of both: they
only widen the ranges of the Optuna parameters, so that every stored trial fits. Where settings are
searched too, a hierarchy has values for them. Two hierarchies may then describe one network (as
granularity `block` and `stage` do in a stage of one block): it is listed once, and `identity` says
which are the same.
"""

import functools
import itertools
import math
import random
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dsaccel.config.study import SpaceConfig
from dsaccel.errors import ConfigError
from dsaccel.space.bounds import MeasuredBounds, Measures, told_by_plan
from dsaccel.space.counts import Counts
from dsaccel.space.dimensions import Dimensions, Settings
from dsaccel.space.empty import check_totals, constraint_excludes_all, measured_bounds_exclude_all
from dsaccel.space.rules import against_constraint, outside_bounds
from dsaccel.spec.hierarchy import Blocks, Hierarchy
from dsaccel.spec.plan import Plan

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

MAX_ENUMERATED = 100_000
"""If more hierarchies are feasible, they are not listed: proposals are drawn instead."""
MAX_LOOKED_INTO = 1_000
"""Beginnings of hierarchies that are measured to find those few that measured bounds leave of more
than `MAX_ENUMERATED`: some 1 ms each. A space that takes more is not listed either."""


class SearchSpace:
    """The hierarchies within the bounds, the constraint and the measured bounds of a config.

    Args:
        config: bounds and constraint.
        measure: what a hierarchy costs, no less with more blocks; called only where the config
            bounds that or searches settings of which only the plan tells, and once a hierarchy.
        references: hierarchies that are trained whatever the bounds say.

    Raises:
        ConfigError: if no hierarchy is feasible, `shallow_stages` leaves no deep stage, or a
            reference has another number of stages or a setting that is not searched.
    """

    def __init__(
        self,
        config: SpaceConfig,
        measure: Callable[[Hierarchy], Measures],
        references: Sequence[Hierarchy] = (),
    ) -> None:
        self.config = config
        self.num_stages = len(config.num_blocks)
        self.num_shallow = config.shallow_stages or self.num_stages // 2
        self.references = tuple(references)
        self.dimensions = Dimensions(config.settings, self.num_stages)
        # a loss stands in every head: on its own it makes no two hierarchies one network
        self._may_repeat = any(told_by_plan(n) for n in self.dimensions.names if n != "loss")
        may_be_none = "first_loss" in self.dimensions.names
        self._bounds = MeasuredBounds(config, measure, may_be_none=may_be_none)
        self._check_stages()
        self.counts = Counts(config, self.num_shallow)
        check_totals(config)
        if not self.counts.num():
            raise ConfigError(constraint_excludes_all(config, self.num_shallow))
        if self.size == 0 or self._excludes_its_ends():
            raise ConfigError(self._why_empty())

    @classmethod
    def planned(
        cls,
        config: SpaceConfig,
        plan: Callable[[Hierarchy], Plan],
        references: Sequence[Hierarchy] = (),
        *,
        memory: Callable[[Plan], int],
    ) -> "SearchSpace":
        """A space measured by plans and, where it is bounded, by `memory`, a plan's peak bytes."""

        def measure(hierarchy: Hierarchy) -> Measures:
            made = plan(hierarchy)
            bytes_ = 0 if config.max_training_mib is None else memory(made)
            return Measures.of(made, round(bytes_ / 2**20, 1))

        return cls(config, measure, references)

    @property
    def size(self) -> int | None:
        """How many networks are feasible; None: too many to list."""
        return None if self._feasible is None else len(self._feasible)

    @property
    def is_measured(self) -> bool:
        """Whether parameters, FLOPs or shallow scale are bounded."""
        return bool(self._bounds.bounds)

    def feasible(self) -> list[Hierarchy] | None:
        """Every feasible hierarchy in order, each network once; None: too many to list."""
        return None if self._feasible is None else list(self._feasible)

    def identity(self, hierarchy: Hierarchy) -> Hashable:
        """What is trained: equal for hierarchies whose settings say the same in other words."""
        if not self._may_repeat:
            return hierarchy
        try:
            measures = self._bounds.of(hierarchy)
        except ConfigError:  # there is no such network
            return hierarchy
        if measures.fingerprint is None:
            return hierarchy
        others = {n: v for n, v in hierarchy.settings if not told_by_plan(n)}
        return measures.fingerprint, hierarchy.with_settings(others)

    def distinct(self, hierarchies: Iterable[Hierarchy]) -> list[Hierarchy]:
        """The hierarchies without those that are the same network as an earlier one."""
        first: dict[Hashable, Hierarchy] = {}
        for hierarchy in hierarchies:
            first.setdefault(self.identity(hierarchy), hierarchy)
        return list(first.values())

    def on_the_way(self, hierarchies: Collection[Hierarchy]) -> list[Hierarchy]:
        """Hierarchies whose networks end on the way to these: fewer blocks in the last stage.

        References are none of them, for they are trained in their own right.
        """
        shorter = {
            h.with_blocks((*h.blocks[:-1], last)): None
            for h in sorted(hierarchies)
            for last in range(1, h.blocks[-1])
        }
        asked = {self.identity(h) for h in (*hierarchies, *self.references)}
        return [h for h in self.distinct(sorted(shorter)) if self.identity(h) not in asked]

    def violation(self, hierarchy: Hierarchy) -> str | None:
        """Why a hierarchy is outside the space, in one sentence; None: it is inside."""
        return next(
            itertools.chain(
                outside_bounds(self.config, hierarchy),
                self.dimensions.outside(dict(hierarchy.settings)),
                against_constraint(self.config, self.num_shallow, hierarchy),
                self._bounds.too_small(hierarchy),
                self._bounds.too_large(hierarchy),
            ),
            None,
        )

    def distributions(self) -> dict[str, "BaseDistribution"]:
        """The Optuna parameters, shallowest stage first: the bounds, widened for references."""
        from optuna.distributions import IntDistribution

        rows = [*zip(*self.config.num_blocks, strict=True), *(h.blocks for h in self.references)]
        counts = {
            _parameter(stage): IntDistribution(min(num_blocks), max(num_blocks))
            for stage, num_blocks in enumerate(zip(*rows, strict=True), 1)
        }
        return {**counts, **self.dimensions.distributions()}

    def to_params(self, hierarchy: Hierarchy) -> dict[str, Any]:
        """The Optuna parameters of a hierarchy."""
        counts = {_parameter(stage): num for stage, num in enumerate(hierarchy.blocks, 1)}
        return counts | self.dimensions.to_params(dict(hierarchy.settings))

    def from_params(self, params: Mapping[str, Any]) -> Hierarchy:
        """The hierarchy of a trial's Optuna parameters; other parameters are left alone."""
        counts = tuple(int(params[_parameter(stage)]) for stage in range(1, self.num_stages + 1))
        return Hierarchy(counts).with_settings(self.dimensions.from_params(params))

    def suggested(self, params: Mapping[str, Any]) -> Hierarchy:
        """The hierarchy that is trained where a sampler suggests these parameters."""
        hierarchy = self.from_params(params)
        return hierarchy.with_settings(self.dimensions.rounded(dict(hierarchy.settings)))

    def draw(self, rng: random.Random) -> Hierarchy:
        """Uniform within all bounds but the measured ones."""
        counts = self.counts.at(rng.randrange(self.counts.num()))
        return Hierarchy(counts).with_settings(self.dimensions.draw(rng))

    @functools.cached_property
    def _feasible(self) -> tuple[Hierarchy, ...] | None:
        """Each combination of settings with its counts: neighbours share most blocks."""
        if self._num_unmeasured is None:
            return None
        most_looked = MAX_LOOKED_INTO if self._num_unmeasured > MAX_ENUMERATED else math.inf
        found: list[tuple[Settings, Blocks]] = []
        num = num_looked = 0
        for settings in self.dimensions.combinations():
            for begin in self._look_into((), settings):
                num_looked += 1
                if begin is not None:
                    found.append((settings, begin))
                    num += self.counts.num(begin)
                if num > MAX_ENUMERATED or num_looked > most_looked:
                    return None
        listed = [
            Hierarchy(counts).with_settings(settings)
            for settings, begin in found
            for counts in self.counts.listed(begin)
        ]
        is_distinct = not self._may_repeat or self._settings_differ()
        return tuple(listed if is_distinct else self.distinct(listed))

    def _settings_differ(self) -> bool:
        """Whether settings alone make two networks differ: if the smallest do, all others do."""
        fewest = Hierarchy(tuple(low for low, _ in self.config.num_blocks))
        smallest = [fewest.with_settings(own) for own in self.dimensions.combinations()]
        try:
            if any(self._bounds.of(h).fingerprint is None for h in smallest):
                return False
        except ConfigError:  # there is no such network
            return False
        return len(self.distinct(smallest)) == len(smallest)

    @property
    def _num_unmeasured(self) -> int | None:
        """How many hierarchies are within all bounds but the measured ones; None: no end."""
        num_settings = self.dimensions.size
        return None if num_settings is None else self.counts.num() * num_settings

    def _look_into(self, begin: Blocks, settings: Settings) -> Iterator[Blocks | None]:
        """The longer beginnings, in order, of which all hierarchies are within the measured bounds;
        None for each other one that was looked at.

        A network costs no less with more blocks: all of a beginning are between its ends.
        """
        for longer in self.counts.longer(begin):
            smallest, largest = (
                Hierarchy(counts).with_settings(settings) for counts in self.counts.ends(longer)
            )
            if any(self._bounds.too_large(smallest)):
                yield None
                break  # the smallest of the next one is no smaller
            if any(self._bounds.too_small(largest)):
                yield None
            elif any(self._bounds.too_small(smallest)) or any(self._bounds.too_large(largest)):
                yield None
                yield from self._look_into(longer, settings)
            else:
                yield longer

    def _check_stages(self) -> None:
        if not 1 <= self.num_shallow < self.num_stages:
            raise ConfigError(
                f"shallow_stages must be within 1..{self.num_stages - 1} for {self.num_stages} "
                f"stages, but got {self.num_shallow}"
            )
        for reference in self.references:
            if reference.num_stages != self.num_stages:
                raise ConfigError(
                    f"a reference must have {self.num_stages} stages as {self.config.family} in "
                    f"this space, but got {reference}; change references or num_blocks"
                )
            for problem in self.dimensions.outside(dict(reference.settings)):
                raise ConfigError(
                    f"a reference is trained with the study's own settings, and {problem} in "
                    f"{reference}; change it, space.settings or references"
                )

    def _excludes_its_ends(self) -> bool:
        """Whether the measured bounds leave nothing of the counts, whatever else is searched."""
        if not self.is_measured or "width" in self.dimensions.names:
            return False
        smallest, largest = map(Hierarchy, self.counts.ends(()))
        return any(self._bounds.too_large(smallest)) or any(self._bounds.too_small(largest))

    def _why_empty(self) -> str:
        """Which of the measured bounds leave nothing, and the way out."""
        num = self.counts.num() * (self.dimensions.size or 1)
        is_short = num <= MAX_ENUMERATED
        # where there is no end of settings, none of them changes what is measured
        listed = [{}] if self.dimensions.size is None else self.dimensions.combinations()
        candidates = (
            Hierarchy(counts).with_settings(settings)
            for settings in listed
            for counts in (self.counts.listed() if is_short else self.counts.ends(()))
        )
        return measured_bounds_exclude_all(self._bounds, candidates, None if is_short else num)


def _parameter(stage: int) -> str:
    return f"num_blocks_s{stage}"
