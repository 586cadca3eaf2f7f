"""Every unit learns on every batch: the schedule of the reference code."""

from collections.abc import Hashable, Iterable, Iterator, MutableMapping
from fractions import Fraction
from itertools import islice
from typing import TYPE_CHECKING, Literal

from dsaccel.config.study import PruningConfig, TrainingConfig
from dsaccel.errors import ConfigError
from dsaccel.parts import part_of
from dsaccel.schedules import Asked, Schedule
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.rung import BEGINNING, Rung, Safe
from dsaccel.spec.trie import Node, Trie

if TYPE_CHECKING:
    from dsaccel.training.cuda_graphs import Recorder
    from dsaccel.training.cuda_streams import Lanes
    from dsaccel.training.descent import Batches
    from dsaccel.training.learner import Learner


class Simultaneous(Schedule):
    """Every unit learns on every batch."""

    step_name = "epoch"
    all_at_once = True
    ranked_by = ("head", "output")

    cuda_graph: bool | Literal["auto"]
    cuda_lanes: int

    def num_steps(self, num_stages: int) -> int:
        return self.epochs

    def trained(self, node: Node, step: int) -> Fraction:
        return Fraction(step, self.epochs)

    def epochs_trained(self, nodes: Iterable[Node], step: int) -> int:
        return step

    def prefix(self, hierarchy: Hierarchy, step: int) -> Hashable:
        return hierarchy

    def stops(
        self, pruning: PruningConfig, training: TrainingConfig, num_stages: int, asked: Asked
    ) -> tuple[int, ...]:
        """Without `grace_epochs` the first rung is the epoch after the first learning-rate decay:
        before it the noise of a large learning rate hides which hierarchy is better. Each further
        one is at `reduction_factor` times the epochs. A pruner that is asked after
        every step is asked from the first epoch on, as it has a warm-up of its own.
        """
        if asked == "never":
            return ()
        if asked == "after every step":
            return tuple(range(pruning.grace_epochs or 1, self.epochs))
        first = pruning.grace_epochs or training.first_rung()
        if first is None:
            raise ConfigError(
                f"pruning.grace_epochs must be set with lr_schedule {training.lr_schedule}, which "
                "does not say after which epoch networks can be ranked; or set "
                "pruning.kind = 'none'"
            )
        rungs: list[int] = []
        fidelity = float(first)
        while round(fidelity) < self.epochs:
            rungs.append(round(fidelity))
            fidelity *= pruning.reduction_factor
        # with a factor near 1 neighbours round to the same epoch
        return tuple(dict.fromkeys(rungs))

    def rungs(
        self,
        trie: Trie,
        learners: "MutableMapping[Node, Learner]",
        data: "Batches",
        *,
        start: int,
        within: Safe,
    ) -> Iterator[Rung | Safe]:
        recorder, lanes = self._recording(trie, learners, data)
        return simultaneous(
            trie,
            learners,
            data,
            self.epochs,
            start=start,
            within=within,
            recorder=recorder,
            lanes=lanes,
        )

    def _recording(
        self, trie: Trie, learners: "MutableMapping[Node, Learner]", data: "Batches"
    ) -> "tuple[Recorder | None, Lanes | None]":
        """The recorder of a step on CUDA, and the streams on which its units learn."""
        from dsaccel.training.cuda_graphs import CudaGraphs
        from dsaccel.training.cuda_streams import ONE_LANE, CudaLanes
        from dsaccel.training.self_check import may_record

        learner = next(iter(learners.values()))
        device = learner.device
        records = part_of(learner.training, "optimizer").records
        if not (self.cuda_graph and device.type == "cuda" and records):
            return None, None
        lanes = CudaLanes(device, self.cuda_lanes) if self.cuda_lanes > 1 else None
        if self.cuda_graph == "auto":
            batches = islice(data.train_batches(1), 1)
            trial = CudaGraphs(device), lanes or ONE_LANE
            if not all(may_record(trie, learners, *trial, batch) for batch in batches):
                return None, None
        return CudaGraphs(device), lanes


def simultaneous(
    trie: Trie,
    learners: "MutableMapping[Node, Learner]",
    data: "Batches",
    epochs: int,
    *,
    start: int = 0,
    within: Safe = BEGINNING,
    recorder: "Recorder | None" = None,
    lanes: "Lanes | None" = None,
) -> Iterator[Rung | Safe]:
    """Train to the last epoch (1-based); a rung after each, as long as a network lives.

    Arguments are those of `Schedule.rungs`, a recorder of the step of all networks, which is
    recorded anew whenever some have retired, and the lanes in which units learn (None: one after
    another).
    """
    from dsaccel.training.cuda_graphs import RecordedStep
    from dsaccel.training.cuda_streams import ONE_LANE
    from dsaccel.training.descent import drop_retired, evaluate, learning

    step = None
    for epoch in range(start + 1, epochs + 1):
        if drop_retired(trie, learners):
            step = None
        if not learners:
            return
        if step is None:
            generators = (g for learner in learners.values() for g in learner.generators.values())
            step = learning(trie.roots, learners, lanes or ONE_LANE)
            if recorder is not None:
                step = RecordedStep(step, generators, recorder)
        behind = within.behind(epoch)
        for learner in learners.values():
            learner.start_epoch(epoch, goes_on=behind > 0)
        for batch, (x, y) in islice(enumerate(data.train_batches(epoch), 1), behind, None):
            step(x, y)
            yield Safe(epoch, batch)
        yield Rung(epoch, evaluate(trie, learners, data.val_batches()))
