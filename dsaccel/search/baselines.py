"""Hierarchies by global back-propagation, each once, beside their layer-wise training."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from optuna import Study

from dsaccel.errors import NoMemoryError
from dsaccel.search.measuring import rival_costs
from dsaccel.search.trainer import TeamTrainer
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.plan import Plan
from dsaccel.study.heads import write_global
from dsaccel.study.kept import Kept
from dsaccel.study.record import Baseline, StudyRecord
from dsaccel.study.rows import best_trial
from dsaccel.study.writing import write_baseline, write_winner
from dsaccel.training.checkpoint import remove_checkpoint
from dsaccel.training.cohort import Cohort
from dsaccel.training.workbench import Workbench


class Baselines:
    """Trains a study's hierarchies by back-propagation; the study keeps the results.

    Args:
        study: has, or will have, the accuracies.
        bench: the study's.
        folder: where their curves are kept.
        kept: where the winner's weights are.
    """

    def __init__(self, study: Study, bench: Workbench, folder: Path, kept: Kept) -> None:
        self._study, self._bench, self._folder, self._kept = study, bench, folder, kept

    def reached(self, hierarchy: Hierarchy) -> Baseline | None:
        """The result of a hierarchy; None: it is not trained."""
        return StudyRecord.read(self._study).trained_globally(hierarchy)

    def due(self) -> Hierarchy | None:
        """The winner, if it is to be trained and is not yet."""
        record = StudyRecord.read(self._study)
        best = best_trial(record)
        if best is None or not self._bench.config.budget.baseline:
            return None
        is_trained = record.baseline is not None and record.baseline.hierarchy == best.name
        return None if is_trained else best.hierarchy

    def train(self, hierarchies: Sequence[Hierarchy], trainer: TeamTrainer) -> Iterator[Cohort]:
        """Train those that are not trained, together; yields after each epoch.

        Raises:
            NoMemoryError: if one does not fit.
        """
        plans = {h: self._bench.plan(h, mode="global") for h in hierarchies if not self.reached(h)}
        if not plans:
            return
        # with one unit the schedules are the same, and this one shows each epoch
        training = self._bench.config.training.model_copy(update={"schedule": "simultaneous"})
        trainer.memory.check(plans, training)
        run = trainer.cohort(plans, training, curves=plans)
        trainer.keep(run, trainer.directory.baseline_checkpoint)
        for rung in run.rungs():
            if rung.step == run.num_steps:
                for h, plan in plans.items():
                    self._keep(run, h, plan)
                remove_checkpoint(trainer.directory.baseline_checkpoint)
            yield run

    def train_winner(self, winner: Hierarchy, trainer: TeamTrainer) -> Iterator[Cohort]:
        """Train the winner as the study's baseline.

        Raises:
            NoMemoryError: if it does not fit; what the study has is kept.
        """
        try:
            yield from trainer.memory.retry(lambda: self.train([winner], trainer))
        except NoMemoryError as error:
            raise NoMemoryError(
                f"{error}; all trials are done and kept: --set budget.baseline=false leaves the "
                "baseline out"
            ) from None
        write_winner(self._study, winner)

    def _keep(self, run: Cohort, hierarchy: Hierarchy, plan: Plan) -> None:
        """Record what a network has reached, and its curves."""
        points = [point for read in run.reads(hierarchy) for point in read.points]
        reached = {
            "val_accuracy": run.history[-1].objective(hierarchy),
            "num_parameters": plan.num_parameters,
            "time_s": run.time_s[hierarchy],
            **write_global(self._folder, hierarchy, points),
        }
        if names := self._bench.config.budget.against:
            reached["costs"] = rival_costs(names, plan, self._bench)
        if hierarchy == self.due():
            self._kept.add_baseline(run, hierarchy, reached["val_accuracy"])
        write_baseline(self._study, hierarchy, reached)
