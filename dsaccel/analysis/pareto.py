"""The Pareto front of a study: what is more accurate than all that cost no more.

The stored study keeps accuracy as its one objective, because Optuna prunes no trial that has
several. The front is read off its complete trials, by Optuna's own rule of dominance.
Back-propagation, where it was trained beside the search, stands beside the front: as it is, and
with the checkpointing that takes least memory.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import optuna
from optuna.trial import TrialState, create_trial

from dsaccel.errors import NoResultError
from dsaccel.search.suggestions import study_in_memory
from dsaccel.spec.costs import COSTS, Cost
from dsaccel.study.record import StudyRecord
from dsaccel.study.rows import Row, read_rows


@dataclass(frozen=True)
class Point:
    """A network in the space of accuracy and costs."""

    name: str
    """The hierarchy, and how it was trained, if not layer-wise."""
    accuracy: float
    costs: tuple[float, ...]
    is_on_front: bool = False
    """Whether no other trial beats it."""
    beaten_by: tuple[str, ...] = ()
    """The rivals that beat it."""

    def beats(self, other: "Point") -> bool:
        """Whether it is as accurate, costs no more, and is better in one of these."""
        own, others = (-self.accuracy, *self.costs), (-other.accuracy, *other.costs)
        return own != others and all(a <= b for a, b in zip(own, others, strict=True))


@dataclass(frozen=True)
class Front:
    """The feasible complete trials of a study, by accuracy and some costs."""

    costs: tuple[Cost, ...]
    points: tuple[Point, ...]
    """The cheapest first, then the most accurate."""
    rivals: tuple[Point, ...]
    """Back-propagation, as far as it was trained and its costs are known."""
    plane: optuna.Study
    """The same trials in their order, with an objective for the accuracy and for each cost."""

    @property
    def best(self) -> list[Point]:
        """The front itself."""
        return [point for point in self.points if point.is_on_front]


def read_front(study: StudyRecord, costs: Sequence[Cost]) -> Front:
    """The front of a study.

    Raises:
        NoResultError: if no complete trial has recorded the costs.
    """
    found: list[tuple[Row, Point]] = []
    for row in read_rows(study):
        values = [_cost(study, row, cost) for cost in costs]
        known = tuple(value for value in values if value is not None)
        if row.may_be_best and row.accuracy is not None and len(known) == len(costs):
            found.append((row, Point(row.hierarchy, row.accuracy, known)))
    if not found:
        names = " and ".join(cost.title for cost in costs)
        needs = ", and ".join(dict.fromkeys(cost.needs for cost in costs))
        raise NoResultError(
            f"study {study.name} must have complete trials with their {names}, but none has; "
            f"{needs}"
        )
    points = [point for _, point in sorted(found, key=lambda pair: pair[0].number)]
    plane = _plane(points)
    on_front = {trial.number for trial in plane.best_trials}
    rivals = tuple(_rivals(study, costs))
    judged = [
        Point(
            *(point.name, point.accuracy, point.costs, number in on_front),
            tuple(rival.name for rival in rivals if rival.beats(point)),
        )
        for number, point in enumerate(points)
    ]
    judged.sort(key=lambda point: (*point.costs, -point.accuracy))
    return Front(tuple(costs), tuple(judged), rivals, plane)


def _rivals(study: StudyRecord, costs: Sequence[Cost]) -> Iterator[Point]:
    """Back-propagation; there is no gap between it and itself to be weighed."""
    if COSTS["gap"] in costs:
        return
    for hierarchy in study.all_trained_globally:
        reached = study.trained_globally(hierarchy)
        if reached is None:
            continue
        for way, figures in reached.costs.items():
            if all(cost.attribute in figures for cost in costs):
                values = tuple(float(figures[cost.attribute]) for cost in costs)
                yield Point(f"{hierarchy} {way}", reached.accuracy, values)


def _cost(study: StudyRecord, row: Row, cost: Cost) -> float | None:
    """What a trial has recorded. A network that was read off the trie without having been asked for
    has a gap if it is trained by back-propagation, as the winner is.
    """
    value = row.trial.figure(cost.attribute)
    if value is None and cost is COSTS["gap"] and row.accuracy is not None:
        baseline = study.trained_globally(row.trial.hierarchy)
        return baseline and baseline.accuracy - row.accuracy
    return value


def _plane(points: Sequence[Point]) -> optuna.Study:
    """A study of Optuna's that maximizes accuracy and minimizes costs."""
    minimized = ["minimize" for _ in points[0].costs]
    study = study_in_memory(directions=["maximize", *minimized])
    study.add_trials(
        [
            create_trial(state=TrialState.COMPLETE, values=[point.accuracy, *point.costs])
            for point in points
        ]
    )
    return study
