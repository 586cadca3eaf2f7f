"""Hierarchies by global back-propagation, each once, beside their layer-wise training."""

from collections.abc import Iterator
from typing import Any

from optuna import Study

from dsaccel.errors import NoMemoryError
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.study.rows import best_trial
from dsaccel.training.cohort import Cohort
from dsaccel.training.memory_limit import MemoryLimit
from dsaccel.training.workbench import Workbench


class Baselines:
    """What back-propagation reaches in a study's place; the study keeps it.

    Args:
        study: has, or will have, the accuracies.
        bench: the study's.
    """

    def __init__(self, study: Study, bench: Workbench) -> None:
        self._study, self._bench = study, bench

    def reached(self, hierarchy: Hierarchy) -> dict[str, Any] | None:
        """Accuracy, parameters and time of a hierarchy; None: it is not trained."""
        return self._study.user_attrs.get("global", {}).get(str(hierarchy))

    def due(self) -> Hierarchy | None:
        """The winner, if it is to be trained and is not yet."""
        best = best_trial(self._study)
        if best is None or not self._bench.config.budget.baseline:
            return None
        winner = best.user_attrs["hierarchy"]
        baseline = self._study.user_attrs.get("baseline", {})
        return None if baseline.get("hierarchy") == winner else Hierarchy.parse(winner)

    def train(self, hierarchy: Hierarchy, memory: MemoryLimit) -> Iterator[Cohort]:
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
            {hierarchy: plan}, training, bench.data, seed=bench.config.seed, device=bench.device
        )
        for rung in cohort.rungs():
            if rung.step == cohort.num_steps:
                reached = {
                    "val_accuracy": rung.output(hierarchy),
                    "num_parameters": plan.num_parameters,
                    "time_s": cohort.time_s[hierarchy],
                }
                others = self._study.user_attrs.get("global", {})
                self._study.set_user_attr("global", {**others, str(hierarchy): reached})
            yield cohort

    def train_winner(self, winner: Hierarchy, memory: MemoryLimit) -> Iterator[Cohort]:
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
        self._study.set_user_attr(
            "baseline", {"hierarchy": str(winner), **(self.reached(winner) or {})}
        )
