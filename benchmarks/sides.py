"""A checkout of dsaccel as one side of a comparison: run and read as a user runs and reads it.

By the command line, the files that it writes, and Optuna; in processes of its own.
"""

import csv
import json
import os
import shlex
import sqlite3
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

Facts = dict[str, str]
"""By what they say, as text that keeps every bit."""
ATTRIBUTES = ("hierarchy", "harvested", "reference", "feasible", "val_accuracy", "num_parameters")
ATTRIBUTES += ("flops", "num_local_losses", "shallow_scale", "epochs_trained")
LEFT_OUT = {"time_s", "alone_s", "seconds", "date", "storage", "files", "versions", "sentences"}
LEFT_OUT |= {"command", "why", "split", "name", "settings", "landscape", "peak_memory_bytes"}
LEFT_OUT |= {"test_accuracy", "test_ensemble"}
"""Keys of what depends on time, place or wording."""
STATISTICS = {"low", "high", "p_value", "p_holm", "detectable", "std", "variance"}
"""Keys of what a library may compute in another order: compared to nine digits."""

SPACE = 'family = "resnet18"\nnum_blocks = [[1, 2], [1, 2], [1, 3]]\n'
SETTINGS = """[settings]
learning_rate = {low = 1e-3, high = 1e-2, log = true}
loss = {choices = ["predsim", "pred"]}
granularity_per_stage = {choices = ["conv", "block"]}
first_loss = {low = 1, high = 2}
"""
SMALL = "--space space.toml --epochs 4 --train-images 300 --batch-size 32 --learning-rate 5e-3"
SMALL += " --threads 1 --set budget.baseline=false"


class FailedError(Exception):
    """A side could not be run."""


class Side:
    """A checkout, and a folder that it runs in."""

    def __init__(self, checkout: Path, folder: Path, *, full: bool = False) -> None:
        self.checkout, self.folder, self.full = checkout, folder, full
        folder.mkdir(parents=True)
        (folder / "space.toml").write_text(SPACE, encoding="utf-8")
        (folder / "settings.toml").write_text(SPACE + SETTINGS, encoding="utf-8")

    def start(self, *arguments: str, path: str = "", **streams: Any) -> subprocess.Popen[str]:
        """Start Python with this side's package."""
        places = [str(self.checkout), *filter(None, [path])]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(places), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, *arguments]
        return subprocess.Popen(command, cwd=self.folder, env=environment, text=True, **streams)

    def run(self, *arguments: str) -> str:
        """Run Python with this side's package to its end; what it printed."""
        process = self.start(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        printed, errors = process.communicate()
        if process.returncode:
            raise FailedError(
                f"{shlex.join(arguments)} ended with {process.returncode}: {errors[-500:]}"
            )
        return printed

    def dsaccel(self, command: str) -> Facts:
        """Run a command that prints one JSON object."""
        return flatten(json.loads(self.run("-m", "dsaccel", *shlex.split(command), "--json", "-q")))

    def search(self, options: str = "") -> Facts:
        """Run or continue the small study `s`."""
        return self.dsaccel(f"search digits --study-name s {SMALL} {options}")

    def kill_search(self, options: str, step: int) -> None:
        """Search until a rung is stored, and no further."""
        command = shlex.split(f"-m dsaccel search digits --study-name s -q {SMALL} {options}")
        process = self.start(*command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with closing(sqlite3.connect(self.folder / "studies/s/study.db")) as database:
            query = "SELECT MAX(step) FROM trial_intermediate_values"
            while process.poll() is None and database.execute(query).fetchone()[0] < step:
                time.sleep(0.02)
        process.kill()
        if process.wait() >= 0:
            raise FailedError(f"the search was over before it could be killed after step {step}")


def flatten(document: Any, key: str = "printed") -> Facts:
    """Every value of nested tables and lists, by its path."""
    last = key.rpartition(".")[2]
    if last in LEFT_OUT:
        return {}
    if isinstance(document, dict):
        children = document.items()
    elif isinstance(document, list):
        children = enumerate(document)
    else:
        is_rounded = isinstance(document, float) and not STATISTICS.isdisjoint(key.split("."))
        return {key: f"{document:.9g}" if is_rounded else repr(document)}
    return {k: v for name, child in children for k, v in flatten(child, f"{key}.{name}").items()}


def read_study(side: Side, name: str = "s") -> Facts:
    """All trials, the harvest, and the exported best of a study."""
    folder = side.folder / "studies" / name
    study = optuna.load_study(study_name=name, storage=f"sqlite:///{folder}/study.db")
    facts: Facts = {}
    for trial in study.get_trials():
        key = f"trial {trial.number}"
        facts[f"{key} state"] = trial.state.name
        facts[f"{key} params"] = repr(sorted(trial.params.items()))
        if trial.state == TrialState.FAIL:
            continue  # how far it came depends on time
        facts[f"{key} value"] = repr(trial.value)
        values = trial.intermediate_values.items()
        facts |= {f"{key} rung {step}": repr(value) for step, value in values}
        facts |= {f"{key} {name}": text for name, text in read_attributes(trial, folder)}
    if (folder / "best.toml").is_file():
        best = tomllib.loads((folder / "best.toml").read_text(encoding="utf-8"))
        facts |= flatten(best, "best.toml")
    return facts | read_table(folder / "harvest.csv", ["hierarchy"])


def read_attributes(trial: FrozenTrial, folder: Path) -> Iterator[tuple[str, str]]:
    """What a trial says of its network, and its heads' accuracies step by step.

    The one place that knows where a version keeps them.
    """
    for name in ATTRIBUTES:
        if name in trial.user_attrs:
            yield name, repr(trial.user_attrs[name])
    rungs = trial.user_attrs.get("head_accuracies")
    if rungs is None:
        cohort, place = (trial.user_attrs[name] for name in ("cohort", "place"))
        rungs = json.loads((folder / "heads" / f"{cohort}-{place}.json").read_text("utf-8"))
    if isinstance(rungs, dict):  # with those of the ensemble beside them
        rungs = rungs["heads"]
    for step, heads in enumerate(rungs, 1):
        yield f"heads {step}", repr(tuple(heads))


def read_table(path: Path, key: list[str]) -> Facts:
    """The cells of a CSV file, if it is there; lines that begin with # are left out."""
    if not path.is_file():
        return {}
    lines = [t for t in path.read_text(encoding="utf-8").splitlines() if not t.startswith("#")]
    return {
        f"{path.name} {' '.join(row[name] for name in key)} {column}": cell
        for row in csv.DictReader(lines)
        for column, cell in row.items()
        if column not in LEFT_OUT
    }
