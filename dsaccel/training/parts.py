"""A cohort that does not fit into memory, trained in parts one after another; results are the same.

Between two of its stops all parts are trained, each as an ordinary cohort, to the same rung; their
rungs are then merged. By the prefix law each network trains as it would have with all others, so
ranking, pruning and harvest see one cohort. The price is time: what two parts share is trained in
both, and learners wait on disk in between.
"""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from dsaccel.config.study import TrainingConfig
from dsaccel.files import atomic_write, make_folder
from dsaccel.nn.sealed import read_state, write_state
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.plan import Plan
from dsaccel.spec.rung import Read, Rung
from dsaccel.spec.trie import Node
from dsaccel.training.cohort import Cohort
from dsaccel.training.descent import Batches
from dsaccel.training.learner import Learner
from dsaccel.training.memory import split_to_fit

if TYPE_CHECKING:
    from dsaccel.schedules import Schedule

STRIDE_S = 300.0
"""The first part is trained at least this long before the others catch up: the shorter, the more
time goes into reading and writing learners; the longer, the more is lost to an interruption."""


class SplitCohort(Cohort):
    """A cohort whose parts are trained in turn.

    Args:
        plans: the networks.
        fits: whether networks can be trained together.
        stops: the rungs after which networks may be retired: no part is trained beyond one before
            all have arrived.
        folder: learners are kept here while others are trained; who makes a cohort empties it.
        training, data, seed, device, harvest, schedule, curves: as of a cohort.
    """

    def __init__(
        self,
        plans: Mapping[Hierarchy, Plan],
        training: TrainingConfig,
        data: Batches,
        *,
        seed: int,
        device: torch.device,
        harvest: Mapping[Hierarchy, Plan] | None = None,
        schedule: "Schedule | None" = None,
        curves: Collection[Hierarchy] = (),
        fits: Callable[[Sequence[Hierarchy]], bool],
        stops: Collection[int],
        folder: Path,
    ) -> None:
        super().__init__(
            plans,
            training,
            data,
            seed=seed,
            device=device,
            harvest=harvest,
            schedule=schedule,
            curves=curves,
        )
        self._plans = dict(plans)
        self._harvest = dict(harvest or {})
        self._fits = fits
        self._stops = stops
        self._blocks_of_parts = Fraction(0)
        self._in_memory: list[Hierarchy] = []
        self._folder = folder
        make_folder(folder)

    @property
    def learners(self) -> dict[Node, Learner]:
        """None: each part has its own for as long as it trains."""
        return {}

    @property
    def blocks(self) -> Fraction:
        """What two parts share is trained in both."""
        return self._blocks_of_parts

    @property
    def in_memory(self) -> list[Hierarchy]:
        """The part that is being trained."""
        return self._in_memory

    def parts(self) -> list[tuple[Hierarchy, ...]]:
        """The living networks in runs that fit; neighbours in order share the longest prefixes."""
        return split_to_fit(sorted(self.trie.asked), self._fits)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where a cohort of the same networks, split or not, was saved."""
        super().load_state_dict(state)
        self._blocks_of_parts = Fraction(state["blocks"])

    def _state(self, node: Node) -> dict[str, Any]:
        return self._states[node.number]

    def _train(self) -> Iterator[Rung]:
        while not self.is_over:
            yield from self._advance()

    def _advance(self) -> Iterator[Rung]:
        """Train all parts to the same rung."""
        last: int | None = None
        merged: dict[int, dict[Hierarchy, Read]] = {}
        # not yet in place of what waits: another part may begin with the same learners
        trained: dict[int, Any] = {}
        for number, hierarchies in enumerate(self.parts()):
            self._in_memory = list(hierarchies)
            part = self._open(hierarchies)
            started = time.perf_counter()
            with closing(part.rungs()) as rungs:
                for rung in rungs:
                    if last is None or rung.step <= last:
                        merged.setdefault(rung.step, {}).update(rung.read)
                    is_late = time.perf_counter() - started > STRIDE_S
                    if last is None and (is_late or rung.step in self._stops):
                        last = rung.step
                    if last is not None and rung.step >= last:
                        break
            last = last or self.num_steps
            self._blocks_of_parts += part.blocks
            trained |= self._put_away(part, self._folder / f"{number}.pt")
            del part, rungs  # before the next one is made
        assert last is not None
        self._states = trained
        self._trained_step = last
        for step in sorted(merged):
            yield Rung(step, merged[step])

    def _open(self, hierarchies: Sequence[Hierarchy]) -> Cohort:
        """A part as it was left."""
        part = Cohort(
            {h: self._plans[h] for h in hierarchies},
            self.training,
            self.data,
            seed=self.seed,
            device=self.device,
            harvest={h: p for h, p in self._harvest.items() if h in self.trie.living},
            schedule=self.schedule,
            curves=self.curves,
        )
        part.history, part._start = list(self.history), self.step
        if self._states:
            part._states = {
                node.number: self._states[number] for node, number in self._numbers(part).items()
            }
        return part

    def _put_away(self, part: Cohort, path: Path) -> dict[int, Any]:
        """Save a part's learners; returns their states, which are read when they are needed."""
        numbers = self._numbers(part)
        states = {n: part.learners[node].state_dict() for node, n in numbers.items()}
        with atomic_write(path) as temporary:
            write_state(temporary, states)
        return read_state(path)

    def _numbers(self, part: Cohort) -> dict[Node, int]:
        """The numbers that a part's nodes have in the whole trie."""
        return {
            node: whole.number
            for h in part.trie.living
            for node, whole in zip(part.trie.path(h), self.trie.path(h), strict=True)
        }
