"""A study as rows, best first.

Whatever a trial has not recorded (yet) is None, and so is an accuracy that is not finite: a study
can be read at any moment.
"""

import math
from dataclasses import dataclass
from typing import Literal

from optuna.trial import TrialState

from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.study.record import StudyRecord
from dsaccel.study.trial_record import TrialRecord

Kind = Literal[
    "complete", "harvested", "reference", "infeasible", "pruned", "running", "waiting", "failed"
]


@dataclass(frozen=True)
class Row:
    """What one trial has come to."""

    number: int
    hierarchy: str
    kind: Kind
    accuracy: float | None
    """Complete: of the study's exit after the last epoch; else what pruning ranks by, last."""
    step: int | None
    """The last rung that was read."""
    step_name: str
    """What rungs come after: an `epoch`, or a `stage` under the sequential schedule."""
    feasible: bool
    """May be called the best."""
    num_parameters: float | None
    flops: float | None
    shallow_scale: float | None
    time_s: float | None
    trial: TrialRecord

    @property
    def head_accuracies(self) -> list[list[float | None]]:
        return self.trial.head_accuracies

    @property
    def head_stages(self) -> tuple[int, ...]:
        return self.trial.head_stages

    @property
    def is_complete(self) -> bool:
        return self.kind in ("complete", "harvested", "reference", "infeasible")

    @property
    def has_output(self) -> bool:
        """Whether the last of `head_accuracies` is an output layer's."""
        if self.trial.exits:  # networks that are read at their heads have none
            return "layer" in self.trial.exits
        return self.is_complete or self.trial.has_output

    @property
    def first_head(self) -> float | None:
        """The accuracy of the first head, if the exit's is below it: depth does not help."""
        heads = self.head_accuracies[-1] if self.head_accuracies else []
        first = heads[0] if len(heads) > 1 else None
        is_below = self.accuracy is not None and first is not None and self.accuracy < first
        return first if self.is_complete and is_below else None

    @property
    def may_be_best(self) -> bool:
        is_best = self.is_complete and self.feasible and self.accuracy is not None
        return is_best and self.trial.diverged is None

    @property
    def state(self) -> str:
        """The state in words: `pruned at epoch 5`, `pruned at stage 2`."""
        if diverged := self.trial.diverged:
            at = "" if diverged.step is None else f" at {self.step_name} {diverged.step}"
            return f"diverged{at} in unit {diverged.unit} of {diverged.num_units}"
        if self.kind == "infeasible":
            return "outside the constraint"
        if self.kind == "reference" and not self.feasible:
            return "reference, outside the constraint"
        if self.trial.why is not None:
            return f"{self.kind}: {self.trial.why}"
        if self.step is None or self.is_complete:
            return self.kind
        return f"{self.kind} at {self.step_name} {self.step}"


def best_trial(study: StudyRecord) -> TrialRecord | None:
    """The feasible trial that completed with the highest finite value.

    Ties go to the smaller shallow scale, then to fewer parameters, then to the earlier trial.
    """
    best = best_row(read_rows(study))
    return best and best.trial


def find_trial(study: StudyRecord, hierarchy: Hierarchy) -> TrialRecord | None:
    """The finished trial of a hierarchy; without settings, the best of those that it was given."""
    for row in read_rows(study):
        trial = row.trial
        if trial.is_finished and hierarchy in (trial.hierarchy, trial.hierarchy.with_settings({})):
            return trial
    return None


def best_row(rows: list[Row]) -> Row | None:
    return next((row for row in rows if row.may_be_best), None)


def read_rows(study: StudyRecord) -> list[Row]:
    """All trials: the complete ones by accuracy, then the others by how far they came. Those that
    were cut off and begun again are left out.
    """
    rows = [_read_row(trial, study.step_name) for trial in study.all()]
    last = {row.hierarchy: row.number for row in rows}
    rows = [row for row in rows if row.kind != "failed" or row.number == last[row.hierarchy]]
    return sorted(rows, key=_rank)


def standard_error(study: StudyRecord, accuracy: float | None) -> float | None:
    """The standard error of an accuracy on the study's validation images; None if their number is
    unknown.
    """
    num_val = study.num_val
    if accuracy is None or num_val is None or num_val < 1 or not 0 <= accuracy <= 1:
        return None
    return math.sqrt(accuracy * (1 - accuracy) / num_val)


def _read_row(trial: TrialRecord, step_name: str) -> Row:
    last = max(trial.by_step, default=None)
    read = None if last is None else trial.by_step[last]
    return Row(
        number=trial.number,
        hierarchy=trial.name,
        kind=_kind(trial),
        accuracy=trial.value if trial.is_complete else read,
        step=last,
        step_name=step_name,
        feasible=trial.is_feasible,
        num_parameters=trial.figure("num_parameters"),
        flops=trial.figure("flops"),
        shallow_scale=trial.figure("shallow_scale"),
        time_s=trial.figure("time_s"),
        trial=trial,
    )


def _kind(trial: TrialRecord) -> Kind:
    unfinished: dict[TrialState, Kind] = {
        TrialState.PRUNED: "pruned",
        TrialState.RUNNING: "running",
        TrialState.WAITING: "waiting",
        TrialState.FAIL: "failed",
    }
    if trial.state in unfinished:
        return unfinished[trial.state]
    if trial.is_reference:
        return "reference"
    if not trial.is_feasible:
        return "infeasible"
    return "harvested" if trial.is_harvested else "complete"


def _rank(row: Row) -> tuple[float, ...]:
    def smaller(value: float | None) -> float:
        return math.inf if value is None else value

    accuracy = math.inf if row.accuracy is None else -row.accuracy
    if row.is_complete:
        costs = smaller(row.shallow_scale), smaller(row.num_parameters)
        return (0, accuracy, *costs, *row.trial.order)
    order = ("pruned", "running", "waiting", "failed")
    return (1 + order.index(row.kind), -(row.step or 0), accuracy, *row.trial.order, row.number)
