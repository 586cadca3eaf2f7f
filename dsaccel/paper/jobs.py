"""The independent trainings of the paper's networks, as jobs that any worker can do."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from dsaccel.config.study import RunConfig
from dsaccel.families import MODES, Mode
from dsaccel.files import atomic_write, make_folder, remove_file, write_json
from dsaccel.nn.units import Unit
from dsaccel.paper.hybrids import train_hybrids
from dsaccel.paper.kept import Trained, file_name, hybrids_path, layers_path
from dsaccel.paper.rows import Way
from dsaccel.paper.separability import measure
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.plan import Plan, joined
from dsaccel.spec.unit_names import head_names
from dsaccel.training.checkpoint import Checkpoints, remove_checkpoint
from dsaccel.training.cohort import Cohort
from dsaccel.training.device import running
from dsaccel.training.memory_limit import MemoryLimit
from dsaccel.training.station import Station
from dsaccel.training.workbench import Bench

Reached = tuple[int, Sequence[Hierarchy]]
"""An epoch, and the networks that have come to it."""


@dataclass(frozen=True)
class Job:
    """Networks that are trained together: rows that differ in their hierarchies alone."""

    config: RunConfig
    dataset: str
    mode: Way
    hierarchies: tuple[Hierarchy, ...]
    images: tuple[str, str]
    """The protocol, and a hash of what is trained on and read."""
    measured_epochs: tuple[int, ...]
    """The epochs after which the layers of every network are measured."""
    has_hybrids: bool
    """Whether every network is frozen stage by stage, and the rest trained anew."""
    folder: Path
    """The folder of the networks' files."""

    def path(self, hierarchy: Hierarchy) -> Path:
        """The file of a network."""
        return self.folder / file_name(self.config, hierarchy, self.mode, self.images)

    def files(self, hierarchy: Hierarchy) -> list[Path]:
        """All that is kept of a network; its own file is written last."""
        path = self.path(hierarchy)
        beside = [layers_path(path, epoch) for epoch in self.measured_epochs]
        return [*beside, *([hybrids_path(path)] if self.has_hybrids else []), path]

    def is_done(self, hierarchy: Hierarchy) -> bool:
        return all(file.is_file() for file in self.files(hierarchy))

    @property
    def left(self) -> tuple[Hierarchy, ...]:
        """The networks that are not trained yet."""
        return tuple(h for h in self.hierarchies if not self.is_done(h))

    def take(self, other: "Job") -> None:
        """Move the files of the same job, done in another folder, to this one."""
        if other.folder == self.folder:
            return
        make_folder(self.folder)
        for file in (file for h in self.hierarchies for file in other.files(h)):
            with atomic_write(self.folder / file.name) as temporary:
                shutil.copyfile(file, temporary)
            remove_file(file)


def train_job(station: Station, job: Job) -> None:
    """Do a job at a worker, which has the images of its data set."""
    assert station.bench is not None
    config = job.config.model_copy(update={"runtime": station.bench.config.runtime})
    for _ in training(Bench.load(config, source=station.bench.data.source), job):
        pass


def training(bench: Bench[RunConfig], job: Job) -> Iterator[Reached]:
    """Train the networks that are left, in parts that fit into memory.

    Raises:
        NoMemoryError: if one network alone needs more memory than there is.
    """
    plans = {h: _plan(bench, job, h) for h in job.hierarchies}
    memory = bench.memory_limit()
    memory.check(plans, bench.config.training)
    with running(bench.config.runtime):
        yield from memory.retry(lambda: _train_parts(bench, job, plans, memory))


def _train_parts(
    bench: Bench[RunConfig], job: Job, plans: dict[Hierarchy, Plan], memory: MemoryLimit
) -> Iterator[Reached]:
    make_folder(job.folder)
    training, data = job.config.training, bench.data
    left = {h: plans[h] for h in job.left}
    for part in memory.parts(left, training):
        how = {"seed": data.seed, "device": bench.device, "curves": part}
        cohort = memory.cohort({h: left[h] for h in part}, training, data, **how)
        checkpoint = job.path(part[0]).with_suffix(".pt")
        Checkpoints(checkpoint, job.images[1], cohort)
        for rung in cohort.rungs():
            # a rung that is yielded again was measured before, and the weights are later ones
            if rung.step in job.measured_epochs:
                for h in part:
                    if not (path := layers_path(job.path(h), rung.step)).is_file():
                        write_json(path, asdict(measure(units_of(cohort, h), data)), None)
            yield rung.step, part
        for h in part:
            if job.has_hybrids and not hybrids_path(job.path(h)).is_file():
                yield from _train_hybrids(bench, job, h, units_of(cohort, h))
        for h in part:
            accuracies, names = cohort.head_accuracies(h), list(head_names(left[h]))
            points = [point.values() for read in cohort.reads(h) for point in read.points]
            trained = Trained(names, accuracies, data.num_val, cohort.time_s[h], points)
            write_json(job.path(h), asdict(trained), None)
        remove_checkpoint(checkpoint)


def _train_hybrids(
    bench: Bench[RunConfig], job: Job, hierarchy: Hierarchy, units: Sequence[Unit]
) -> Iterator[Reached]:
    path, checkpoints = hybrids_path(job.path(hierarchy)), list[Path]()

    def keep(cohort: Cohort, name: str) -> None:
        checkpoints.append(path.with_suffix(f".{name}.pt"))
        Checkpoints(checkpoints[-1], f"{job.images[1]} {path.name}", cohort)

    plans: dict[Mode, Plan] = {mode: bench.plan(hierarchy, mode) for mode in MODES}
    training, data = bench.config.training, bench.data
    found = yield from train_hybrids(
        units, plans, training, data, seed=data.seed, device=bench.device, keep=keep
    )
    write_json(path, [asdict(each) for each in found], None)
    for checkpoint in checkpoints:
        remove_checkpoint(checkpoint)


def units_of(cohort: Cohort, hierarchy: Hierarchy) -> list[Unit]:
    """A network of a cohort, from its first unit to its last."""
    path = cohort.trie.path(hierarchy)
    return [unit for node in path for unit in cohort.learners[node].units]


def _plan(bench: Bench[RunConfig], job: Job, hierarchy: Hierarchy) -> Plan:
    if job.mode == "supervised":
        return joined(bench.plan(hierarchy))
    return bench.plan(hierarchy, job.mode)
