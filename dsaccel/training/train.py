"""Train one network, layer-wise or by back-propagation: a cohort of one."""

from dataclasses import dataclass

from dsaccel.config import RunConfig
from dsaccel.data.batches import load_data
from dsaccel.hierarchy import parse_hierarchy
from dsaccel.networks.families import build_plan, check_hierarchy
from dsaccel.networks.nn import Unit
from dsaccel.training.cohort import Cohort
from dsaccel.training.runtime import peak_memory_bytes, resolve_runtime, start_runtime


@dataclass(frozen=True)
class TrainResult:
    hierarchy: str
    mode: str
    val_accuracy: float
    """Of the output layer after the last epoch, 0..1."""
    head_accuracies: list[list[float]]
    """Rungs (epochs; stages if sequential) x heads in order of depth, the output layer last; at a
    stage's end the heads trained so far."""
    num_parameters: int
    """Local heads not counted."""
    time_s: float
    peak_memory_bytes: int


class Training:
    """One network, ready to be trained."""

    def __init__(self, run: RunConfig, *, download: bool = False) -> None:
        """Read the data and build the network.

        Raises:
            ConfigError: settings or data that cannot be used.
        """
        hierarchy = parse_hierarchy(run.hierarchy)
        check_hierarchy(run.family, hierarchy)
        runtime = resolve_runtime(run.runtime)
        self.device = start_runtime(runtime)
        self.data = data = load_data(
            run.data,
            seed=run.seed,
            batch_size=run.training.batch_size,
            device=self.device,
            download=download,
        )
        self.run = run.model_copy(update={"data": data.resolved, "runtime": runtime})
        self.plan = build_plan(
            run.family,
            hierarchy,
            run.network,
            channels=data.channels,
            side=data.side,
            num_classes=data.num_classes,
            mode=run.mode,
            output_weight=run.training.output_weight,
        )
        self.cohort = Cohort(
            {run.hierarchy: self.plan}, run.training, data, seed=run.seed, device=self.device
        )

    @property
    def units(self) -> list[Unit]:
        """The network, from the first unit to the output layer."""
        nodes = self.cohort.trie.path(self.run.hierarchy)
        return [unit for node in nodes for unit in self.cohort.learners[node].units]

    def result(self) -> TrainResult:
        """What the network has reached after `cohort.rungs()` has been run through."""
        name = self.run.hierarchy
        return TrainResult(
            name,
            self.run.mode,
            self.cohort.history[-1].output(name),
            self.cohort.head_accuracies(name),
            self.plan.num_parameters,
            self.cohort.time_s[name],
            peak_memory_bytes(self.device),
        )
