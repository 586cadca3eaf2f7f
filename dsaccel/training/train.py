"""Train one network, layer-wise or by back-propagation: a cohort of one."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from dsaccel.config.study import RunConfig
from dsaccel.data.load import look_at_test
from dsaccel.errors import NoResultError
from dsaccel.families import check_hierarchy
from dsaccel.nn.initial_weights import Taken, take_weights
from dsaccel.nn.units import Unit
from dsaccel.nn.weights import ImageFacts, read_config, read_facts
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.rung import Exit, Point, Rung
from dsaccel.spec.unit_names import head_names
from dsaccel.training.checkpoint import Checkpoints
from dsaccel.training.cohort import Cohort
from dsaccel.training.device import running
from dsaccel.training.device_memory import peak_memory_bytes
from dsaccel.training.workbench import Bench


@dataclass(frozen=True)
class TrainResult:
    hierarchy: str
    mode: str
    val_accuracy: float
    """The accuracy of the network's exit after the last epoch, 0..1."""
    head_accuracies: list[list[float]]
    """Rungs x heads in order of depth, an output layer last; after a stage, those trained."""
    head_names: tuple[str, ...]
    """The names of all heads in that order: `stem`, `s2.1 conv 2`, `output`."""
    points: tuple[Point, ...]
    """The points of its curves, if `runtime.curves` asks for them."""
    exits: Mapping[Exit, float]
    """The accuracy of each exit after the last epoch."""
    num_parameters: int
    """Local heads not counted."""
    time_s: float
    peak_memory_bytes: int


class Training:
    """One network, ready to be trained."""

    def __init__(self, run: RunConfig, *, download: bool = False) -> None:
        """Read the data and plan the network.

        Raises:
            ConfigError: settings or data that cannot be used.
        """
        self.hierarchy = Hierarchy.parse(run.hierarchy)
        check_hierarchy(run.family, self.hierarchy)
        bench = Bench.load(run, download=download)
        look_at_test(bench.data)
        self.run, self.data, self.device = bench.config, bench.data, bench.device
        self.notes = bench.notes
        self.plan = bench.plan(self.hierarchy, run.mode)
        self._memory = bench.memory_limit()
        self._begun_with: Taken | None = None
        self._init: Path | None = None
        self._is_torn = False
        """Whether an error has ended the training, perhaps in the middle of a batch."""

    @cached_property
    def cohort(self) -> Cohort:
        """The network with its learners; made when it is first asked for."""
        run, plans = self.run, {self.hierarchy: self.plan}
        return self._memory.cohort(
            plans,
            run.training,
            self.data,
            seed=run.seed,
            device=self.device,
            curves=plans if run.runtime.curves else (),
        )

    def begin_with(self, path: Path) -> Taken:
        """Take trained weights in place of drawn ones, before `rungs()`.

        Raises:
            ConfigError: if the file cannot be read, or its body is another network's.
            NoMemoryError: as `rungs`.
        """
        self._check_memory()
        self._init = path
        self._begun_with = take_weights(path, self.units, self.run, self.data.class_names)
        return self._begun_with

    def may_know_held_out(self, path: Path) -> bool:
        """Whether these weights may have seen images that are held out now."""
        facts = read_facts(path)
        is_other = facts.fingerprint != self.data.fingerprint
        began_so = bool((read_config(path).result or {}).get("val_may_be_known"))
        return facts.class_names == self.data.class_names and (is_other or began_so)

    def rungs(self, checkpoint: Path | None = None) -> Iterator[Rung]:
        """Train to the end.

        Args:
            checkpoint: where the training is saved now and then, and goes on from.

        Raises:
            NoMemoryError: if the network needs more than there is, if possible before training.
        """
        self._check_memory()
        with running(self.run.runtime):
            yield from self._memory.retry(lambda: self._attempt(checkpoint))

    def _attempt(self, checkpoint: Path | None) -> Iterator[Rung]:
        """Train on; after an error from where it was saved, for a batch may be half learned."""
        told = 0
        if self._is_torn:
            told = self.cohort.step
            del self.cohort
            if self._init is not None:
                take_weights(self._init, self.units, self.run, self.data.class_names)
            self._is_torn = False
        if checkpoint is not None:
            Checkpoints(checkpoint, self._fingerprint, self.cohort)
        try:
            for rung in self.cohort.rungs():
                if rung.step > told:
                    yield rung
        except (RuntimeError, MemoryError):
            self._is_torn = True
            raise

    @property
    def _fingerprint(self) -> str:
        """A hash of what decides the training beside the network."""
        run, begun = self.run, self._begun_with
        unlike = {"memory_mib": None, "keep": 1, "all_heads": False, "curves": False}
        runtime = run.runtime.model_copy(update=unlike)
        return repr((run.data, runtime, self.data.fingerprint, begun and begun.weights))

    @property
    def facts(self) -> ImageFacts:
        """The facts about its images that the network needs wherever it is used."""
        data = self.data
        return ImageFacts(data.mean, data.std, data.class_names, data.fingerprint)

    @property
    def units(self) -> list[Unit]:
        """The network, from the first unit to the output layer."""
        nodes = self.cohort.trie.path(self.hierarchy)
        return [unit for node in nodes for unit in self.cohort.learners[node].units]

    def result(self) -> TrainResult:
        """What the network has reached after `rungs()` has been run through.

        Raises:
            NoResultError: if its weights are no longer finite.
        """
        if diverged := self.cohort.diverged(self.hierarchy):
            raise NoResultError(
                f"the weights of {self.hierarchy} must stay finite, but its training diverged in "
                f"unit {diverged.unit} of {diverged.num_units}; set a smaller "
                "training.learning_rate"
            )
        return TrainResult(
            self.run.hierarchy,
            self.run.mode,
            self.cohort.history[-1].objective(self.hierarchy),
            self.cohort.head_accuracies(self.hierarchy),
            head_names(self.plan),
            tuple(point for read in self.cohort.reads(self.hierarchy) for point in read.points),
            self.cohort.history[-1].read[self.hierarchy].exits,
            self.plan.num_parameters,
            self.cohort.time_s[self.hierarchy],
            peak_memory_bytes(self.device),
        )

    def _check_memory(self) -> None:
        self._memory.check({self.hierarchy: self.plan}, self.run.training)
