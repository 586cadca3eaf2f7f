"""A study from Python: what the commands do, in any folder and without a terminal."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_study
import torch

import dsaccel
from dsaccel.errors import ConfigError, NoResultError

SMALL = {"budget": {"n_trials": 2, "baseline": False}, "training": {"epochs": 2}}


def opened(folder: str = "somewhere/mine", **sections) -> dsaccel.Study:
    return dsaccel.Study.open(tiny_study.tables(**(SMALL | sections)), folder=folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Of a study that was searched."""
    path = tmp_path_factory.mktemp("studies") / "mine"
    for _ in opened(str(path)).search():
        pass
    return path


@pytest.fixture
def loaded(folder, tmp_path, monkeypatch) -> dsaccel.Study:
    monkeypatch.chdir(tmp_path)
    return dsaccel.Study.load(folder)


def test_a_study_is_searched_in_any_folder_and_tells_each_rung(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = []
    study = opened()
    assert repr(study) == "<Study mine: not begun>"
    seen = list(study.search(callbacks=[told.append]))
    assert seen == told
    assert [progress.step for progress in seen] == [1, 2]
    assert {path.name for path in Path("somewhere/mine").iterdir()} >= {
        *("study.toml", "study.db", "best.toml", "report.html")
    }
    assert [path.name for path in tmp_path.iterdir()] == ["somewhere"]
    assert "best 2-1-" in repr(study)
    assert list(opened().search()) == []


def test_a_study_that_was_run_is_read(loaded):
    rows = loaded.trials()
    assert len(rows) == 2
    assert loaded.best == rows[0]
    assert loaded.optuna.best_value == rows[0].accuracy
    assert loaded.name == "mine"
    assert loaded.config.training.epochs == 2
    assert loaded.confirmation is None


def test_the_command_line_finds_what_python_made_and_says_the_same(loaded):
    from test_cli import run

    result = run("search", loaded.folder / "study.toml", "--study-name", "again", "--json")
    assert result.exit_code == 0, result.output
    best = json.loads(result.stdout)["best"]
    assert loaded.best is not None
    assert best["val_accuracy"] == loaded.best.accuracy
    assert run("report", loaded.folder).exit_code == 0


def test_trials_are_a_data_frame_where_pandas_is(loaded, monkeypatch):
    class Frame(list):
        pass

    class Pandas:
        DataFrame = Frame

    monkeypatch.setitem(sys.modules, "pandas", Pandas)
    assert [row["hierarchy"] for row in loaded.to_frame()] == [
        row.hierarchy for row in loaded.trials()
    ]
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        loaded.to_frame()


def test_the_best_is_exported_and_another_one_too(loaded, tmp_path):
    run = loaded.export(tmp_path / "best.toml")
    assert run.hierarchy == loaded.best.hierarchy
    with pytest.raises(ConfigError, match="exists already"):
        loaded.export(tmp_path / "best.toml")
    assert loaded.export(tmp_path / "best.toml", "3-3-3", force=True).result is None
    with pytest.raises(ConfigError, match="must exist"):
        loaded.export(tmp_path / "no" / "best.toml")
    built = dsaccel.build_network(tmp_path / "best.toml", num_classes=10)
    own = loaded.network("3-3-3")
    assert own(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    for a, b in zip(built.parameters(), own.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_figure_of_the_page_is_drawn_by_its_name(loaded):
    assert len(loaded.figure("history").data) > 0
    assert len(loaded.figure("hierarchies", limit=1).data[0].y) == 1
    nothing = loaded.figure("confirmation")
    assert len(nothing.data) == 0
    assert "this figure needs a confirmation" in nothing.layout.annotations[0].text
    with pytest.raises(ConfigError, match=r"must be one of confirmation, history, .* got 'x'"):
        loaded.figure("x")
    with pytest.raises(ConfigError, match=r"figure history: unknown key x"):
        loaded.figure("history", x=1)


def test_a_study_is_confirmed(folder, tmp_path):
    study = dsaccel.Study.load(folder)
    seen = list(study.confirm(top=1, num_seeds=1, controls=False, tuning_trials=1))
    assert {progress.phase for progress in seen} >= {"local", "global"}
    assert study.confirmation is not None
    assert len(study.confirmation.results()) > 0
    assert (folder / "confirmation.json").is_file()


def test_what_training_changes_of_the_process_is_given_back(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("dsaccel.training.device.torch.set_num_threads", threads := [].append)
    set_to: list[int] = threads.__self__
    before = torch.get_num_threads()
    for _ in opened(runtime={"device": "cpu", "threads": 3}).search():
        assert set_to == [3]
        break
    assert set_to == [3, before]


@pytest.mark.long
def test_images_in_memory_are_searched_and_confirmed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    x, y = draw.integers(0, 256, (96, 8, 8), dtype=np.uint8), np.arange(96) % 4
    images = dsaccel.ArraySource(x, y, test=(x[:16], y[:16]), flip=False)
    tables = tiny_study.tables(**SMALL)
    tables["data"] = {"val_fraction": 0.25}
    study = dsaccel.Study.open(tables, folder="mine", data=images)
    list(study.search())
    assert study.best is not None
    few = {"top": 1, "num_seeds": 1, "controls": False, "tuning_trials": 1}
    with pytest.raises(ConfigError, match="go on in Python, with the same"):
        list(dsaccel.Study.load("mine").confirm(**few))
    again = dsaccel.Study.load("mine", data=images)
    list(again.confirm(**few))
    assert again.confirmation is not None
    assert again.confirmation.num_images["test"] == 16


def test_a_search_that_is_broken_off_leaves_its_files_and_continues(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in opened().search():
        break
    assert Path("somewhere/mine/report.html").is_file()
    list(opened().search())
    assert len(dsaccel.Study.load("somewhere/mine").trials()) >= 2


def test_remarks_are_logged(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.INFO, logger="dsaccel")
    study = opened()
    for _ in range(2):
        list(study.search())
    assert "study mine is finished: 2 hierarchies trained; nothing to do" in caplog.text


def test_a_finished_search_without_a_winner_says_how_to_get_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = opened(budget={"n_trials": 1, "baseline": False}, space={"num_blocks": [[1, 1]] * 3})
    list(study.search())
    with pytest.raises(NoResultError, match="train more with a larger --n-trials"):
        study.check_winner()
    with pytest.raises(NoResultError, match="train more with: dsaccel search"):
        study.export(tmp_path / "best.toml")


def test_mistakes_are_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="needs a folder"):
        dsaccel.Study.open(tiny_study.tables())
    with pytest.raises(ConfigError, match=r"training\.epochs"):
        dsaccel.Study.open("digits", settings={"training.epochs": 0})
    with pytest.raises(ConfigError, match="known here"):
        dsaccel.Study.load("nowhere")
    with pytest.raises(ConfigError, match=r"must be one that was run, but .*study\.toml"):
        dsaccel.Study.load("digits")


def test_the_public_names_are_shown_and_importing_them_is_light():
    assert dir(dsaccel) == sorted([*dsaccel.__all__, "__version__"])
    for name in dsaccel.__all__:
        assert getattr(dsaccel, name).__name__ == name
    code = (
        "import sys, dsaccel; dir(dsaccel); print({'torch', 'optuna', 'pydantic'} & {*sys.modules})"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "set()\n"
