"""The record of one trial: what Optuna keeps of it, by name."""

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from dsaccel.errors import StorageError
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.rung import Divergence, Exit, Point
from dsaccel.study.heads import heads_path, points_of, read_heads

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True)
class TrialRecord:
    """What is known of one trial."""

    trial: FrozenTrial
    folder: Path | None = None
    """The folder of the files of heads; None: they are not needed."""

    @property
    def number(self) -> int:
        return self.trial.number

    @property
    def name(self) -> str:
        """The hierarchy as it is stored; a running trial knows its parameters before that."""
        return str(self._attributes.get("hierarchy") or _blocks_of(self.trial.params))

    @cached_property
    def hierarchy(self) -> Hierarchy:
        return Hierarchy.parse(self.name)

    @property
    def state(self) -> TrialState:
        return self.trial.state

    @property
    def is_finished(self) -> bool:
        """Whether it was trained to its end or pruned."""
        return self.trial.state in FINISHED

    @property
    def why(self) -> str | None:
        """Why it was not trained to its end, or not at all, if that was its own fault."""
        why = self._attributes.get("why")
        return str(why) if why and self.state == TrialState.FAIL else None

    @property
    def is_done(self) -> bool:
        """Whether it is not trained again: finished, or failed for itself in its cohort."""
        return self.is_finished or (self.why is not None and self.cohort > 0)

    @property
    def is_complete(self) -> bool:
        return self.trial.state == TrialState.COMPLETE

    @property
    def value(self) -> float | None:
        """The objective at the end of a complete trial."""
        return number(self.trial.value) if self.is_complete else None

    @property
    def by_step(self) -> dict[int, float]:
        """What pruning ranks by, at each rung."""
        values = self.trial.intermediate_values.items()
        return {step: value for step, value in values if number(value) is not None}

    @property
    def is_harvested(self) -> bool:
        """Whether it was read on the way to others."""
        return bool(self._attributes.get("harvested"))

    @property
    def is_reference(self) -> bool:
        return bool(self._attributes.get("reference"))

    @property
    def is_feasible(self) -> bool:
        return self._attributes.get("feasible") is not False

    @property
    def cohort(self) -> int:
        """The number of its cohort; 0: not recorded."""
        return int(number(self._attributes.get("cohort")) or 0)

    @property
    def order(self) -> tuple[int, int]:
        """Its cohort and its place in it: the same whenever a search was cut off."""
        place = number(self._attributes.get("place"))
        return self.cohort, self.number if place is None else int(place)

    @property
    def diverged(self) -> Divergence | None:
        """Where its training left the finite numbers; such a trial is never the best."""
        stored = self._attributes.get("diverged")
        with written_by_us("diverged"):
            return Divergence(**stored) if isinstance(stored, Mapping) else None

    def figure(self, name: str) -> float | None:
        """A number that was measured or counted: one of `Figures`, or a cost."""
        return number(self._attributes.get(name))

    @property
    def head_accuracies(self) -> list[list[float | None]]:
        """Rungs x heads in order of depth, an output layer last; after a stage (sequential
        schedule) the heads trained so far. Empty if the file is lost or damaged.
        """
        rungs = self._attributes.get("head_accuracies")  # of schema 1
        rungs = self._heads.get("heads", []) if rungs is None else rungs
        return [[number(accuracy) for accuracy in rung] for rung in rungs]

    @property
    def ensembles(self) -> list[float | None]:
        """Accuracies of the ensemble of the last half of these heads, by rung; empty if none was
        read.
        """
        return [number(accuracy) for accuracy in self._heads.get("ensemble", [])]

    @property
    def points(self) -> list[Point]:
        """Its curves, if they were recorded, in the order in which its units have learned."""
        return points_of(self._heads)

    @property
    def exits(self) -> dict[Exit, float | None]:
        """The accuracy of each exit at the last rung; empty if it is not recorded."""
        exits = self._attributes.get("exits") or {}
        return {exit: number(accuracy) for exit, accuracy in exits.items()}

    @cached_property
    def _heads(self) -> dict[str, list[Any]]:
        if self.folder is None:
            return {}
        path = heads_path(self.folder, self.order)
        return read_heads(path, self._attributes.get("heads_sha256"))

    @property
    def head_stages(self) -> tuple[int, ...]:
        """The stage of each local head, as in `Plan`; empty if it is not recorded."""
        with written_by_us("head_stages"):
            return tuple(map(int, self._attributes.get("head_stages") or ()))

    @property
    def has_output(self) -> bool:
        """Whether the output layer was trained: under some schedules it is the last to be."""
        return "val_accuracy" in self._attributes

    @property
    def _attributes(self) -> dict[str, Any]:
        return self.trial.user_attrs


def finished_in_order(
    trials: Iterable[FrozenTrial], folder: Path | None = None
) -> list[TrialRecord]:
    """The trials that are not trained again, in the order of cohorts."""
    records = (TrialRecord(trial, folder) for trial in trials)
    return sorted((r for r in records if r.is_done), key=lambda record: record.order)


@contextmanager
def written_by_us(name: str) -> Iterator[None]:
    """Refuse what someone else has put in the place of an attribute."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        raise StorageError(
            f"attribute {name} of a study or a trial must be as dsaccel has written it, but: "
            f"{error!r}; put a copy of the storage in its place"
        ) from None


def number(value: Any) -> float | None:
    """The value if it is a finite number."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and math.isfinite(value) else None


def _blocks_of(params: Mapping[str, Any]) -> str:
    prefix = "num_blocks_s"
    stages = {int(name[len(prefix) :]): params[name] for name in params if name.startswith(prefix)}
    return "-".join(str(stages[stage]) for stage in sorted(stages)) or "?"
