"""The record of a study: the only place that knows the keys of what Optuna keeps of it.

A study is a list of cohorts. The last one is named, with all that it holds, before it is trained,
and marked as finished by the last thing that is written of it. Whoever proposes or prunes looks at
the trials of finished cohorts alone, in the order of their cohorts and of their places in them:
so it does not matter when a search was cut off, nor how often a trial was begun.

What is not recorded (yet), or is no finite number where there must be one, is None: a study can be
read at any moment.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from optuna import Study
from optuna.trial import FrozenTrial, TrialState

from dsaccel.config.study import StudyConfig
from dsaccel.config.toml import parse_config
from dsaccel.parts import BUILTIN, load_class
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.rung import Divergence, Exit
from dsaccel.study.folder import StudyDir
from dsaccel.study.heads import read_heads

SCHEMA = 2
"""Of the attributes that are written; 1, which had no number, knows no cohorts of trials."""
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True)
class TrialRecord:
    """What is known of one trial."""

    trial: FrozenTrial
    folder: Path | None = None
    """Of the files of heads; None: they are not needed."""

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
    def is_complete(self) -> bool:
        return self.trial.state == TrialState.COMPLETE

    @property
    def value(self) -> float | None:
        """Of a complete trial: the output layer's accuracy at the end."""
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
        """Of the last half of these heads, likewise; empty where none was read."""
        return [number(accuracy) for accuracy in self._heads.get("ensemble", [])]

    @property
    def exits(self) -> dict[Exit, float | None]:
        """The accuracy of each exit at the last rung; empty if it is not recorded."""
        exits = self._attributes.get("exits") or {}
        return {exit: number(accuracy) for exit, accuracy in exits.items()}

    @cached_property
    def _heads(self) -> dict[str, list[Any]]:
        if self.folder is None:
            return {}
        return read_heads(self.folder, self.order, self._attributes.get("heads_sha256"))

    @property
    def head_stages(self) -> tuple[int, ...]:
        """The stage of each local head, as in `Plan`; empty if it is not recorded."""
        return tuple(self._attributes.get("head_stages") or ())

    @property
    def has_output(self) -> bool:
        """Whether the output layer was trained: under some schedules it is the last to be."""
        return "val_accuracy" in self._attributes

    @property
    def _attributes(self) -> dict[str, Any]:
        return self.trial.user_attrs


@dataclass(frozen=True)
class CohortRecord:
    """The cohort that is trained, or was trained last."""

    number: int
    """1-based."""
    asked: tuple[Hierarchy, ...]
    is_finished: bool
    """Whether all that is known of it is written."""
    blocks_trained: float
    """Of all finished cohorts, this one too once it is finished."""
    blocks_separate: float
    """Likewise, what training each hierarchy alone would have taken."""

    def next(self, asked: Sequence[Hierarchy]) -> "CohortRecord":
        """The cohort after this one, before it is trained."""
        return CohortRecord(
            self.number + 1, tuple(asked), False, self.blocks_trained, self.blocks_separate
        )

    def finished(self, blocks_trained: float, blocks_separate: float) -> "CohortRecord":
        """This cohort when it is trained and has taken so many blocks."""
        return CohortRecord(
            self.number,
            self.asked,
            True,
            self.blocks_trained + blocks_trained,
            self.blocks_separate + blocks_separate,
        )


NO_COHORT = CohortRecord(0, (), True, 0, 0)
"""Before the first."""


@dataclass(frozen=True)
class Baseline:
    """A hierarchy trained by global back-propagation with the study's settings."""

    hierarchy: str
    accuracy: float
    num_parameters: float | None
    time_s: float | None


@dataclass(frozen=True)
class StudyRecord:
    """What is known of a study."""

    name: str
    trials: tuple[FrozenTrial, ...]
    """In the order in which they were begun."""
    attributes: Mapping[str, Any]
    folder: Path | None = None
    """Of the files of heads."""

    @classmethod
    def read(cls, study: Study, directory: StudyDir | None = None) -> "StudyRecord":
        """Of a study; without its directory nothing is known of its heads."""
        trials = tuple(study.get_trials(deepcopy=False))
        if directory is None:
            return cls(study.study_name, trials, study.user_attrs)
        return cls(directory.name, trials, study.user_attrs, directory.heads)

    def all(self) -> list[TrialRecord]:
        """Every trial, in the order in which they were begun."""
        return [TrialRecord(trial, self.folder) for trial in self.trials]

    @cached_property
    def finished(self) -> list[TrialRecord]:
        """The trials that were trained to their end or pruned, in the order of cohorts."""
        return finished_in_order(self.trials, self.folder)

    @property
    def trained(self) -> list[TrialRecord]:
        """Those that were asked for."""
        return [record for record in self.finished if not record.is_harvested]

    @property
    def told(self) -> list[TrialRecord]:
        """Those of finished cohorts alone: what proposals and pruners may look at."""
        end = self.cohort.number + self.cohort.is_finished
        return [record for record in self.finished if record.cohort < end]

    @cached_property
    def config(self) -> StudyConfig:
        """The settings.

        Raises:
            ConfigError: if they are not recorded, or are none.
        """
        return parse_config(StudyConfig, self.attributes.get("config") or {}, f"study {self.name}")

    @property
    def schema(self) -> int:
        return int(number(self.attributes.get("schema")) or 1)

    @property
    def cohort(self) -> CohortRecord:
        """The last one; see `NO_COHORT`. A study of schema 1 goes on with its first new cohort."""
        stored = self.attributes.get("cohort")
        if not isinstance(stored, Mapping):
            blocks = (number(self.attributes.get(f"blocks_{k}")) for k in ("trained", "separate"))
            return CohortRecord(0, (), True, *(num or 0 for num in blocks))
        return CohortRecord(
            stored["number"],
            tuple(map(Hierarchy.parse, stored["asked"])),
            stored["is_finished"],
            stored["blocks_trained"],
            stored["blocks_separate"],
        )

    @property
    def blocks_trained(self) -> float | None:
        """Of all finished cohorts, blocks that are shared counted once."""
        return self.cohort.blocks_trained or None

    @property
    def blocks_separate(self) -> float | None:
        """What training each hierarchy alone would have taken."""
        return self.cohort.blocks_separate or None

    @property
    def fingerprint(self) -> str | None:
        """Of the images."""
        stored = self.attributes.get("fingerprint")
        return stored if isinstance(stored, str) else None

    @property
    def num_val(self) -> int | None:
        """Validation images behind each accuracy."""
        return _whole(self.attributes.get("num_val"))

    @property
    def num_classes(self) -> int | None:
        return _whole(self.attributes.get("num_classes"))

    @property
    def time_s(self) -> float | None:
        """Of all runs together."""
        return number(self.attributes.get("time_s"))

    @property
    def baseline(self) -> Baseline | None:
        """The winner's."""
        stored = self.attributes.get("baseline")
        return _baseline(stored, stored.get("hierarchy")) if isinstance(stored, Mapping) else None

    def trained_globally(self, hierarchy: Hierarchy) -> Baseline | None:
        """What back-propagation has reached with a hierarchy."""
        stored = (self.attributes.get("global") or {}).get(str(hierarchy))
        return _baseline(stored, str(hierarchy)) if isinstance(stored, Mapping) else None

    @property
    def confirmation(self) -> dict[str, Any] | None:
        """As `Confirm` keeps it."""
        return self.attributes.get("confirmation")

    @property
    def test_readings(self) -> list[dict[str, Any]]:
        """Every look at the test split, oldest first."""
        return self.attributes.get("test_readings") or []

    @property
    def step_name(self) -> Literal["epoch", "stage"]:
        """What a rung of the study's schedule comes after."""
        stored = self.attributes.get("step_name")
        if stored in ("epoch", "stage"):
            return stored
        # of an earlier version, or no study at all
        name = self.section("training").get("schedule")
        shipped = name in BUILTIN["schedule"]
        return load_class("schedule", str(name)).step_name if shipped else "epoch"

    @property
    def ranked_by(self) -> Literal["output layer", "deepest head", "ensemble"]:
        """What the last value of a trial that is not complete was read from."""
        by = self.section("pruning").get("by")
        if by == "output":
            return "output layer"
        return "ensemble" if by == "ensemble" else "deepest head"

    @property
    def exit(self) -> Exit:
        """Where its networks are read."""
        return self.section("network").get("output") or "layer"

    def setting(self, name: str) -> Any:
        """Of the settings, as they are stored; None if they are not recorded."""
        config = self.attributes.get("config")
        return config.get(name) if isinstance(config, Mapping) else None

    def section(self, name: str) -> Mapping[str, Any]:
        """A table of the settings, likewise; empty if they are not recorded."""
        section = self.setting(name)
        return section if isinstance(section, Mapping) else {}


def finished_in_order(
    trials: Iterable[FrozenTrial], folder: Path | None = None
) -> list[TrialRecord]:
    """Those trained to their end or pruned, in the order of cohorts."""
    records = (TrialRecord(trial, folder) for trial in trials)
    return sorted((r for r in records if r.is_finished), key=lambda record: record.order)


def number(value: Any) -> float | None:
    """The value if it is a finite number."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and math.isfinite(value) else None


def _baseline(stored: Mapping[str, Any], hierarchy: Any) -> Baseline | None:
    accuracy = number(stored.get("val_accuracy"))
    if accuracy is None:
        return None
    sizes = (number(stored.get(name)) for name in ("num_parameters", "time_s"))
    return Baseline(str(hierarchy), accuracy, *sizes)


def _blocks_of(params: Mapping[str, Any]) -> str:
    prefix = "num_blocks_s"
    stages = {int(name[len(prefix) :]): params[name] for name in params if name.startswith(prefix)}
    return "-".join(str(stages[stage]) for stage in sorted(stages)) or "?"


def _whole(value: Any) -> int | None:
    found = number(value)
    return None if found is None else int(found)
