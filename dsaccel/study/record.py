"""The record of a study: with `trial_record.py` the only place that knows the keys of what Optuna
keeps of it.

A study is a list of cohorts. The last one is named, with all that it holds, before it is trained,
and marked as finished by the last thing that is written of it. Whoever proposes or prunes looks at
the trials of finished cohorts alone, in the order of their cohorts and of their places in them:
so it does not matter when a search was cut off, nor how often a trial was begun.

What is not recorded (yet), or is no finite number where there must be one, is None: a study can be
read at any moment.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from optuna import Study
from optuna.trial import FrozenTrial

from dsaccel.config.study import StudyConfig
from dsaccel.config.toml import parse_config
from dsaccel.parts import BUILTIN, PartRef, load_class
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.rung import Exit, Point
from dsaccel.study.folder import StudyDir
from dsaccel.study.heads import global_path, points_of, read_heads
from dsaccel.study.trial_record import TrialRecord, finished_in_order, number, written_by_us

SCHEMA = 2
"""The version of the attributes that are written; 1, which had no number, knows no cohorts of
trials."""


@dataclass(frozen=True)
class CohortRecord:
    """The cohort that is trained, or was trained last."""

    number: int
    """1-based."""
    asked: tuple[Hierarchy, ...]
    is_finished: bool
    """Whether all that is known of it is written."""
    blocks_trained: float
    """Blocks of all finished cohorts, this one too once it is finished."""
    blocks_separate: float
    """The blocks that training each hierarchy alone would have taken."""

    def next(self, asked: Sequence[Hierarchy]) -> "CohortRecord":
        """The cohort after this one, before it is trained."""
        return replace(self, number=self.number + 1, asked=tuple(asked), is_finished=False)

    def finished(self, blocks_trained: float, blocks_separate: float) -> "CohortRecord":
        """This cohort when it is trained and has taken so many blocks."""
        return replace(
            self,
            is_finished=True,
            blocks_trained=self.blocks_trained + blocks_trained,
            blocks_separate=self.blocks_separate + blocks_separate,
        )


NO_COHORT = CohortRecord(0, (), True, 0, 0)
"""The cohort before the first."""


@dataclass(frozen=True)
class Baseline:
    """A hierarchy trained by global back-propagation with the study's settings."""

    hierarchy: str
    accuracy: float
    num_parameters: float | None
    time_s: float | None
    costs: Mapping[str, Mapping[str, float]]
    """As it is and with checkpointing, by their attributes; empty if the study weighs none."""


@dataclass(frozen=True)
class StudyRecord:
    """What is known of a study."""

    name: str
    trials: tuple[FrozenTrial, ...]
    """The trials in the order in which they were begun."""
    attributes: Mapping[str, Any]
    folder: Path | None = None
    """The folder of the files of heads."""

    @classmethod
    def read(cls, study: Study, directory: StudyDir | None = None) -> "StudyRecord":
        """The record of a study; without its directory nothing is known of its heads."""
        trials = tuple(study.get_trials(deepcopy=False))
        if directory is None:
            return cls(study.study_name, trials, study.user_attrs)
        return cls(directory.name, trials, study.user_attrs, directory.heads)

    def all(self) -> list[TrialRecord]:
        """Every trial, in the order in which they were begun."""
        return [TrialRecord(trial, self.folder) for trial in self.trials]

    @cached_property
    def finished(self) -> list[TrialRecord]:
        """The trials that were trained to their end or pruned, or failed for themselves, in the
        order of cohorts.
        """
        return finished_in_order(self.trials, self.folder)

    @property
    def trained(self) -> list[TrialRecord]:
        """The finished trials that were asked for."""
        return [record for record in self.finished if not record.is_harvested]

    @property
    def told(self) -> list[TrialRecord]:
        """The trials of finished cohorts: what proposals and pruners may look at."""
        end = self.cohort.number + self.cohort.is_finished
        return [record for record in self.finished if record.cohort < end]

    @cached_property
    def parts(self) -> tuple[PartRef, ...]:
        """The parts that are not shipped."""
        with written_by_us("parts"):
            return tuple(PartRef(**part) for part in self.attributes.get("parts") or ())

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
        with written_by_us("cohort"):
            return CohortRecord(
                int(stored["number"]),
                tuple(map(Hierarchy.parse, stored["asked"])),
                bool(stored["is_finished"]),
                *(_finite(stored[f"blocks_{kind}"]) for kind in ("trained", "separate")),
            )

    @property
    def blocks_trained(self) -> float | None:
        """Blocks of all finished cohorts, each shared block counted once."""
        return self.cohort.blocks_trained or None

    @property
    def blocks_separate(self) -> float | None:
        """What training each hierarchy alone would have taken."""
        return self.cohort.blocks_separate or None

    @property
    def environment(self) -> dict[str, Any]:
        """Commit, versions, device and command of the run that trained last; see `provenance`."""
        return dict(self._table("environment"))

    @property
    def fingerprint(self) -> str | None:
        """Hash of the images."""
        stored = self.attributes.get("fingerprint")
        return stored if isinstance(stored, str) else None

    @property
    def arithmetic(self) -> dict[str, str]:
        """What decided the last bits beside the settings, when the study was last searched."""
        return {str(key): str(value) for key, value in self._table("arithmetic").items()}

    @property
    def workers(self) -> str | None:
        """What those did that trained the last cohort, if there were any."""
        crew = self._table("crew")
        said = crew.get("summary")
        return f"{crew['workers']}: {said}" if isinstance(said, str) else None

    @property
    def num_val(self) -> int | None:
        """Validation images behind each accuracy."""
        return _whole(self.attributes.get("num_val"))

    @property
    def num_classes(self) -> int | None:
        return _whole(self.attributes.get("num_classes"))

    @property
    def time_s(self) -> float | None:
        """Seconds of all runs together."""
        return number(self.attributes.get("time_s"))

    @property
    def baseline(self) -> Baseline | None:
        """The winner's."""
        stored = self._table("baseline")
        return _baseline(stored, stored.get("hierarchy"))

    def trained_globally(self, hierarchy: Hierarchy) -> Baseline | None:
        """What back-propagation has reached with a hierarchy."""
        return _baseline(self._global(hierarchy), hierarchy)

    @property
    def all_trained_globally(self) -> list[Hierarchy]:
        """What back-propagation has trained, in the order of training."""
        return list(map(Hierarchy.parse, self._table("global")))

    def global_points(self, hierarchy: Hierarchy) -> list[Point]:
        """The curves of a network that back-propagation has trained, if they were recorded."""
        stored = self._global(hierarchy)
        if self.folder is None or not stored:
            return []
        path = global_path(self.folder, hierarchy)
        return points_of(read_heads(path, stored.get("points_sha256")))

    def _global(self, hierarchy: Hierarchy) -> Mapping[str, Any]:
        stored = self._table("global").get(str(hierarchy))
        return stored if isinstance(stored, Mapping) else {}

    @property
    def confirmation(self) -> dict[str, Any] | None:
        """The confirmation as `Confirm` keeps it."""
        stored = self.attributes.get("confirmation")
        if stored is None:
            return None
        with written_by_us("confirmation"):
            for key in ("entries", "results", "decisions", "unread"):
                list(stored[key])
        return stored

    @property
    def test_readings(self) -> list[dict[str, Any]]:
        """Every look at the test split, oldest first."""
        with written_by_us("test_readings"):
            return [dict(reading) for reading in self.attributes.get("test_readings") or []]

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
    def ranked_by(self) -> str:
        """What the last value of a trial that is not complete was read from."""
        names = {"output": "output layer", "ensemble": "ensemble"}
        return names.get(str(self.section("pruning").get("by")), "deepest head")

    @property
    def exit(self) -> Exit:
        """Where its networks are read."""
        return self.section("network").get("output") or "layer"

    def setting(self, name: str) -> Any:
        """One of the settings as it is stored; None if they are not recorded."""
        return self._table("config").get(name)

    def section(self, name: str) -> Mapping[str, Any]:
        """A table of the settings, likewise; empty if they are not recorded."""
        section = self.setting(name)
        return section if isinstance(section, Mapping) else {}

    def _table(self, key: str) -> Mapping[str, Any]:
        """An attribute that is a table; empty if it is not recorded."""
        stored = self.attributes.get(key)
        return stored if isinstance(stored, Mapping) else {}


def _baseline(stored: Mapping[str, Any], hierarchy: Any) -> Baseline | None:
    accuracy = number(stored.get("val_accuracy"))
    if accuracy is None:
        return None
    num, time_s = (number(stored.get(name)) for name in ("num_parameters", "time_s"))
    return Baseline(str(hierarchy), accuracy, num, time_s, stored.get("costs") or {})


def _finite(value: Any) -> float:
    found = number(value)
    if found is None:
        raise TypeError(f"{value!r} is no number")
    return found


def _whole(value: Any) -> int | None:
    found = number(value)
    return None if found is None else int(found)
