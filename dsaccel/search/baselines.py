"""Hierarchies by global back-propagation, each once, beside their layer-wise training."""

from collections.abc import Iterator
from typing import Any

from optuna import Study

from dsaccel.errors import NoMemoryError
from dsaccel.spec.hierarchy import parse_hierarchy
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

    def reached(self, name: str) -> dict[str, Any] | None:
        """Accuracy, parameters and time of a hierarchy; None: it is not trained."""
        return self._study.user_attrs.get("global", {}).get(name)

    def due(self) -> str | None:
        """The winner, if it is to be trained and is not yet."""
        best = best_trial(self._study)
        if best is None or not self._bench.config.budget.baseline:
            return None
        winner = best.user_attrs["hierarchy"]
        baseline = self._study.user_attrs.get("baseline", {})
        return None if baseline.get("hierarchy") == winner else winner

    def train(self, name: str, memory: MemoryLimit) -> Iterator[Cohort]:
        """Train a hierarchy unless it is trained; yields after each epoch.

        Raises:
            NoMemoryError: if it does not fit.
        """
        if self.reached(name):
            return
        bench = self._bench
        plan = bench.plan(parse_hierarchy(name), mode="global")
        # with one unit the schedules are the same, and this one shows each epoch
        training = bench.config.training.model_copy(update={"schedule": "simultaneous"})
        memory.check({name: plan}, training)
        cohort = memory.cohort(
            {name: plan}, training, bench.data, seed=bench.config.seed, device=bench.device
        )
        for rung in cohort.rungs():
            if rung.step == cohort.num_steps:
                reached = {
                    "val_accuracy": rung.output(name),
                    "num_parameters": plan.num_parameters,
                    "time_s": cohort.time_s[name],
                }
                others = self._study.user_attrs.get("global", {})
                self._study.set_user_attr("global", {**others, name: reached})
            yield cohort

    def train_winner(self, winner: str, memory: MemoryLimit) -> Iterator[Cohort]:
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
        self._study.set_user_attr("baseline", {"hierarchy": winner, **(self.reached(winner) or {})})
