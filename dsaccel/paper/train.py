"""Train the paper's networks, each from several seeds, layer-wise and by back-propagation.

A network that was trained is kept in a file of its own, which is named by all that decides it. So
tables that share a network share its training, and what was cut off goes on where it stood.
"""

import json
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path

import torch

from dsaccel.config.study import RunConfig, RuntimeConfig
from dsaccel.data.images import fingerprint
from dsaccel.data.source import DataSource
from dsaccel.executors import Executor
from dsaccel.families import Mode
from dsaccel.paper.hybrids import Hybrid
from dsaccel.paper.jobs import Job, train_job, training
from dsaccel.paper.kept import Trained, hybrids_path, layers_path
from dsaccel.paper.rows import NUM_CLASSES, WAYS, Row, Way
from dsaccel.paper.scale import Held, Protocol, Scale
from dsaccel.paper.separability import Measured
from dsaccel.parts import part_of
from dsaccel.planner import Planner
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.unit_names import layer_names
from dsaccel.study.folder import StudyDir
from dsaccel.study.lease import folder_lock
from dsaccel.training.device import resolve_runtime
from dsaccel.training.workbench import Bench, read_data


@dataclass(frozen=True)
class JobProgress:
    """Where the training stands."""

    number: int
    """How many jobs were begun so far; of workers, how many are done."""
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
                together = partial(_settings, alone=mode != "local")
                for _, same in groupby(sorted(rows, key=together), together):
                    job = self._job(list(same), mode, seed)
                    jobs += [replace(job, hierarchies=job.left)] if job.left else []
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
            jobs, begun = self.jobs(), set[int]()
            for number, epoch, hierarchies in self._train(jobs):
                begun.add(number)  # of workers, those that are done, in any order
                mode, seed = jobs[number].mode, jobs[number].config.seed
                names = tuple(map(str, hierarchies))
                yield JobProgress(
                    len(begun), len(jobs), mode, seed, epoch, self.scale.epochs, names
                )

    def _train(self, jobs: Sequence[Job]) -> Iterator[tuple[int, int, Sequence[Hierarchy]]]:
        """Do jobs here, or by the workers of each data set; yields a job's number (0-based), the
        epoch and who has come to it: of workers only the end of each job is known.
        """
        executor: Executor = part_of(self._runtime, "executor", self._runtime.chosen_executor)
        folder = executor.folder(self.directory.path / "networks")
        for dataset in dict.fromkeys(job.dataset for job in jobs):
            of_set = {n: job for n, job in enumerate(jobs) if job.dataset == dataset}
            first = next(iter(of_set.values()))
            with executor.team(self._bench(first), folder) as team:
                if team.is_here:
                    for number, job in of_set.items():
                        for reached in training(self._bench(job), job):
                            yield number, *reached
                    continue
                there = [replace(job, folder=folder) for job in of_set.values()]
                costs = [sum(h.num_blocks for h in job.hierarchies) for job in there]
                numbers = list(of_set)
                for place, _ in team.costliest_first(train_job, there, costs):
                    job = of_set[numbers[place]]
                    job.take(there[place])
                    yield numbers[place], self.scale.epochs, job.hierarchies

    def _bench(self, job: Job) -> Bench[RunConfig]:
        return Bench.load(job.config, source=self._sources[job.dataset])

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

    def _file(self, row: Row, mode: Way, seed: int) -> Path:
        return self._job([row], mode, seed).path(row.hierarchy)

    def _job(self, rows: Sequence[Row], mode: Way, seed: int) -> Job:
        """Rows that share all settings but their hierarchies."""
        dataset = rows[0].dataset
        return Job(
            self._config(rows[0], seed),
            dataset,
            mode,
            tuple(dict.fromkeys(row.hierarchy for row in rows)),
            (self.protocol, self._images[dataset]),
            tuple(self.measured_epochs),
            self.has_hybrids,
            self.directory.path / "networks",
        )

    def _config(self, row: Row, seed: int) -> RunConfig:
        return self.scale.run_config(row, seed, self._sources[row.dataset].name, self._runtime)


def _fingerprint(source: DataSource) -> str:
    """A hash of the images that are trained on and read."""
    splits = (source.read(split) for split in ("train", "val"))
    return fingerprint(*(images for images in splits if images is not None))


def _settings(row: Row, *, alone: bool) -> tuple[object, ...]:
    """Equal for rows that are trained together."""
    own = (row.hierarchy.blocks,) if alone else ()
    network = repr(row.network)
    return (row.dataset, row.family, row.learning_rate, row.dropout, network, *own)
