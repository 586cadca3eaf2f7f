"""A landscape: an exhaustive study as a table, a row for each hierarchy, seed, epoch and head.

Nothing is estimated or left out: every feasible hierarchy was trained to its end, so a search can
be replayed on the table (`replay.py`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Literal, NamedTuple

from dsaccel.config.study import StudyConfig
from dsaccel.errors import ConfigError
from dsaccel.parts import part_of
from dsaccel.planner import Planner
from dsaccel.schedules import Schedule
from dsaccel.space.space import SearchSpace
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.plan import Segment
from dsaccel.spec.rung import Exit, Read
from dsaccel.training.memory import training_bytes


@dataclass(frozen=True)
class Network:
    """What a hierarchy costs, and whether it may be called the best."""

    num_parameters: int
    flops: int
    shallow_scale: float
    is_feasible: bool


class Tested(NamedTuple):
    """What was read of a network on the test split, 0..1."""

    heads: tuple[float, ...]
    """By head."""
    ensemble: float | None
    """Of the last half of the heads together; None: the network has no heads of its own."""


@dataclass(frozen=True)
class Landscape:
    config: StudyConfig
    """The study's, without what says where it was kept; of several studies the first one's."""
    num_classes: int
    num_val: int | None
    """Validation images behind each accuracy."""
    networks: dict[Hierarchy, Network]
    """Every feasible hierarchy, and the references."""
    accuracies: dict[int, dict[Hierarchy, dict[int, tuple[float, ...]]]]
    """Seed -> hierarchy -> step -> validation accuracy (0..1) by head, an output layer's last."""
    ensembles: dict[int, dict[Hierarchy, dict[int, float]]] = field(default_factory=dict)
    """Seed -> hierarchy -> step -> accuracy of the ensemble of heads; empty: it was not read."""
    seconds: dict[int, dict[Hierarchy, float]] = field(default_factory=dict)
    """Seed -> hierarchy -> the time that training this network alone would take one worker,
    estimated: its cohort's work times its share of the FLOPs; empty: it was not recorded."""
    tests: dict[int, dict[Hierarchy, Tested]] = field(default_factory=dict)
    """Seed -> hierarchy -> what was read of the test split at its end; empty: it was not read."""

    @property
    def schedule(self) -> Schedule:
        """In which order the units learned."""
        return part_of(self.config.training, "schedule")

    @property
    def num_steps(self) -> int:
        """The last step, at which the accuracy of the study's exit is the objective."""
        return self.schedule.num_steps(len(self.config.space.num_blocks))

    @cached_property
    def space(self) -> SearchSpace:
        references = [Hierarchy.parse(text) for text in self.config.references]
        # planned only where it is measured: a landscape need not say what its images were
        memory = training_bytes(self.config.training)
        space = self.config.space
        return SearchSpace.planned(space, lambda h: self.plan(h), references, memory=memory)

    @property
    def plan(self) -> Planner:
        """The networks that were trained."""
        return Planner.of(self.config, self.num_classes)

    def has_end(self, step: int) -> bool:
        """Whether networks are trained to their ends at a step, output layers too."""
        return self.schedule.has_output(step, len(self.config.space.num_blocks))

    def read(self, seed: int, hierarchy: Hierarchy, step: int) -> Read:
        """What was read of a network at a step."""
        ensemble = self.ensembles.get(seed, {}).get(hierarchy, {}).get(step)
        heads = self.accuracies[seed][hierarchy][step]
        return self._read(hierarchy, heads, ensemble, is_end=self.has_end(step))

    def test(self, seed: int, hierarchy: Hierarchy) -> Read | None:
        """What was read of a network on the test split, at its end; None: it was not."""
        tested = self.tests.get(seed, {}).get(hierarchy)
        return None if tested is None else self._read(hierarchy, *tested, is_end=True)

    def _read(
        self, hierarchy: Hierarchy, heads: Sequence[float], ensemble: float | None, *, is_end: bool
    ) -> Read:
        last = self._end(hierarchy) if is_end else None
        # an output layer that trains nothing below it stands above the last unit's own head
        own = heads[-2] if last is not None and not last.blocks else heads[-1]
        exits: dict[Exit, float] = {"head": own}
        if last is not None and last.output is not None:
            exits["layer"] = heads[-1]
        if ensemble is not None:
            exits["ensemble"] = ensemble
        return Read(tuple(heads), exits, exits[self.config.network.output] if is_end else None)

    @cached_property
    def _end(self) -> Callable[[Hierarchy], Segment]:
        """The last segment of a network, planned once."""
        return cache(lambda hierarchy: self.plan(hierarchy).segments[-1])

    def has_output(self, hierarchy: Hierarchy) -> bool:
        """Whether the last head of a network is an output layer."""
        return self._end(hierarchy).output is not None

    def query(
        self,
        hierarchy: Hierarchy | str,
        *,
        seed: int,
        epoch: int,
        exit: Exit | None = None,
        split: Literal["val", "test"] = "val",
    ) -> float:
        """The accuracy (0..1) of a hierarchy after an epoch (stage, if sequential), as it was
        measured; a table lookup, for benchmarks of search methods.

        Args:
            hierarchy: `1-1-2`.
            seed: one of those that were trained.
            epoch: 1-based.
            exit: where the network is read; None: where the study reads it.
            split: `test` has the last epoch alone, and that only if the landscape was written with
                `--test`.

        Raises:
            ConfigError: if that was not measured.
        """
        asked, exit = Hierarchy.parse(str(hierarchy)), exit or self.config.network.output
        known = self.accuracies.get(seed, {}).get(asked, {})
        read = self.read(seed, asked, epoch) if epoch in known else None
        if split == "test":
            read = self.test(seed, asked) if epoch == self.num_steps else None
        exits = {} if read is None else read.exits
        if exit not in exits:
            seeds = ", ".join(map(str, self.accuracies))
            raise ConfigError(
                f"a query must be of what was measured (seeds {seeds}; steps 1 to "
                f"{self.num_steps}, of those that were not pruned), but got {asked}, seed {seed}, "
                f"step {epoch}, exit {exit}, split {split}"
            )
        return exits[exit]

    def objective(self, seed: int, hierarchy: Hierarchy) -> float:
        """The accuracy of the study's exit after the last step."""
        objective = self.read(seed, hierarchy, self.num_steps).objective
        assert objective is not None
        return objective

    def objectives(self) -> dict[Hierarchy, dict[int, float]]:
        """Feasible hierarchy -> seed -> `objective`."""
        return {
            hierarchy: {
                seed: self.objective(seed, hierarchy)
                for seed, table in self.accuracies.items()
                if hierarchy in table
            }
            for hierarchy, network in self.networks.items()
            if network.is_feasible and any(hierarchy in t for t in self.accuracies.values())
        }

    def optimum(self, seed: int) -> float:
        """The highest objective of a feasible hierarchy."""
        feasible = [h for h, network in self.networks.items() if network.is_feasible]
        return max(self.objective(seed, h) for h in feasible)
