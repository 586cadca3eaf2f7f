"""The Pareto front of a study: what is more accurate than all that cost no more.

The stored study keeps accuracy as its one objective, because Optuna prunes no trial that has
several. The front is read off its complete trials, by Optuna's own rule of dominance.
"""

from dataclasses import dataclass

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from dsaccel.errors import ConfigError, NoResultError
from dsaccel.spec.costs import COSTS, Cost
from dsaccel.study.record import StudyRecord
from dsaccel.study.rows import Row, read_rows


@dataclass(frozen=True)
class Point:
    """A complete trial in the plane of accuracy and cost."""

    row: Row
    accuracy: float
    cost: float
    is_on_front: bool


def find_cost(name: str) -> Cost:
    """A cost by its name.

    Raises:
        ConfigError: if there is none of that name.
    """
    if name not in COSTS:
        raise ConfigError(f"--against must be one of {', '.join(COSTS)}, but got {name!r}")
    return COSTS[name]


def pareto_points(study: StudyRecord, cost: Cost) -> list[Point]:
    """All feasible complete trials with their cost, the cheapest first, then the most accurate.

    Raises:
        NoResultError: if no complete trial has recorded the cost.
    """
    points: list[tuple[float, float, Row]] = []
    for row in read_rows(study):
        value = _cost(study, row, cost)
        if row.may_be_best and row.accuracy is not None and value is not None:
            points.append((value, -row.accuracy, row))
    if not points:
        raise NoResultError(
            f"study {study.name} must have complete trials with their {cost.title}, but none "
            f"has; {cost.needs}"
        )
    points.sort(key=lambda point: point[:2])
    plane = _plane([(-negative, value) for value, negative, _ in points])
    front = {trial.number for trial in plane}
    return [
        Point(row, -negative, value, number in front)
        for number, (value, negative, row) in enumerate(points)
    ]


def _cost(study: StudyRecord, row: Row, cost: Cost) -> float | None:
    """What a trial has recorded. A network that was read off the trie without having been asked for
    has a gap if it is trained by back-propagation, as the winner is.
    """
    value = row.trial.figure(cost.attribute)
    if value is None and cost is COSTS["gap"] and row.accuracy is not None:
        baseline = study.trained_globally(row.trial.hierarchy)
        return baseline and baseline.accuracy - row.accuracy
    return value


def _plane(values: list[tuple[float, float]]) -> list[FrozenTrial]:
    """Optuna's best trials of accuracies (to maximize) and costs (to minimize)."""
    study = optuna.create_study(directions=["maximize", "minimize"])
    study.add_trials([create_trial(state=TrialState.COMPLETE, values=pair) for pair in values])
    return study.best_trials
