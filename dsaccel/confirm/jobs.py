"""The independent trainings of a confirmation, as jobs that any worker can do."""

import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

from dsaccel.confirm.entrants import Entrants, GlobalSettings, save_networks
from dsaccel.confirm.result import Entry
from dsaccel.data.batches import Data
from dsaccel.families import Mode
from dsaccel.files import make_folder
from dsaccel.spec.rung import Rung
from dsaccel.study.resume import study_fingerprint
from dsaccel.training.checkpoint import Checkpoints, remove_checkpoint
from dsaccel.training.cohort import Cohort
from dsaccel.training.memory_limit import MemoryLimit
from dsaccel.training.station import Station
from dsaccel.training.team import Team


@dataclass(frozen=True)
class Job:
    """Networks that are trained together: layer-wise a seed's trie, globally one network."""

    seed: int
    mode: Mode
    entries: tuple[Entry, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(entry.name for entry in self.entries)

    @property
    def key(self) -> str:
        """Names its files."""
        names = sha256(repr(self.names).encode()).hexdigest()[:8]
        return f"{self.seed}-{self.mode}-{names}"

    def checkpoint(self, folder: Path) -> Path:
        """The file of its checkpoint, to be removed when what it reached is recorded."""
        return folder / f"checkpoint-{self.key}.pt"


@dataclass(frozen=True)
class Task:
    """A job with all that decides it."""

    job: Job
    own: GlobalSettings
    folder: Path
    """The folder of weights and checkpoints."""


@dataclass(frozen=True)
class Trained:
    """What networks have reached; their weights, if a test split is to be read, lie in a file."""

    job: Job
    val_accuracies: tuple[float, ...]
    heads: tuple[tuple[float, ...], ...]
    """The accuracies of all heads of each, in order of depth."""
    times_s: tuple[float, ...]
    """Each one's share of the training time, as a trial's."""
    file: str | None
    time_s: float


@dataclass(frozen=True)
class Step:
    """Where a job stands: a rung of its last one."""

    step: int
    num_steps: int
    names: tuple[str, ...]


@dataclass(frozen=True)
class ConfirmProgress:
    """Where a confirmation stands."""

    phase: Literal["tuning", "local", "global", "test"]
    job: int
    """How many were begun so far; of workers, how many are done."""
    num_jobs: int
    """The jobs of this phase: settings to try; networks or tries to train; tries to read."""
    step: int
    num_steps: int
    names: tuple[str, ...]
    """What is being trained or read."""
    place: int = 0
    """The place of the job among those to train, 0-based."""
    time_left_s: float | None = None
    """None: not known yet, or nothing is left to train."""


Training = Generator[Step | Trained]
Tried = tuple[Entry, GlobalSettings, int, Path]
"""A network, settings of back-propagation, the seed of the split, the folder of checkpoints."""


def train_job(station: Station, task: Task) -> list[Trained]:
    """Do a job to its end."""
    reached: list[Trained] = []
    for step in training(entrants_of(station), task):
        if isinstance(step, Trained):
            reached.append(step)
    return reached


def try_all(team: Team, tried: Sequence[Tried]) -> Iterator[float]:
    """The validation accuracy that back-propagation reaches with each of some settings.

    Raises:
        NoMemoryError: if the network needs more than there is.
    """
    for one, value in zip(tried, team.map(_try_settings, tried), strict=True):
        yield value
        remove_checkpoint(_checkpoint_of(one))  # it is recorded


def _try_settings(station: Station, tried: Tried) -> float:
    entry, own, seed, _ = tried
    entrants = entrants_of(station)
    data = entrants.load_data(seed)
    asked = ([entry], "global", data, own)
    memory = entrants.memory_limit(*asked)

    def train() -> Iterator[Rung]:
        cohort = entrants.cohort(*asked, memory)
        _keep(cohort, _checkpoint_of(tried), entrants, data)
        yield from cohort.rungs()

    *_, last = memory.retry(train)
    return last.objective(entry.key)


def _checkpoint_of(tried: Tried) -> Path:
    _, own, _, folder = tried
    return folder / f"checkpoint-{sha256(repr(own).encode()).hexdigest()[:8]}.pt"


def _keep(cohort: Cohort, checkpoint: Path, entrants: Entrants, data: Data) -> None:
    """Have networks go on from a checkpoint, and save themselves there."""
    make_folder(checkpoint.parent)
    Checkpoints(checkpoint, study_fingerprint(entrants.config, data.fingerprint), cohort)


def entrants_of(station: Station) -> Entrants:
    """The entrants of a station's bench, made once."""
    if "entrants" not in station.kept:
        assert station.bench is not None
        station.kept["entrants"] = Entrants(station.bench)
    return station.kept["entrants"]


def training(entrants: Entrants, task: Task) -> Training:
    """Train the networks of a job for the full schedule, in parts if they do not fit into memory
    together; yields each step, and what a part has reached.

    Raises:
        NoMemoryError: if one of them needs more on its own.
    """
    job, own = task.job, task.own
    data = entrants.load_data(job.seed)
    memory = entrants.memory_limit(job.entries, job.mode, data, own)
    done: set[str] = set()

    def train_what_is_left() -> Training:
        left = [entry for entry in job.entries if entry.name not in done]
        for entries in entrants.parts(left, job.mode, own, memory):
            for step in _together(entrants, task, entries, data, memory):
                if isinstance(step, Trained):
                    done.update(step.job.names)
                yield step

    yield from memory.retry(train_what_is_left)


def _together(
    entrants: Entrants, task: Task, entries: Sequence[Entry], data: Data, memory: MemoryLimit
) -> Training:
    """Networks that fit into memory together."""
    started = time.perf_counter()
    job = Job(task.job.seed, task.job.mode, tuple(entries))
    cohort = entrants.cohort(entries, job.mode, data, task.own, memory)
    _keep(cohort, job.checkpoint(task.folder), entrants, data)
    for rung in cohort.rungs():
        if rung.step == cohort.num_steps:
            file = f"{job.key}.pt" if entrants.has_test else None
            if file is not None:
                save_networks(task.folder / file, cohort)
            values = tuple(rung.objective(entry.key) for entry in entries)
            heads = tuple(rung.accuracies[entry.key] for entry in entries)
            times = tuple(cohort.time_s[entry.key] for entry in entries)
            yield Trained(job, values, heads, times, file, time.perf_counter() - started)
        yield Step(rung.step, cohort.num_steps, job.names)
