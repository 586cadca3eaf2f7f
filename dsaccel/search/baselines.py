"""Hierarchies by global back-propagation, each once, beside their layer-wise training."""

from collections.abc import Iterator

from optuna import Study

from dsaccel.errors import NoMemoryError
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.study.folder import StudyDir
from dsaccel.study.heads import write_global
from dsaccel.study.record import Baseline, StudyRecord
from dsaccel.study.resume import study_fingerprint
from dsaccel.study.rows import best_trial
from dsaccel.study.writing import write_baseline, write_winner
from dsaccel.training.checkpoint import Checkpoints, remove_checkpoint
from dsaccel.training.memory_limit import MemoryLimit
from dsaccel.training.run import Run
from dsaccel.training.workbench import Workbench


class Baselines:
    """What back-propagation reaches in a study's place; the study keeps it.

    Args:
        study: has, or will have, the accuracies.
        bench: the study's.
        directory: where their curves are kept, and training goes on from its checkpoint.
    """

    def __init__(self, study: Study, bench: Workbench, directory: StudyDir) -> None:
        self._study, self._bench, self._folder = study, bench, directory.heads
        self._checkpoint = directory.baseline_checkpoint

    def reached(self, hierarchy: Hierarchy) -> Baseline | None:
        """What a hierarchy has reached; None: it is not trained."""
        return StudyRecord.read(self._study).trained_globally(hierarchy)

    def due(self) -> Hierarchy | None:
        """The winner, if it is to be trained and is not yet."""
        record = StudyRecord.read(self._study)
        best = best_trial(record)
        if best is None or not self._bench.config.budget.baseline:
            return None
        is_trained = record.baseline is not None and record.baseline.hierarchy == best.name
        return None if is_trained else best.hierarchy

    def train(self, hierarchy: Hierarchy, memory: MemoryLimit) -> Iterator[Run]:
        """Train a hierarchy unless it is trained; yields after each epoch.

        Raises:
            NoMemoryError: if it does not fit.
        """
        if self.reached(hierarchy):
            return
        bench = self._bench
        plan = bench.plan(hierarchy, mode="global")
        # with one unit the schedules are the same, and this one shows each epoch
        training = bench.config.training.model_copy(update={"schedule": "simultaneous"})
        memory.check({hierarchy: plan}, training)
        cohort = memory.cohort(
            {hierarchy: plan},
            training,
            bench.data,
            seed=bench.config.seed,
            device=bench.device,
            curves=(hierarchy,),
        )
        fingerprint = study_fingerprint(bench.config, bench.data.fingerprint)
        Checkpoints(self._checkpoint, fingerprint, cohort)
        for rung in cohort.rungs():
            if rung.step == cohort.num_steps:
                points = [point for read in cohort.reads(hierarchy) for point in read.points]
                reached = {
                    "val_accuracy": rung.objective(hierarchy),
                    "num_parameters": plan.num_parameters,
                    "time_s": cohort.time_s[hierarchy],
                    **write_global(self._folder, hierarchy, points),
                }
                write_baseline(self._study, hierarchy, reached)
                remove_checkpoint(self._checkpoint)
            yield cohort

    def train_winner(self, winner: Hierarchy, memory: MemoryLimit) -> Iterator[Run]:
        """Train the winner as the study's baseline.

        Raises:
            NoMemoryError: if it does not fit; what the study has is kept.
        """
        try:
            yield from memory.retry(lambda: self.train(winner, memory))
        except NoMemoryError as error:
            raise NoMemoryError(
                f"{error}; all trials are done and kept: --set budget.baseline=false leaves the "
                "baseline out"
            ) from None
        write_winner(self._study, winner)
