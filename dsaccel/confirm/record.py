"""What a confirmation has come to, kept in its study's attributes: one that was cut off goes on."""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna

from dsaccel.confirm.entrants import GlobalSettings
from dsaccel.confirm.finalists import merge_entries
from dsaccel.confirm.jobs import Trained
from dsaccel.confirm.margin import plan_text, planned
from dsaccel.confirm.result import Confirmation, Entry, confirmation_of, entry_record
from dsaccel.errors import ConfigError
from dsaccel.families import MODES, Mode
from dsaccel.files import make_folder
from dsaccel.nn.sealed import is_whole
from dsaccel.study.folder import StudyDir
from dsaccel.study.record import StudyRecord
from dsaccel.study.writing import add_readings, write_confirmation
from dsaccel.text import utc_now
from dsaccel.training.checkpoint import remove_checkpoint


class ConfirmationRecord:
    """Entries, what they have reached, decisions, and weights whose test split is not read yet."""

    def __init__(
        self,
        study: optuna.Study,
        directory: StudyDir,
        begun: dict[str, Any],
        seeds: Sequence[int],
    ) -> None:
        """
        Args:
            study: keeps the record.
            directory: of its files.
            begun: what a new confirmation begins with.
            seeds: those that are asked for, in order.
        """
        self._study, self._directory = study, directory
        self._seeds = list(seeds)
        empty = {"entries": [], "results": [], "decisions": [], "unread": [], "tuning": None}
        self.values: dict[str, Any] = StudyRecord.read(study).confirmation or empty | begun

    @property
    def folder(self) -> Path:
        """The folder of the weights whose test split is not read yet."""
        return self._directory.confirmation

    @property
    def readings(self) -> list[dict[str, Any]]:
        """Every look at the test split, oldest first."""
        return StudyRecord.read(self._study).test_readings

    @property
    def result(self) -> Confirmation:
        """The confirmation as far as it has come."""
        return confirmation_of(self.values, self.readings, self._directory.heads)

    @property
    def plan(self) -> str | None:
        """How many seeds are planned, if a margin is set."""
        margin = self.values.get("margin")
        return margin and plan_text(margin)

    @property
    def trained(self) -> set[tuple[str, Mode, int]]:
        """Networks (name, mode, seed) whose accuracy is recorded."""
        return {(r["name"], r["mode"], r["seed"]) for r in self.values["results"]}

    @property
    def tuned(self) -> GlobalSettings | None:
        """The settings that were found for global back-propagation."""
        tuning = self.values["tuning"]
        return tuning and GlobalSettings(tuning["learning_rate"], tuning["dropout"])

    @property
    def is_decided(self) -> bool:
        """Whether the last decision knows all results."""
        decisions = self.values["decisions"]
        return bool(decisions) and decisions[-1]["num_results"] == len(self.values["results"])

    def ask(self, chosen: Iterable[Entry], margin: float | None) -> None:
        """Note who is confirmed, beside those of before, and the margin (points) to plan for.

        Raises:
            ConfigError: another margin than before.
        """
        entries = merge_entries([*self.result.entries, *chosen])
        self.values["entries"] = [entry_record(entry) for entry in entries]
        if margin is not None:
            known = self.values.setdefault("margin", planned(self.result, margin))
            if known["points"] != margin:
                raise ConfigError(
                    f"margin must stay {known['points']:g} points, which this confirmation was "
                    f"planned for, but got {margin:g}; leave it out"
                )

    def forget_lost(self) -> None:
        """Forget the results whose weights are gone or damaged: they are trained again."""
        for lost in list(self.values["unread"]):
            if not is_whole(self.folder / lost["file"]):
                self.values["unread"].remove(lost)
                gone = {(name, lost["mode"], lost["seed"]) for name in lost["names"]}
                self.values["results"] = [
                    r
                    for r in self.values["results"]
                    if (r["name"], r["mode"], r["seed"]) not in gone
                ]

    def add_tuning(self, found: GlobalSettings, facts: Mapping[str, Any]) -> None:
        """Record the settings of global back-propagation, and how they were found."""
        self.values["tuning"] = {**found._asdict(), **facts}
        self._save()

    def add_trained(self, trained: Trained, folder: Path) -> None:
        """Record what networks have reached, and keep their weights for the test split.

        Args:
            trained: what they have reached.
            folder: where they were trained.
        """
        job = trained.job
        if trained.file is not None and folder != self.folder:
            make_folder(self.folder)
            shutil.move(folder / trained.file, self.folder / trained.file)
        known = {"mode": job.mode, "seed": job.seed}
        if trained.file is not None:
            unread = {"file": trained.file, **known, "names": list(job.names)}
            self.values["unread"].append(unread)
        self.values["results"] += [
            {"name": name, **known, "val_accuracy": value, "heads": list(heads), "time_s": time_s}
            for name, value, heads, time_s in zip(
                job.names, trained.val_accuracies, trained.heads, trained.times_s, strict=True
            )
        ]
        self.values["results"].sort(key=lambda result: self._place(result, result["name"]))
        self.values["unread"].sort(key=lambda file: self._place(file, file["names"][0]))
        self.values["time_s"] += trained.time_s
        self._save()
        remove_checkpoint(job.checkpoint(folder))

    def _place(self, trained: Mapping[str, Any], name: str) -> tuple[int, int, int]:
        """The place of something trained in the record, whichever worker was done first."""
        seed, names = trained["seed"], [entry["name"] for entry in self.values["entries"]]
        number = self._seeds.index(seed) if seed in self._seeds else len(self._seeds)
        return number, MODES.index(trained["mode"]), names.index(name)

    def decide(self) -> None:
        """Record the best finalist by mean validation accuracy, unless that is done."""
        if self.is_decided:
            return
        best, num_results = self.result.best_finalist(), len(self.values["results"])
        decision = {"best": best, "num_results": num_results, "date": utc_now()}
        self.values["decisions"].append(decision)
        self._save()

    def add_readings(
        self, read: Mapping[str, Any], looks: Sequence[Mapping[str, Any]], num_images: int
    ) -> None:
        """Record the test accuracies of weights that were `unread`."""
        add_readings(self._study, looks)
        self.values["unread"].remove(read)
        self.values["num_images"]["test"] = num_images
        self._save()

    def _save(self) -> None:
        write_confirmation(self._study, self.values)
