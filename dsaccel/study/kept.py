"""Weights that a study keeps: of its best networks, and of its baseline."""

import os
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from dsaccel.config.study import RunConfig, StudyConfig
from dsaccel.errors import NoResultError
from dsaccel.files import atomic_write, make_folder, remove_file
from dsaccel.nn.units import build_units
from dsaccel.nn.weights import SUFFIX, ImageFacts, save_weights
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.plan import Plan
from dsaccel.study.export import run_config, trial_config
from dsaccel.study.folder import StudyDir
from dsaccel.study.record import StudyRecord
from dsaccel.study.rows import read_rows
from dsaccel.study.trial_record import TrialRecord
from dsaccel.training.cohort import Cohort
from dsaccel.training.workbench import Workbench


class Kept:
    """The weights beside a study."""

    def __init__(self, directory: StudyDir, bench: Workbench) -> None:
        self._directory, self._config = directory, bench.config
        self._plan: Callable[..., Plan] = bench.plan
        data = bench.data
        self._facts = ImageFacts(data.mean, data.std, data.class_names, data.fingerprint)

    def update(self, run: Cohort, record: StudyRecord) -> None:
        """Keep those of a finished run's networks that are among the best, and no others."""
        best = [row.trial for row in read_rows(record) if row.may_be_best]
        best = best[: self._config.runtime.keep]
        paths = {kept_path(self._directory, trial): trial for trial in best}
        living = set(run.trie.living)
        for path, trial in paths.items():
            if trial.hierarchy in living and not path.is_file():
                settings = trial_config(self._config, record, trial)
                self._save(path, run, trial.hierarchy, self._plan(trial.hierarchy), settings)
        for path in self._directory.weights.glob(f"*{SUFFIX}"):
            if path not in paths:
                remove_file(path)

    def add_baseline(self, run: Cohort, hierarchy: Hierarchy, accuracy: float) -> None:
        """Keep the winner as back-propagation has trained it."""
        if not self._config.runtime.keep:
            return
        settings = baseline_config(self._config, hierarchy, accuracy)
        plan = self._plan(hierarchy, mode="global")
        with suppress(NoResultError):  # diverged
            self._save(self._directory.baseline, run, hierarchy, plan, settings)

    def _save(
        self, path: Path, run: Cohort, hierarchy: Hierarchy, plan: Plan, settings: RunConfig
    ) -> None:
        states = run.states(hierarchy)
        units = [unit for part in plan.segments for unit in build_units(part, settings.seed)]
        for unit, state in zip(units, states, strict=True):
            unit.load_state_dict(state)
        make_folder(path.parent)
        num_heads = None if self._config.runtime.all_heads else len(plan.exit_heads)
        save_weights(path, units, settings, self._facts, num_heads)


def kept_path(directory: StudyDir, trial: TrialRecord) -> Path:
    """Where the weights of a trial are kept: by its hierarchy, and its place where that is not all
    there is of its name.
    """
    name = str(Hierarchy(trial.hierarchy.blocks))
    if trial.hierarchy.settings:
        name += "_" + "-".join(map(str, trial.order))
    return directory.weights / f"{re.sub(r'[^0-9A-Za-z-_]', '_', name)}{SUFFIX}"


def baseline_config(config: StudyConfig, hierarchy: Hierarchy, accuracy: float) -> RunConfig:
    """The settings of a study's baseline."""
    run = run_config(config, str(hierarchy), {"val_accuracy": accuracy})
    return run.model_copy(update={"mode": "global"})


def place_best(directory: StudyDir, trial: TrialRecord) -> None:
    """Let the winner's weights lie beside its config; those of an earlier winner go."""
    kept = kept_path(directory, trial)
    if not kept.is_file():
        remove_file(directory.best_weights)
        return
    if directory.best_weights.is_file() and directory.best_weights.samefile(kept):
        return
    with atomic_write(directory.best_weights) as temporary:
        remove_file(temporary)  # a link that was left must not be written through
        try:
            os.link(kept, temporary)
        except OSError:
            shutil.copyfile(kept, temporary)
