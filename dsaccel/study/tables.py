"""A study as rows, best first, and what a terminal shows of it.

Whatever a trial has not recorded (yet) is None, and so is an accuracy that is not finite: a study
can be read at any moment.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from optuna import Study
from optuna.trial import FrozenTrial, TrialState
from rich.table import Table
from rich.text import Text

from dsaccel.spec.hierarchy import Hierarchy, format_hierarchy, parse_hierarchy

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
        candidate = parse_hierarchy(attrs["hierarchy"])
        if hierarchy in (candidate, tuple(candidate)):
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


def trials_table(study: Study, limit: int = 20) -> Table:
    """The best `limit` trials, and the baseline under them."""
    rows, baseline = read_rows(study), read_baseline(study)
    best = best_row(rows)
    shown = rows[:limit]
    if best and best not in shown:
        # outdone by that many infeasible ones: it is still the one line that must be there
        shown = [*rows[: limit - 1], best]
    num_hidden = len(rows) - len(shown)
    table = Table(caption=f"and {num_hidden} more" if num_hidden else None, caption_justify="left")
    table.add_column("hierarchy", overflow="fold")
    for name in ("val accuracy", "parameters", "time"):
        table.add_column(name, justify="right")
    table.add_column("state")
    for row in shown:
        accuracy, state = accuracy_and_state(row, study)
        style = "" if row.is_complete else "dim"
        figures = (accuracy, count(row.num_parameters), duration(row.time_s))
        if row is best:
            state, style = f"best ({state})" if state != "complete" else "best", "bold green"
        # Text, not str: a hierarchy comes from storage, and str would be read as markup
        cells = map(Text, (row.hierarchy, *figures, state))
        table.add_row(*cells, style=style)
    if baseline:
        table.add_section()
        figures = (baseline.accuracy, baseline.num_parameters, baseline.time_s)
        cells = (
            form(value) for form, value in zip((percent, count, duration), figures, strict=True)
        )
        table.add_row(Text(baseline.hierarchy), *cells, "global back-propagation")
    return table


def accuracy_and_state(row: Row, study: Study) -> tuple[str, str]:
    """Two cells. What was read of a trial that is not complete is another classifier's and stands
    with its state: it is not to be compared down the column.
    """
    if row.is_complete:
        return percent(row.accuracy), row.state
    read = "" if row.accuracy is None else f", {_ranked_by(study)} {percent(row.accuracy)}"
    return percent(None), row.state + read


def headline(study: Study) -> str:
    """The outcome in a few lines: best, baseline, blocks trained, time."""
    best, baseline = best_row(read_rows(study)), read_baseline(study)
    lines = ["best      no trial has completed yet"]
    if best:
        lines = [
            f"best      {best.hierarchy}  {percent(best.accuracy)}  "
            f"{count(best.num_parameters)} parameters  trial {best.number}"
        ]
    if baseline:
        lead = ""
        if best and best.hierarchy == baseline.hierarchy:
            lead = f"; layer-wise {points(best.accuracy, baseline.accuracy)}"
        lines.append(
            f"baseline  {baseline.hierarchy}  {percent(baseline.accuracy)}  "
            f"global back-propagation{lead}"
        )
    blocks = blocks_saved(study)
    if blocks:
        lines.append(f"blocks    {blocks}")
    time_s = number(study.user_attrs.get("time_s"))
    if time_s is not None:
        lines.append(f"time      {duration(time_s)}")
    return "\n".join(lines)


def blocks_saved(study: Study) -> str:
    """`98 trained instead of 412 (4.2 times fewer)`; empty if not recorded."""
    trained = number(study.user_attrs.get("blocks_trained"))
    separate = number(study.user_attrs.get("blocks_separate"))
    if not trained or not separate:
        return ""
    if trained == separate:
        return f"{trained:,.0f} trained, none shared"
    return (
        f"{trained:,.0f} trained instead of {separate:,.0f} ({separate / trained:.1f} times fewer)"
    )


def number(value: Any) -> float | None:
    """The value if it is a finite number."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and math.isfinite(value) else None


def percent(accuracy: float | None) -> str:
    return "-" if accuracy is None else f"{100 * accuracy:.2f} %"


def points(accuracy: float | None, other: float | None) -> str:
    """How far one accuracy leads another: `+1.20 points`."""
    if accuracy is None or other is None:
        return "-"
    return f"{100 * (accuracy - other):+.2f} points"


def count(value: float | None) -> str:
    """`11.17 M`."""
    if value is None:
        return "-"
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.2f}{unit}"
    return f"{value:.0f}"


def duration(time_s: float | None) -> str:
    """`2 min 05 s`."""
    if time_s is None:
        return "-"
    if time_s < 60:
        return f"{time_s:.1f} s"
    minutes, seconds = divmod(round(time_s), 60)
    if minutes < 60:
        return f"{minutes} min {seconds:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


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


def _ranked_by(study: Study) -> str:
    """What the last value of a trial that is not complete was read from."""
    config = study.user_attrs.get("config") or {}
    return "output layer" if config.get("pruning", {}).get("by") == "output" else "deepest head"


def _hierarchy_from(params: dict[str, Any]) -> str:
    """A running trial knows its parameters before its attributes."""
    prefix = "num_blocks_s"
    stages = {int(name[len(prefix) :]): params[name] for name in params if name.startswith(prefix)}
    return format_hierarchy(tuple(stages[stage] for stage in sorted(stages))) or "?"


def _rank(row: Row) -> tuple[float, ...]:
    def smaller(value: float | None) -> float:
        return math.inf if value is None else value

    accuracy = math.inf if row.accuracy is None else -row.accuracy
    if row.is_complete:
        return (0, accuracy, smaller(row.shallow_scale), smaller(row.num_parameters), row.number)
    order = ("pruned", "running", "waiting", "failed")
    return (1 + order.index(row.kind), -(row.step or 0), accuracy, row.number)
