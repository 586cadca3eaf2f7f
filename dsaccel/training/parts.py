"""A cohort that is trained in parts, by several workers or one after another; results are the same.

Between two of its stops all parts are trained, each as an ordinary cohort, to the same rung; their
rungs are then merged. By the prefix law each network trains as it would have with all others, so
ranking, pruning and harvest see one cohort. Nothing but accuracies crosses a stop. The price is
time: what two parts share is trained in both, and learners are written to files.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import astuple
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import torch

from dsaccel.config.study import TrainingConfig
from dsaccel.files import make_folder, remove_file
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.plan import Plan
from dsaccel.spec.rung import BEGINNING, Rung
from dsaccel.spec.trie import Node
from dsaccel.training.cohort import Cohort
from dsaccel.training.crew import Crew
from dsaccel.training.cut import Cut, balanced, costliest
from dsaccel.training.descent import Batches
from dsaccel.training.learner import Learner
from dsaccel.training.learner_files import LearnerFiles, PartFile, write_learners
from dsaccel.training.memory import split_to_fit
from dsaccel.training.pace import Pace
from dsaccel.training.part import PartResult, PartTask, train_part
from dsaccel.training.station import Station
from dsaccel.training.stretch import Stretch
from dsaccel.training.team import Here, Job, Team

if TYPE_CHECKING:
    from dsaccel.schedules import Schedule

WORTH_MOVING_S = 3.0
"""Parts are cut anew where that saves so many seconds until the next stop: learners that move are
read from files."""

_count = count()


class SplitCohort(Cohort):
    """A cohort whose parts are trained by a team.

    Args:
        plans: the networks.
        fits: whether networks can be trained together.
        stops: the rungs after which networks may be retired: no part is trained beyond one before
            all have arrived.
        folder: learners are kept here between two stops, where every worker finds them; who makes a
            cohort empties it.
        team: who trains; None: this process.
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
        team: Team | None = None,
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
        self._recorder = None  # each part has its own
        self._points: Mapping[str, Any] = {}
        """The points of curves that a cohort had recorded which was saved whole within a rung."""
        self._plans = dict(plans)
        self._harvest = dict(harvest or {})
        self._fits = fits
        self._stops = stops
        self._team = team or Team([Here(Station(data, device))])
        self.crew = self._crew = Crew([worker.name for worker in self._team.workers])
        self._id = uuid4().hex[:8]
        self._blocks_of_parts = Fraction(0)
        self._in_memory: list[Hierarchy] = []
        self._at_most = len(plans)
        """Networks that are trained together: less when so many have run out of memory."""
        self._cut: Cut = []
        """The last one that was trained."""
        self._known_finite: dict[int, tuple[bool, ...]] = {}
        """Whether units are finite, by node number, as the workers say: nobody reads all again."""
        self._pace = Pace(self.trie, self.schedule)
        self._folder = folder
        self._committed: deque[set[PartFile]] = deque(maxlen=2)
        """The files of the checkpoint and of the one before it."""
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
        """The part that is being trained, or has run out of memory."""
        return self._in_memory

    def parts(self) -> Cut:
        """The living networks in runs that fit, one a worker if possible; neighbours in order share
        the longest prefixes.
        """
        cost = self._pace.costs(self.step, self._next_stop())
        living = set(self.trie.asked)
        num_parts = len(self._team.living)
        cut = self._fitting(balanced(self.trie, sorted(living), cost, num_parts))
        last = [tuple(h for h in part if h in living) for part in self._cut]
        last = self._fitting([part for part in last if part])
        if last and len(last) <= max(len(cut), num_parts):
            paths = {h: self.trie.path(h) for h in living}
            if costliest(last, paths, cost) <= costliest(cut, paths, cost) + WORTH_MOVING_S:
                return last
        return cut

    def state_dict(self) -> dict[str, Any]:
        """The state of a cohort, but with the learners' files in place of the learners."""
        files = self._filed().files
        self._committed.append(set(files.values()))
        history = super(Cohort, self).state_dict()
        plan = {
            "cut": [list(map(str, part)) for part in self._cut],
            "pace": self._pace.state_dict(),
        }
        within = {"within": astuple(self._within), "points": self._points}
        return history | plan | within | {"files": files, "blocks": str(self.blocks)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where a cohort of the same networks, split or not, was saved."""
        super().load_state_dict(state)
        self._blocks_of_parts, self._points = Fraction(state["blocks"]), state.get("points", {})
        if "cut" in state:  # parts go on within a stretch if they are cut as they were
            of_text = {str(h): h for h in self.trie.living}
            self._cut = [tuple(of_text[text] for text in part) for part in state["cut"]]
            self._pace.load_state_dict(state["pace"])
        self._committed.append(set(self._filed().files.values()))

    def _train(self) -> Iterator[Rung]:
        while not self.is_over:
            yield from self._advance()

    def _advance(self) -> Iterator[Rung]:
        """Train all parts to the same rung."""
        stretch, cut = Stretch(self._next_stop()), self.parts()
        self._crew.twice = self._share_twice(cut)
        queue = deque(self._jobs(cut, self.step, stretch.stop, self._filed().files))
        measured: list[tuple[PartTask, PartResult]] = []
        try:
            with self._crew.working():
                for done in self._team.run(queue):
                    task, result = done.job.argument, done.result
                    if result is None:
                        queue += self._in_halves(task)
                        continue
                    measured.append((task, result))
                    self._crew.note(done.worker, tuple(task.plans), result.seconds)
                    for behind, its in stretch.behind_after(task, result):
                        names = [tuple(behind.plans)]
                        queue += self._jobs(names, behind.stop, stretch.stop, its.files)
        except KeyboardInterrupt:
            self.save(now=True)  # as it was when the parts were cut, so that they go on
            raise
        self._cut, self._within, self._points = cut, BEGINNING, {}
        self._measure(measured)
        self._states, self._known_finite = LearnerFiles(stretch.files()), stretch.finite()
        self._forget_files()
        self._trained_step = stretch.stop
        for step in sorted(stretch.merged):
            yield Rung(step, stretch.merged[step])

    def _next_stop(self) -> int:
        """The rung to which all parts are trained next."""
        ahead = [step for step in self._stops if step > self.step]
        return min([*ahead, self.num_steps, self.step + self._pace.stride])

    def _jobs(
        self, cut: Cut, start: int, stop: int, files: Mapping[int, PartFile]
    ) -> Iterator[Job]:
        """The parts as jobs, each for the worker that is likely to hold it."""
        workers = self._team.living
        is_kept = len(cut) <= len(workers) and stop < self.num_steps
        numbers = {h: tuple(node.number for node in self.trie.path(h)) for h in self.trie.living}
        for place, hierarchies in enumerate(cut):
            own = {number for h in hierarchies for number in numbers[h]}
            # a network that was not asked for is read where all of it but its end is trained
            read = [h for h in self._harvest if h in numbers and {*numbers[h][:-1]} <= own]
            needed = own.union(*(numbers[h] for h in read))
            task = PartTask(
                cohort=self._id,
                key=None if self.keeper is None else self.keeper.key,
                plans={h: self._plans[h] for h in hierarchies},
                harvest={h: self._harvest[h] for h in read},
                numbers={h: numbers[h] for h in (*hierarchies, *read)},
                training=self.training,
                schedule=self.schedule,
                curves=tuple(h for h in (*hierarchies, *read) if h in self.curves),
                seed=self.seed,
                start=start,
                within=self._within if start == self.step else BEGINNING,
                points=self._points if start == self.step else {},
                stop=stop,
                files={number: file for number, file in files.items() if number in needed},
                path=self._folder / f"{self._id}-{stop}-{next(_count)}.pt",
                is_kept=is_kept,
            )
            yield Job(train_part, task, workers[place % len(workers)])

    def _in_halves(self, task: PartTask) -> Iterator[Job]:
        """A part that has run out of memory, as two.

        Raises:
            MemoryError: if it is one network.
        """
        hierarchies = tuple(task.plans)
        self._in_memory = list(hierarchies)
        half = len(hierarchies) // 2
        if not half:
            raise MemoryError
        self._at_most = min(self._at_most, len(hierarchies) - half)
        halves = [hierarchies[:half], hierarchies[half:]]
        return self._jobs(halves, task.start, task.stop, task.files)

    def _measure(self, trained: Sequence[tuple[PartTask, PartResult]]) -> None:
        """Note what it took to train parts."""
        for task, result in trained:
            self._blocks_of_parts += result.blocks
            nodes = {node for h in task.plans for node in self.trie.path(h)}
            self._pace.note(nodes, task.start, result.step, result.seconds)

    def _fitting(self, cut: Cut) -> Cut:
        """A cut whose parts fit into memory."""

        def fits(hierarchies: Sequence[Hierarchy]) -> bool:
            return len(hierarchies) <= self._at_most and self._fits(hierarchies)

        return [part for run in cut for part in split_to_fit(run, fits)]

    def _finite(self, node: Node) -> Sequence[bool]:
        return self._known_finite.get(node.number) or super()._finite(node)

    def _share_twice(self, cut: Cut) -> float:
        paths = {h: self.trie.path(h) for h in self.trie.asked}
        in_parts = [{node for h in part for node in paths[h]} for part in cut]
        blocks = sum(node.num_blocks for nodes in in_parts for node in nodes)
        once = sum(node.num_blocks for node in set().union(*in_parts))
        return blocks / once - 1 if once else 0.0

    def _filed(self) -> LearnerFiles:
        """The learners' files; those of a cohort that was saved whole are written now."""
        if not isinstance(self._states, LearnerFiles):
            path = self._folder / f"{self._id}-{next(_count)}.pt"
            file = write_learners(path, self._states) if self._states else None
            self._states = LearnerFiles({number: file for number in self._states if file})
        return self._states

    def _forget_files(self) -> None:
        """Remove the files that neither going on nor a checkpoint needs."""
        needed = set(self._filed().files.values()).union(*self._committed)
        kept = {Path(path) for path, _ in needed}
        for path in self._folder.glob("*.pt"):
            if path not in kept:
                remove_file(path)
