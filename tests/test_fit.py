"""`dsaccel fit`: the best network for some images, a memory and a time, however it is trained."""

import json
from pathlib import Path

import pytest
from helpers import write_images
from typer.testing import CliRunner

from dsaccel.cli.app import app
from dsaccel.config.study import RunConfig
from dsaccel.config.toml import parse_config, read_toml
from dsaccel.training.memory_limit import MemoryLimit
from dsaccel.training.train import Training

pytestmark = pytest.mark.long

SMALL = ("--width", "0.0625", "--epochs", "2", "--n-trials", "2", "--threads", "1", "--device=cpu")


@pytest.fixture(autouse=True)
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_images(Path("photos"))


def fit(*options: str):
    return CliRunner().invoke(app, ["fit", "--data", "photos", *SMALL, *options])


def test_every_way_of_training_that_fits_is_tried_and_the_best_is_there_to_be_used():
    result = fit("--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    names = [outcome["name"].split(" ")[0] for outcome in told["outcomes"]]
    assert names[0] == "layer-wise"
    assert "back-propagation" in names
    assert all(outcome["val_accuracy"] is not None for outcome in told["outcomes"])
    best = max(told["outcomes"], key=lambda outcome: outcome["val_accuracy"])
    assert told["chosen"] == best["name"]
    assert all(Path(path).is_file() for path in told["files"].values())
    options = ("--split", "val", "--json")
    evaluated = CliRunner().invoke(app, ["evaluate", told["files"]["weights"], *options])
    assert json.loads(evaluated.stdout)["accuracy"] == best["val_accuracy"]
    run = parse_config(RunConfig, read_toml(Path(told["files"]["config"])), "fit.toml")
    assert run.result is not None
    assert run.result["val_accuracy"] == best["val_accuracy"]
    assert "is chosen for the highest validation accuracy" in run.result["chosen"]


def test_what_does_not_fit_into_memory_or_time_is_told_and_not_trained(monkeypatch):
    needed = MemoryLimit._needed

    def needed_by(self, plans, training):
        is_whole = any(len(plan.segments) == 1 for plan in plans.values())
        return 2**60 if is_whole and not training.recompute else needed(self, plans, training)

    monkeypatch.setattr(MemoryLimit, "_needed", needed_by)
    monkeypatch.setattr("dsaccel.fit.Fit._seconds", lambda *_: 1e6)
    result = fit("--json")
    assert result.exit_code == 0, result.output
    first, *others = json.loads(result.stdout)["outcomes"]
    assert not any(outcome["name"].startswith("back-propagation") for outcome in others)
    checkpointed = [o for o in others if o["name"].startswith("checkpointed back-propagation")]
    assert checkpointed
    for outcome in others:
        assert outcome["val_accuracy"] is None
        assert outcome["why"].startswith("not trained: it takes about 277 h 46 min")
    assert first["name"].startswith("layer-wise")


def test_a_fit_that_was_stopped_goes_on_to_the_same(monkeypatch):
    expected = fit("--json", "--name", "whole")
    learn, trained = Training.rungs, []

    def until_the_second(self, checkpoint):
        trained.append((self.run.mode, self.run.hierarchy, str(self.run.network.granularity)))
        for rung in learn(self, checkpoint):
            yield rung
            if len(trained) == 2:
                raise KeyboardInterrupt

    monkeypatch.setattr(Training, "rungs", until_the_second)
    stopped = fit("--json", "--name", "mine")
    assert stopped.exit_code == 130
    assert "stopped; continue with" in stopped.stderr
    again = fit("--json", "--name", "mine")
    assert again.exit_code == 0, again.output
    told, others = json.loads(again.stdout), json.loads(expected.stdout)
    assert [(o["name"], o["val_accuracy"]) for o in told["outcomes"]] == [
        (o["name"], o["val_accuracy"]) for o in others["outcomes"]
    ]
    assert told["chosen"] == others["chosen"]
    assert trained[0] not in trained[1:]
    assert trained[1] == trained[2]
    assert {path.name for path in Path("studies/mine").glob("fit*")} == {
        *("fit.json", "fit.toml", "fit.safetensors")
    }
    done = fit("--json", "--name", "mine")
    assert (done.exit_code, "of a fit that is done" in done.stderr) == (2, True)
    changed = fit("--json", "--name", "mine", "--budget", "2h")
    assert changed.exit_code == 2


def test_a_fit_does_not_go_over_an_earlier_one():
    Path("studies").mkdir()
    Path("studies/photos-fit.toml").write_text("")
    result = fit()
    assert (result.exit_code, "exists already" in result.stderr) == (2, True)
