"""A part of a cohort, trained from one rung to another from files to a file.

Whoever trains it, and however often, comes to the same. A station keeps the learners of the part
that it trained last: where it goes on with that, it reads no file. A part that takes long is saved
on its way, and its result at its end: whoever does the task again goes on from there.
"""

import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsaccel.config.study import TrainingConfig
from dsaccel.files import atomic_write
from dsaccel.nn.sealed import DamagedError, read_state, write_state
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.plan import Plan
from dsaccel.spec.rung import Rung, Safe
from dsaccel.spec.trie import Node
from dsaccel.training.checkpoint import Checkpoints
from dsaccel.training.cohort import Cohort, all_finite
from dsaccel.training.device_memory import is_out_of_memory, release_memory
from dsaccel.training.learner import Learner
from dsaccel.training.learner_files import LearnerFiles, PartFile, write_learners
from dsaccel.training.station import Station

if TYPE_CHECKING:
    from dsaccel.schedules import Schedule


@dataclass(frozen=True)
class PartTask:
    """Train these networks from a rung to another."""

    cohort: str
    """Equal for the tasks of one cohort, and for no other's."""
    key: str | None
    """The key of what the cohort's keeper keeps, on the part's way too; None: nothing is kept."""
    plans: Mapping[Hierarchy, Plan]
    harvest: Mapping[Hierarchy, Plan]
    numbers: Mapping[Hierarchy, tuple[int, ...]]
    """The numbers of the nodes on each network's path, in the whole cohort's trie."""
    training: TrainingConfig
    schedule: "Schedule"
    curves: tuple[Hierarchy, ...]
    """The networks whose curves are recorded."""
    seed: int
    start: int
    within: Safe
    """What the learners have behind them since then."""
    points: Mapping[str, Any]
    """The points of curves that no rung has taken along yet."""
    stop: int
    files: Mapping[int, PartFile]
    """The files of the learners of `start`, by node number; none at the beginning."""
    path: Path
    """The file that those of `stop` are written to."""
    is_kept: bool
    """Whether the station keeps them too."""

    @property
    def way(self) -> str:
        """The name of what is saved: equal for tasks that come to the same."""
        return repr((self.key, self.start, self.stop, sorted(self.files.items())))

    def file(self, name: str) -> Path:
        """The file in which something is saved, beside the learners."""
        numbers = sha256(repr(self.numbers).encode()).hexdigest()[:16]
        return self.path.with_name(f"{name}-{numbers}.pt")


@dataclass(frozen=True)
class PartResult:
    """What has come of it."""

    rungs: tuple[Rung, ...]
    blocks: Fraction
    """Trained on the way."""
    seconds: float
    step: int
    """The rung that was reached."""
    files: Mapping[int, PartFile]
    """The file of each node's learner, by number."""
    finite: Mapping[int, tuple[bool, ...]]
    """Whether all numbers of each unit are finite, by the node's number."""


class Part(Cohort):
    """The networks of a task."""

    def __init__(self, station: Station, task: PartTask) -> None:
        super().__init__(
            task.plans,
            task.training,
            station.data,
            seed=task.seed,
            device=station.device,
            harvest=task.harvest,
            schedule=task.schedule,
            curves=task.curves,
        )
        self.numbers: dict[Node, int] = {
            node: number
            for h in self.trie.living
            for node, number in zip(self.trie.path(h), task.numbers[h], strict=True)
        }
        held, own = _held(station, task), set(self.numbers.values())
        self._held = {number: held[number] for number in held.keys() & own}
        self._files = LearnerFiles(task.files)
        self._start = task.start
        self._within = task.within
        if self._recorder is not None:
            self._recorder.load_state_dict(task.points)
        if task.start:
            self._arrive(Rung(task.start, {}), (0.0, 0.0))
        if task.key is not None:
            Checkpoints(task.file("within"), task.way, self)

    def _make_learner(self, node: Node) -> Learner:
        number = self.numbers[node]
        if self._states:  # saved on its way
            return super()._make_learner(node)
        if number in self._held:
            return self._held.pop(number)
        learner = super()._make_learner(node)
        if self._files:
            learner.load_state_dict(self._files[number])
        return learner


def train_part(station: Station, task: PartTask) -> PartResult | None:
    """Train a part; None: the device ran out of memory."""
    try:
        return _known(task) or _train(station, task)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error, station.device):
            raise
    # not in the handler, whose traceback holds the learners
    release_memory(station.device)
    return None


def _train(station: Station, task: PartTask) -> PartResult:
    started = time.perf_counter()
    part, rungs = Part(station, task), []
    with closing(part.rungs()) as reached:
        for rung in reached:
            rungs.append(rung)
            if rung.step >= task.stop:
                break
    step = rungs[-1].step if rungs else task.stop
    states = {n: part.learners[node].state_dict() for node, n in part.numbers.items()}
    file = write_learners(task.path, states)
    if task.is_kept:
        learners = {number: part.learners[node] for node, number in part.numbers.items()}
        station.kept["learners"] = task.cohort, step, learners
    finite = {number: all_finite(state["units"]) for number, state in states.items()}
    seconds = time.perf_counter() - started
    files = dict.fromkeys(states, file)
    result = PartResult(tuple(rungs), part.blocks, seconds, step, files, finite)
    if task.key is not None:
        plain = {"rungs": [rung.values() for rung in rungs], "blocks": str(part.blocks)}
        with atomic_write(task.file("done")) as temporary:
            write_state(temporary, {"way": task.way, "result": vars(result) | plain})
    return result


def _known(task: PartTask) -> PartResult | None:
    """What a task has come to that was done before, as when its driver ended meanwhile."""
    path = task.file("done")
    if task.key is None or not path.is_file():
        return None
    try:
        state = read_state(path)
        if state["way"] != task.way:
            return None
        known: dict[str, Any] = state["result"]
        LearnerFiles(known["files"]).check()
    except DamagedError:
        return None  # it is trained again
    read = (*task.plans, *task.harvest)
    rungs = tuple(Rung.of(step, texts, read) for step, texts in known["rungs"])
    return PartResult(**known | {"rungs": rungs, "blocks": Fraction(known["blocks"])})


def _held(station: Station, task: PartTask) -> dict[int, Learner]:
    """The learners that the station has kept, if they are these; it keeps them no longer."""
    cohort, step, learners = station.kept.pop("learners", ("", 0, {}))
    return learners if (cohort, step) == (task.cohort, task.start) else {}
