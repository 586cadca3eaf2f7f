"""The curves of a study: each unit of each network, epoch by epoch."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from dsaccel.config.own_settings import training_of
from dsaccel.config.study import StudyConfig
from dsaccel.errors import NoResultError
from dsaccel.families import Mode
from dsaccel.planner import Planner
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.rung import Point
from dsaccel.spec.unit_names import head_names
from dsaccel.study.record import StudyRecord
from dsaccel.study.trial_record import TrialRecord


@dataclass(frozen=True)
class CurvePoint:
    """What a head has reached after an epoch; None: it was not recorded."""

    hierarchy: str
    mode: Mode
    head: str
    """`stem`, `s2.1 conv 2`, `output`."""
    epoch: int
    """1-based; of the unit itself under the sequential schedule."""
    learning_rate: float | None
    train_accuracy: float | None
    """0..1, of as many training images, as they are, as there are validation images."""
    train_loss: float | None
    """What the unit learns from, on the same images."""
    val_accuracy: float | None
    val_loss: float | None


def read_curves(study: StudyRecord) -> list[CurvePoint]:
    """All that is known: of trials in their order, then of global baselines. What was not recorded
    has the accuracies that rungs have read.

    Raises:
        NoResultError: if no network has been trained.
    """
    found: list[CurvePoint] = []
    for trial in study.finished:
        found += [_of(trial.name, "local", point) for point in trial.points] or _read(study, trial)
    for hierarchy in study.all_trained_globally:
        points = study.global_points(hierarchy)
        found += [_of(str(hierarchy), "global", point) for point in points]
    if not found:
        raise NoResultError(f"study {study.name} must have finished trials, but has none")
    return found


def _of(hierarchy: str, mode: Mode, point: Point) -> CurvePoint:
    values = {name: _finite(value) for name, value in asdict(point).items()}
    return CurvePoint(hierarchy, mode, **values)


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _read(study: StudyRecord, trial: TrialRecord) -> Iterator[CurvePoint]:
    """From a trial's rungs; a unit that is frozen reads the same at each later one."""
    config, names = study.config, _names(study, trial.hierarchy)
    training = training_of(trial.hierarchy, config.training)
    rungs, first = trial.head_accuracies, max(trial.by_step, default=0)
    first -= len(rungs) - 1
    known = 0
    for step, heads in enumerate(rungs, first):
        by_epoch = study.step_name == "epoch"
        epoch = step if by_epoch else config.training.epochs
        rate = training.learning_rate_at(epoch)
        read = list(zip(names, heads, strict=False))
        for name, accuracy in read if by_epoch else read[known:]:
            yield CurvePoint(trial.name, "local", name, epoch, rate, None, None, accuracy, None)
        known = len(heads)


def _names(study: StudyRecord, hierarchy: Hierarchy) -> tuple[str, ...]:
    config: StudyConfig = study.config
    return head_names(Planner.of(config, study.num_classes or 2)(hierarchy))
