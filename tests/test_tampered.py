"""Attributes of a study that someone has changed end in one line, or change nothing."""

import json
import shutil
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import optuna
import pytest
from tiny_study import TABLES, searched

from dsaccel.analysis.pareto import read_front
from dsaccel.api import Study
from dsaccel.errors import UserError
from dsaccel.report.study_table import headline, trials_table
from dsaccel.search.outcome import before_training
from dsaccel.spec.costs import find_costs

pytestmark = pytest.mark.long

SHORT: dict[str, Any] = {
    "training": {"epochs": 1},
    "budget": {"n_trials": 2, "cohort_size": 2, "baseline": False},
}
RECORD = json.dumps({"space": 1, "number": "x", "asked": 5, "val_accuracy": "x"})
ODD = ["5", "null", '"x y"', "[1]", '{"x": 1}', RECORD, "-1e300", "true"]
OF_STUDY = (
    *("schema", "fingerprint", "num_val", "num_classes", "data_notes", "parts", "config", "cohort"),
    *("global", "baseline", "confirmation", "test_readings", "time_s"),
)
OF_TRIAL = (
    *("hierarchy", "cohort", "place", "reference", "harvested", "feasible", "val_accuracy"),
    *("diverged", "head_stages", "num_parameters", "flops", "num_local_losses", "shallow_scale"),
    *("time_s", "alone_s", "epochs_trained", "heads_sha256"),
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("whole"))
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        searched(**SHORT)
        return Path("studies/tiny").resolve()


def use(study: Study) -> None:
    """What the commands do with a study that is there."""
    with suppress(UserError):
        study.report()
        assert headline(study.record)
        assert trials_table(study.record)
        assert repr(study)
        read_front(study.record, find_costs(["parameters"]))
    with suppress(UserError):
        study.export("best.toml", force=True)
    with suppress(UserError):
        list(before_training(study.engine))
    with suppress(UserError):
        next(study.confirm(num_seeds=1, top=1, controls=False), None)


@pytest.mark.parametrize(
    ("table", "key"),
    [("study", key) for key in OF_STUDY] + [("trial", key) for key in OF_TRIAL],
    ids=lambda text: text,
)
@pytest.mark.parametrize("half", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_tampered_attribute_is_told_or_passed_over(
    whole, tmp_path, monkeypatch, table, key, half
):
    monkeypatch.chdir(tmp_path)
    for odd in ODD[(len(key) + half) % 2 :: 2]:
        shutil.rmtree("studies", ignore_errors=True)
        shutil.copytree(whole, "studies/tiny")
        with closing(sqlite3.connect("studies/tiny/study.db")) as database, database:
            rows = f"{table}_user_attributes"
            database.execute(f"DELETE FROM {rows} WHERE key = ?", (key,))
            database.execute(
                f"INSERT INTO {rows}({table}_id, key, value_json) VALUES (1, ?, ?)", (key, odd)
            )
        with suppress(UserError):
            use(Study.open(TABLES | SHORT, folder="studies/tiny"))
