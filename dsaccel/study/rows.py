"""A study as rows, best first.

Whatever a trial has not recorded (yet) is None, and so is an accuracy that is not finite: a study
can be read at any moment.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from optuna import Study
from optuna.trial import FrozenTrial, TrialState

from dsaccel.spec.hierarchy import Hierarchy

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
    """Complete: the output layer's after the last epoch; else the deepest local head's, last."""
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
    head_accuracies: list[list[float | None]]
    """Rungs x heads in order of depth, the output layer last; after a stage (sequential schedule)
    the heads trained so far."""

    @property
    def is_complete(self) -> bool:
        return self.kind in ("complete", "harvested", "reference", "infeasible")

    @property
    def has_output(self) -> bool:
        """Whether the last of `head_accuracies` is the output layer: it is trained last of all
        under the sequential schedule.
        """
        return self.is_complete or self.step_name == "epoch"

    @property
    def may_be_best(self) -> bool:
        return self.is_complete and self.feasible and self.accuracy is not None

    @property
    def state(self) -> str:
        """In words: `pruned at epoch 5`, `pruned at stage 2`."""
        if self.kind == "infeasible":
            return "outside the constraint"
        if self.kind == "reference" and not self.feasible:
            return "reference, outside the constraint"
        if self.step is None or self.is_complete:
            return self.kind
        return f"{self.kind} at {self.step_name} {self.step}"


@dataclass(frozen=True)
class Baseline:
    """The winner, trained by global back-propagation with the same settings."""

    hierarchy: str
    accuracy: float
    num_parameters: float | None
    time_s: float | None


def best_trial(study: Study) -> FrozenTrial | None:
    """The feasible trial that completed with the highest finite value.

    Ties go to the smaller shallow scale, then to fewer parameters, then to the earlier trial.
    """
    best = best_row(read_rows(study))
    return best and study.get_trials()[best.number]


def find_trial(study: Study, hierarchy: Hierarchy) -> FrozenTrial | None:
    """The finished trial of a hierarchy; without settings, the best of those that it was given."""
    trials = study.get_trials()
    for row in read_rows(study):
        attrs = trials[row.number].user_attrs
        if not trials[row.number].state.is_finished() or "flops" not in attrs:
            continue
        candidate = Hierarchy.parse(attrs["hierarchy"])
        if hierarchy in (candidate, Hierarchy(candidate.blocks)):
            return trials[row.number]
    return None


def best_row(rows: list[Row]) -> Row | None:
    return next((row for row in rows if row.may_be_best), None)


def read_rows(study: Study) -> list[Row]:
    """All trials: the complete ones by accuracy, then the others by how far they came. Those that
    were cut off and begun again are left out.
    """
    step_name = read_step_name(study)
    rows = [_read_row(trial, step_name) for trial in study.get_trials(deepcopy=False)]
    last = {row.hierarchy: row.number for row in rows}
    rows = [row for row in rows if row.kind != "failed" or row.number == last[row.hierarchy]]
    return sorted(rows, key=_rank)


def read_step_name(study: Study) -> str:
    """`epoch` or `stage`: what a rung of the study's schedule comes after."""
    config = study.user_attrs.get("config") or {}
    is_sequential = config.get("training", {}).get("schedule") == "sequential"
    return "stage" if is_sequential else "epoch"


def read_baseline(study: Study) -> Baseline | None:
    attrs = study.user_attrs.get("baseline")
    if not isinstance(attrs, Mapping):
        return None
    accuracy = number(attrs.get("val_accuracy"))
    if accuracy is None:
        return None
    return Baseline(
        hierarchy=str(attrs.get("hierarchy", "?")),
        accuracy=accuracy,
        num_parameters=number(attrs.get("num_parameters")),
        time_s=number(attrs.get("time_s")),
    )


def standard_error(study: Study, accuracy: float | None) -> float | None:
    """Of an accuracy on the study's validation images; None if their number is not recorded."""
    num_val = number(study.user_attrs.get("num_val"))
    if accuracy is None or num_val is None or num_val < 1 or not 0 <= accuracy <= 1:
        return None
    return math.sqrt(accuracy * (1 - accuracy) / num_val)


def number(value: Any) -> float | None:
    """The value if it is a finite number."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and math.isfinite(value) else None


def _read_row(trial: FrozenTrial, step_name: str) -> Row:
    attrs = trial.user_attrs
    kind = _kind(trial)
    values = trial.intermediate_values.items()
    read = {step: value for step, value in values if number(value) is not None}
    last = max(read, default=None)
    accuracy = None if last is None else read[last]
    if trial.state == TrialState.COMPLETE:
        accuracy = number(trial.value)
    return Row(
        number=trial.number,
        hierarchy=str(attrs.get("hierarchy") or _hierarchy_from(trial.params)),
        kind=kind,
        accuracy=accuracy,
        step=last,
        step_name=step_name,
        feasible=attrs.get("feasible") is not False,
        num_parameters=number(attrs.get("num_parameters")),
        flops=number(attrs.get("flops")),
        shallow_scale=number(attrs.get("shallow_scale")),
        time_s=number(attrs.get("time_s")),
        head_accuracies=[
            [number(accuracy) for accuracy in rung] for rung in attrs.get("head_accuracies") or []
        ],
    )


def _kind(trial: FrozenTrial) -> Kind:
    unfinished: dict[TrialState, Kind] = {
        TrialState.PRUNED: "pruned",
        TrialState.RUNNING: "running",
        TrialState.WAITING: "waiting",
        TrialState.FAIL: "failed",
    }
    if trial.state in unfinished:
        return unfinished[trial.state]
    attrs = trial.user_attrs
    if attrs.get("reference"):
        return "reference"
    if attrs.get("feasible") is False:
        return "infeasible"
    return "harvested" if attrs.get("harvested") else "complete"


def _hierarchy_from(params: dict[str, Any]) -> str:
    """A running trial knows its parameters before its attributes."""
    prefix = "num_blocks_s"
    stages = {int(name[len(prefix) :]): params[name] for name in params if name.startswith(prefix)}
    return str(Hierarchy(tuple(stages[stage] for stage in sorted(stages)))) or "?"


def _rank(row: Row) -> tuple[float, ...]:
    def smaller(value: float | None) -> float:
        return math.inf if value is None else value

    accuracy = math.inf if row.accuracy is None else -row.accuracy
    if row.is_complete:
        return (0, accuracy, smaller(row.shallow_scale), smaller(row.num_parameters), row.number)
    order = ("pruned", "running", "waiting", "failed")
    return (1 + order.index(row.kind), -(row.step or 0), accuracy, row.number)
