"""Confirm a winner: finalists, references and controls trained again with fresh seeds.

The search looked at many hierarchies with one seed, so its winner is lucky in part. Here everything
that a seed decides is drawn anew: weights, order, augmentation, dropout, and the validation split,
so that a finalist is measured on other images than it was chosen on. Not so if the images are given
(a folder's `val/`): then validation favours the finalists, and the test split alone is fresh. All
hierarchies of one seed see the same split and are one trie: their differences are paired.

The decision is made on validation and recorded; only then the test split is read, once for each
network that was trained, and changes nothing. All that is known is in the study's attributes: a
confirmation that was cut off goes on where it stood.
"""

import shutil
from collections.abc import Generator, Iterator, Mapping, Sequence
from itertools import count, islice
from pathlib import Path
from typing import Any

import optuna

from dsaccel.config.study import ConfirmConfig, StudyConfig
from dsaccel.confirm.entrants import Entrants, GlobalSettings
from dsaccel.confirm.finalists import choose_entries, globally, reference_hierarchies
from dsaccel.confirm.jobs import (
    ConfirmProgress,
    Job,
    Step,
    Task,
    Trained,
    train_job,
    training,
    try_all,
)
from dsaccel.confirm.readings import TestImages, Unread, read_networks, reading, test_images
from dsaccel.confirm.record import ConfirmationRecord
from dsaccel.confirm.result import Entry
from dsaccel.confirm.tuning import layerwise_settings, tune
from dsaccel.data.source import DataSource
from dsaccel.errors import ConfigError, MismatchError
from dsaccel.executors import Executor
from dsaccel.families import MODES
from dsaccel.parts import part_of
from dsaccel.seeds import derive
from dsaccel.study.folder import StudyDir
from dsaccel.study.heads import write_right
from dsaccel.study.record import StudyRecord
from dsaccel.study.rows import read_rows
from dsaccel.study.storage import driving, open_tuning, storage_errors
from dsaccel.text import utc_now
from dsaccel.training.device import running
from dsaccel.training.learner_files import remove_learners
from dsaccel.training.team import Team
from dsaccel.training.workbench import Bench


def fresh_seeds(seed: int, num: int) -> list[int]:
    """Seeds of a confirmation: always the same ones, the search's own is none of them."""
    drawn = (derive(seed, "confirm", number) >> 32 for number in count(1))
    return list(islice((fresh for fresh in drawn if fresh != seed), num))


class Confirm:
    """The confirmation of one study, from wherever it stands."""

    def __init__(
        self,
        config: StudyConfig,
        directory: StudyDir,
        study: optuna.Study,
        confirm: ConfirmConfig,
        *,
        command: str,
        download: bool = False,
        source: DataSource | None = None,
    ) -> None:
        """Choose who is confirmed; trains nothing.

        Args:
            config: the study's, as it was run.
            directory: where its files lie.
            study: the trials.
            confirm: how many finalists, seeds and so on; more than before is trained in addition.
            command: who asks, for the record of the test readings.
            download: whether a named data set may be fetched.
            source: of the images; None: the one that the settings name.

        Raises:
            NoResultError: if the study has no best hierarchy.
            MismatchError: if the images are not the study's.
            ConfigError: data that cannot be read, or other tuning than what is used already.
        """
        self.config, self.directory, self.study, self.confirm = config, directory, study, confirm
        self._command = command
        self.entrants = Entrants(Bench.load(config, download=download, source=source))
        recorded = StudyRecord.read(study).fingerprint or self.entrants.fingerprint
        if recorded != self.entrants.fingerprint:
            raise MismatchError(
                "data: the images are not those that the study was run with "
                f"(fingerprint {recorded[:12]} in the study, {self.entrants.fingerprint[:12]} now)"
            )
        self.seeds = fresh_seeds(config.seed, confirm.num_seeds)
        with storage_errors(directory.storage_url(config)):
            self.record = self._begun()

    @property
    def is_finished(self) -> bool:
        """Whether there is nothing left to train, decide or read."""
        return not self.jobs() and self.record.is_decided and not self.record.values["unread"]

    def remarks(self) -> Iterator[str]:
        """Tell the user what is worth knowing before training begins."""
        if self.is_finished:
            yield "all of it is trained and read: the recorded confirmation is shown"
        elif not self.entrants.has_test:
            fresh = ", and no image is fresh" if self.entrants.val_is_given else ""
            yield f"no test split: the confirmation is on validation alone{fresh}"
        if plan := self.record.plan:
            yield plan

    def run(self) -> Generator[ConfirmProgress]:
        """Tune, train what is missing, decide, and read the test split of what was trained.

        Raises:
            MismatchError: if the test images are not those of the readings before.
            NoMemoryError: if one network alone needs more memory than there is.
            StorageError: if the storage fails, or another process trains here.
        """
        runtime = self.entrants.runtime
        executor: Executor = part_of(runtime, "executor", runtime.chosen_executor)
        folder = executor.folder(self.directory.confirmation)
        with (
            driving(self.study, self.directory),
            running(runtime),
            executor.team(self.entrants.bench, folder) as team,
        ):
            if "test_fingerprint" in self.record.values and self.jobs():
                # found now, not after hours of training; no network sees them
                if not self.entrants.has_test:
                    raise MismatchError(
                        f"data: {self.config.data.name} has no test images, but this confirmation "
                        "was read on some: put them back, or the new seeds would never be read on "
                        "them"
                    )
                self._check_test(test_images(self.entrants))
            yield from self._tune(team, folder)
            jobs = self.jobs()
            tasks = [Task(job, self._global, folder) for job in jobs]
            begun: set[int] = set()
            for place, step in self._train(tasks, team):
                begun.add(place)
                how_far = len(begun), len(jobs), step.step, step.num_steps, step.names
                yield ConfirmProgress(jobs[place].mode, *how_far, place)
            self.record.decide()  # before any test image is read
            yield from self._read_test(team, folder)
            for each in (folder, self.record.folder):
                remove_learners(each)

    def jobs(self) -> list[Job]:
        """The jobs that are left, seed by seed.

        Networks with training settings of their own are a trie of their own.
        """
        trained = self.record.trained
        jobs: list[Job] = []
        for seed in self.seeds:
            for mode in MODES:
                groups: dict[Any, list[Entry]] = {}
                for entry in self.record.result.entries:
                    if mode in entry.modes and (entry.name, mode, seed) not in trained:
                        training = self.entrants.training(entry, mode, self._global)
                        alone = entry.name if mode == "global" else None
                        groups.setdefault((alone, training), []).append(entry)
                jobs += [Job(seed, mode, tuple(group)) for group in groups.values()]
        return jobs

    def _begun(self) -> ConfirmationRecord:
        """The record, with the entries that are asked for now."""
        begun = {
            "val_is_given": self.entrants.val_is_given,
            "reference": reference_hierarchies(self.config)[0],
            "num_images": {"val": self.entrants.num_val},
            "time_s": 0.0,
        }
        record = ConfirmationRecord(self.study, self.directory, begun, self.seeds)
        tuning, wanted = record.values["tuning"], self.confirm.tuning_trials
        if tuning and wanted not in (None, tuning["num_trials"]):
            raise ConfigError(
                f"tuning_trials must stay {tuning['num_trials']}, with which global "
                f"back-propagation was tuned in this confirmation, but got {wanted}; leave it out"
            )
        study = StudyRecord.read(self.study)
        chosen = choose_entries(
            *(read_rows(study), self.config, self.entrants.plan_at),
            top=self.confirm.top,
            controls=self.confirm.controls,
            reached=globally(study, self.config),
        )
        record.ask(chosen, self.confirm.margin)
        record.forget_lost()
        return record

    # ------------------------------------------------------------------ tuning

    @property
    def _global(self) -> GlobalSettings:
        """The settings of global back-propagation: the tuned ones, until then the study's."""
        return self.record.tuned or self._untuned

    @property
    def _untuned(self) -> GlobalSettings:
        settings = self.entrants.settings(self.record.result.entries[0])
        return GlobalSettings(settings.training.learning_rate, settings.network.dropout)

    def _tune(self, team: Team, folder: Path) -> Iterator[ConfirmProgress]:
        """Find the settings of global back-propagation on the search's winner, seed and split."""
        if self.record.tuned:
            return
        winner = self.record.result.entries[0]
        num_layerwise = layerwise_settings(self.study.get_trials(deepcopy=False))
        n_trials = self.confirm.tuning_trials or num_layerwise
        found, accuracy = self._untuned, None
        if n_trials > 1:
            study = open_tuning(self.study)
            seed = self.config.seed

            def train(tried: Sequence[GlobalSettings]) -> Iterator[float]:
                return try_all(team, [(winner, own, seed, folder) for own in tried])

            at_once = 1 if team.is_here else n_trials
            for done in tune(study, train, self._untuned, n_trials, seed=seed, at_once=at_once):
                found, accuracy = GlobalSettings(**done.best.params), done.best.values[0]
                yield ConfirmProgress("tuning", done.number, n_trials, 1, 1, (winner.name,))
        facts = {"val_accuracy": accuracy, "num_trials": n_trials, "num_layerwise": num_layerwise}
        self.record.add_tuning(found, facts | {"tuned_on": winner.name})

    # ------------------------------------------------------------------ training

    def _train(self, tasks: Sequence[Task], team: Team) -> Iterator[tuple[int, Step]]:
        """Do jobs and record what they reach; yields the number of one and where it stands.

        Raises:
            NoMemoryError: if a network needs more on its own than there is.
        """
        if not team.is_here:
            own = self._global
            costs = [self.entrants.flops(t.job.entries, t.job.mode, own) for t in tasks]
            for number, reached in team.costliest_first(train_job, tasks, costs):
                for trained in reached:
                    self.record.add_trained(trained, tasks[number].folder)
                yield number, Step(1, 1, tasks[number].job.names)
            return
        for number, task in enumerate(tasks):
            for step in training(self.entrants, task):
                if isinstance(step, Trained):
                    self.record.add_trained(step, task.folder)
                else:
                    yield number, step

    # ------------------------------------------------------------------ the test split

    def _read_test(self, team: Team, folder: Path) -> Iterator[ConfirmProgress]:
        """Read the test accuracy of every network that was trained, once, and record it."""
        own = self.record.folder
        unread = list(self.record.values["unread"])
        tasks = [self._unread(networks, folder) for networks in unread]
        if team.is_here:
            readings = (reading(self.entrants, task) for task in tasks)
        else:
            readings = team.map(read_networks, tasks)
        for number, read in enumerate(readings):
            networks, task = unread[number], tasks[number]
            self._check_test(read.images)
            job = task.job
            look = {"date": utc_now(), "command": self._command, "mode": job.mode, "seed": job.seed}
            looks = [
                look | {"name": name, "accuracy": accuracy}
                for name, accuracy in zip(job.names, read.accuracies, strict=True)
            ]
            for each, right_N in zip(looks, read.right, strict=True):
                each |= write_right(self.directory.heads, each, right_N)
            self.record.add_readings(networks, looks, read.images.num_images)
            for weights in {own / networks["file"], task.weights}:
                weights.unlink()
            yield ConfirmProgress("test", number + 1, len(unread), 1, 1, job.names)

    def _unread(self, networks: Mapping[str, Any], folder: Path) -> Unread:
        """A reading, its weights where every worker sees them."""
        entries = tuple(self.record.result.entry(name) for name in networks["names"])
        weights = self.record.folder / networks["file"]
        if folder != self.record.folder:
            weights = Path(shutil.copy(weights, folder))
        return Unread(Job(networks["seed"], networks["mode"], entries), self._global, weights)

    def _check_test(self, images: TestImages) -> None:
        """The first test images that are read are recorded, and later ones are the same."""
        recorded = self.record.values.setdefault("test_fingerprint", images.fingerprint)
        images.check(recorded, self.directory.name)
