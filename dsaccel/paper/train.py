"""Train the paper's networks, each from several seeds, layer-wise and by back-propagation.

A network that was trained is kept in a file of its own, which is named by all that decides it. So
tables that share a network share its training, and what was cut off goes on where it stood.
"""

import json
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import groupby
from pathlib import Path

import torch

from dsaccel.config.study import RunConfig, RuntimeConfig
from dsaccel.data.images import fingerprint
from dsaccel.data.source import DataSource
from dsaccel.families import MODES, Mode
from dsaccel.files import make_folder, write_json
from dsaccel.nn.units import Unit
from dsaccel.paper.hybrids import Hybrid, train_hybrids
from dsaccel.paper.kept import Trained, file_name, hybrids_path, layers_path
from dsaccel.paper.rows import NUM_CLASSES, WAYS, Row, Way
from dsaccel.paper.scale import Held, Protocol, Scale
from dsaccel.paper.separability import Measured, measure
from dsaccel.planner import Planner
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.plan import Plan, joined
from dsaccel.spec.unit_names import head_names, layer_names
from dsaccel.study.folder import StudyDir
from dsaccel.study.lease import folder_lock
from dsaccel.training.checkpoint import Checkpoints, remove_checkpoint
from dsaccel.training.cohort import Cohort
from dsaccel.training.device import resolve_runtime, running
from dsaccel.training.memory_limit import MemoryLimit
from dsaccel.training.workbench import Bench, read_data


@dataclass(frozen=True)
class Job:
    """Networks that are trained together: rows that differ in their hierarchies alone."""

    config: RunConfig
    dataset: str
    mode: Way
    hierarchies: tuple[Hierarchy, ...]


@dataclass(frozen=True)
class JobProgress:
    """Where the training stands."""

    number: int
    """The number of the job, 1-based."""
    num_jobs: int
    mode: Way
    seed: int
    epoch: int
    num_epochs: int
    names: tuple[str, ...]
    """What is being trained."""


class Reproduction:
    """Rows of the paper, and what their networks reached here."""

    def __init__(
        self,
        rows: Sequence[Row],
        scale: Scale,
        sources: Mapping[str, Held],
        *,
        directory: StudyDir,
        num_seeds: int,
        runtime: RuntimeConfig | None = None,
        measured_epochs: Collection[int] = (),
        hybrids: bool = False,
    ) -> None:
        """
        Args:
            rows: what is trained.
            scale: how large.
            sources: the images, by the rows' data sets; see `open_sources`.
            directory: where the trained networks are kept.
            num_seeds: seeds of each network, 1, 2 and so on.
            runtime: device, threads and memory.
            measured_epochs: after which the layers of every network are measured.
            hybrids: whether every network is frozen stage by stage, and the rest trained anew.

        Raises:
            ConfigError: if the device cannot be used.
        """
        self.rows, self.scale, self.directory = list(rows), scale, directory
        self.seeds, self.measured_epochs = range(1, num_seeds + 1), sorted(measured_epochs)
        self.has_hybrids = hybrids
        self._sources, self._runtime = sources, resolve_runtime(runtime or RuntimeConfig())
        self._images = {dataset: _fingerprint(source) for dataset, source in sources.items()}

    @property
    def protocol(self) -> Protocol:
        """The protocol, which says what accuracies are measured on."""
        return next(iter(self._sources.values())).protocol

    @property
    def data_names(self) -> str:
        """The names of the data sets."""
        return ", ".join(dict.fromkeys(source.name for source in self._sources.values()))

    def jobs(self) -> list[Job]:
        """The jobs that are left, seed by seed: rows of equal settings share a trie layer-wise."""
        jobs: list[Job] = []
        for seed in self.seeds:
            for mode in WAYS:
                rows = [row for row in self.rows if mode in row.ways]
                left = [row for row in rows if not self._is_done(self._file(row, mode, seed))]
                together = partial(_settings, alone=mode != "local")
                for _, same in groupby(sorted(left, key=together), together):
                    group = list(same)
                    config, hierarchies = self._config(group[0], seed), (r.hierarchy for r in group)
                    unique = tuple(dict.fromkeys(hierarchies))
                    jobs.append(Job(config, group[0].dataset, mode, unique))
        return jobs

    @property
    def is_begun(self) -> bool:
        """Whether one network at least is trained."""
        return any(
            self._file(row, way, seed).is_file()
            for row in self.rows
            for way in row.ways
            for seed in self.seeds
        )

    def run(self) -> Generator[JobProgress]:
        """Train what is missing.

        Raises:
            NoMemoryError: if one network alone needs more memory than there is.
            StorageError: if the folder cannot be written, or another process trains in it.
        """
        with folder_lock(self.directory):
            jobs = self.jobs()
            for number, job in enumerate(jobs, 1):
                for epoch, hierarchies in self._train(job):
                    names = tuple(map(str, hierarchies))
                    seed, num_epochs = job.config.seed, self.scale.epochs
                    yield JobProgress(number, len(jobs), job.mode, seed, epoch, num_epochs, names)

    def trained(self, row: Row, mode: Way, seed: int) -> Trained | None:
        """The results of a row's network; None: it is not trained yet."""
        path = self._file(row, mode, seed)
        return Trained(**json.loads(path.read_text())) if path.is_file() else None

    def layer_names(self, row: Row) -> tuple[str, ...]:
        """The names of a network's layers, in order of depth."""
        return layer_names(self._planner(row)(row.hierarchy))

    def _planner(self, row: Row) -> Planner:
        config, source = self._config(row, self.seeds[0]), self._sources[row.dataset]
        resolved = read_data(config, torch.device("cpu"), source=source).resolved
        return Planner.of(config.model_copy(update={"data": resolved}), NUM_CLASSES[row.dataset])

    def measured(self, row: Row, mode: Mode, seed: int) -> dict[int, Measured]:
        """The layers of a row's network, by epoch, as far as they are measured."""
        path = self._file(row, mode, seed)
        files = {epoch: layers_path(path, epoch) for epoch in self.measured_epochs}
        return {
            epoch: Measured(**json.loads(file.read_text()))
            for epoch, file in files.items()
            if file.is_file()
        }

    def hybrids(self, row: Row, mode: Mode, seed: int) -> list[Hybrid]:
        """The results above the prefixes of a row's network; none: it is not trained yet."""
        path = hybrids_path(self._file(row, mode, seed))
        return [Hybrid(**each) for each in json.loads(path.read_text())] if path.is_file() else []

    def flops(self, row: Row) -> int:
        """Forward FLOPs an image of a row's network."""
        return self._planner(row)(row.hierarchy, "global").flops

    def _is_done(self, path: Path) -> bool:
        """Whether a network is trained, its layers are measured and its hybrids trained."""
        files = [path, *(layers_path(path, epoch) for epoch in self.measured_epochs)]
        files += [hybrids_path(path)] if self.has_hybrids else []
        return all(file.is_file() for file in files)

    def _file(self, row: Row, mode: Way, seed: int) -> Path:
        return self._path(self._config(row, seed), row.dataset, mode, row.hierarchy)

    def _train(self, job: Job) -> Iterator[tuple[int, Sequence[Hierarchy]]]:
        config = job.config
        bench = Bench.load(config, source=self._sources[job.dataset])
        plans = {h: _plan(bench, job, h) for h in job.hierarchies}
        memory = bench.memory_limit()
        memory.check(plans, config.training)
        with running(bench.config.runtime):
            yield from memory.retry(lambda: self._train_parts(job, bench, memory))

    def _train_parts(
        self, job: Job, bench: Bench[RunConfig], memory: MemoryLimit
    ) -> Iterator[tuple[int, Sequence[Hierarchy]]]:
        paths = {h: self._path(job.config, job.dataset, job.mode, h) for h in job.hierarchies}
        make_folder(self.directory.path / "networks")
        left = {h: _plan(bench, job, h) for h, path in paths.items() if not self._is_done(path)}
        training, data = job.config.training, bench.data
        checkpoint = self.directory.checkpoint
        for part in memory.parts(left, training):
            plans = {h: left[h] for h in part}
            how = {"seed": data.seed, "device": bench.device, "curves": part}
            cohort = memory.cohort(plans, training, data, **how)
            Checkpoints(checkpoint, self._images[job.dataset], cohort)
            for rung in cohort.rungs():
                # at a rung that is yielded again the weights are later ones
                if rung.step in self.measured_epochs and cohort.at_rest:
                    for h in part:
                        found = measure(units_of(cohort, h), data)
                        write_json(layers_path(paths[h], rung.step), asdict(found), None)
                yield rung.step, part
            if self.has_hybrids:
                for h in part:
                    yield from self._train_hybrids(job, h, bench, units_of(cohort, h))
            for h, plan in plans.items():
                accuracies, names = cohort.head_accuracies(h), list(head_names(plan))
                points = [point.values() for read in cohort.reads(h) for point in read.points]
                trained = Trained(names, accuracies, data.num_val, cohort.time_s[h], points)
                write_json(paths[h], asdict(trained), None)
            remove_checkpoint(checkpoint)

    def _train_hybrids(
        self, job: Job, hierarchy: Hierarchy, bench: Bench[RunConfig], units: Sequence[Unit]
    ) -> Iterator[tuple[int, Sequence[Hierarchy]]]:
        path = hybrids_path(self._path(job.config, job.dataset, job.mode, hierarchy))
        checkpoints: list[Path] = []

        def keep(cohort: Cohort, name: str) -> None:
            checkpoints.append(path.with_suffix(f".{name}.pt"))
            Checkpoints(checkpoints[-1], f"{self._images[job.dataset]} {path.name}", cohort)

        plans: dict[Mode, Plan] = {mode: bench.plan(hierarchy, mode) for mode in MODES}
        training, data = bench.config.training, bench.data
        found = yield from train_hybrids(
            units, plans, training, data, seed=data.seed, device=bench.device, keep=keep
        )
        write_json(path, [asdict(each) for each in found], None)
        for checkpoint in checkpoints:
            remove_checkpoint(checkpoint)

    def _config(self, row: Row, seed: int) -> RunConfig:
        return self.scale.run_config(row, seed, self._sources[row.dataset].name, self._runtime)

    def _path(self, config: RunConfig, dataset: str, mode: Way, hierarchy: Hierarchy) -> Path:
        """The file of a network: equal for rows that train the same one."""
        images = self.protocol, self._images[dataset]
        return self.directory.path / "networks" / file_name(config, hierarchy, mode, images)


def units_of(cohort: Cohort, hierarchy: Hierarchy) -> list[Unit]:
    """A network of a cohort, from its first unit to its last."""
    path = cohort.trie.path(hierarchy)
    return [unit for node in path for unit in cohort.learners[node].units]


def _plan(bench: Bench[RunConfig], job: Job, hierarchy: Hierarchy) -> Plan:
    if job.mode == "supervised":
        return joined(bench.plan(hierarchy))
    return bench.plan(hierarchy, job.mode)


def _fingerprint(source: DataSource) -> str:
    """A hash of the images that are trained on and read."""
    splits = (source.read(split) for split in ("train", "val"))
    return fingerprint(*(images for images in splits if images is not None))


def _settings(row: Row, *, alone: bool) -> tuple[object, ...]:
    """Equal for rows that are trained together."""
    own = (row.hierarchy.blocks,) if alone else ()
    network = repr(row.network)
    return (row.dataset, row.family, row.learning_rate, row.dropout, network, *own)
