"""A study whose networks are read at another exit: search, page, export, evaluation, landscape."""

import json

import pytest
from helpers import read_as
from tiny_study import TABLES, searched, searching, tiny_run, write_study
from typer.testing import CliRunner

from dsaccel.analysis.landscape_files import read_landscape, write_landscape
from dsaccel.analysis.recorded import record_landscape
from dsaccel.cli.app import app
from dsaccel.config.toml import write_toml
from dsaccel.errors import ConfigError
from dsaccel.report.study_page import write_report
from dsaccel.report.study_table import headline
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.training import descent
from dsaccel.training.memory import training_bytes
from dsaccel.training.train import Training

pytestmark = pytest.mark.usefixtures("own_folder")

SMALL = {
    "references": (),
    "budget": {"n_trials": 8, "cohort_size": 8, "baseline": True},
    "training": {"epochs": 2},
    "pruning": {"kind": "none"},
}


@pytest.mark.long
@pytest.mark.parametrize("exit", ["head", "ensemble"])
def test_a_study_follows_its_exit(exit, tmp_path):
    network = {"output": exit, "granularity": "block", "head": "gap", "loss": "pred"}
    search = searched("tiny", network=network, **SMALL)
    record = search.ledger.record()
    for trial in record.finished:
        assert trial.value == trial.exits[exit]
        assert set(trial.exits) == {"head", "ensemble"}
        assert trial.by_step[2] == trial.value  # pruning follows it
        assert trial.ensembles[-1] == trial.exits["ensemble"]
    assert record.baseline is not None
    assert search.config.pruning.by == exit
    assert "exits     last head" in headline(record)
    write_report(record, tmp_path / "report.html")
    assert "Networks are read at the" in (tmp_path / "report.html").read_text()
    # a landscape keeps what an ensemble cannot be computed from
    landscape = record_landscape([record])
    write_landscape(landscape, tmp_path / "tiny.csv")
    again = read_landscape(tmp_path / "tiny.csv")
    assert again == landscape
    for trial in record.finished:
        assert again.objective(1, trial.hierarchy) == trial.value
    best = max(record.finished, key=lambda trial: trial.value or 0)
    # the network alone, exported and read again
    own = tiny_run()
    run = tiny_run(
        hierarchy=best.name,
        seed=1,
        network={**own.network.model_dump(mode="json"), **network},
        training={**own.training.model_dump(mode="json"), "epochs": 2},
    )
    training = Training(run)
    for _ in training.rungs():
        pass
    assert training.result().val_accuracy == best.value
    write_toml(tmp_path / "run.toml", run)
    shown = CliRunner().invoke(app, ["train", "run.toml", "--output", "w.safetensors", "--json"])
    assert shown.exit_code == 0, shown.output
    read = CliRunner().invoke(app, ["evaluate", "w.safetensors", "--split", "val", "--json"])
    assert read.exit_code == 0, read.output
    assert json.loads(read.stdout)["accuracy"] == best.value


def test_a_space_is_bounded_by_what_training_takes():
    bounded, bench = {}, searching("free", **SMALL).bench
    plans = {h: bench.plan(h) for h in bench.space.feasible() or []}
    steps = sorted(plan.step_flops for plan in plans.values())
    bounded["max_step_flops"] = steps[len(steps) // 2]
    memory = {h: training_bytes(bench.config.training)(plan) for h, plan in plans.items()}
    bounded["max_training_mib"] = round(min(memory.values()) / 2**20, 1)
    for name, most in bounded.items():
        space = {**TABLES["space"], name: most}
        found = searching(name, **SMALL | {"space": space}).space.feasible()
        costs = (
            {h: p.step_flops for h, p in plans.items()}
            if "step" in name
            else {h: round(num / 2**20, 1) for h, num in memory.items()}
        )
        assert found is not None
        assert found == [h for h in plans if costs[h] <= most]
        assert 0 < len(found) < len(plans)
    # heads are counted: their branches are most of what is to be saved
    plan = plans[Hierarchy((1, 1, 1))]
    assert plan.step_flops == 3 * sum(segment.flops for segment in plan.segments) > 3 * plan.flops
    with pytest.raises(ConfigError, match=r"training_mib .*at most 0\.1, but they have"):
        searching("none", **SMALL | {"space": {**TABLES["space"], "max_training_mib": 0.1}})


def test_a_network_below_its_first_head_is_a_warning(monkeypatch):
    monkeypatch.setattr(descent, "_read", lambda trie, h, accuracies: read_as((0.9, 0.5, 0.4, 0.3)))
    search = searched("worse", **SMALL | {"budget": {"n_trials": 1, "baseline": False}})
    text = headline(search.ledger.record())
    assert "below its first head with 90.00" in text
    assert "depth     no head is better than head 1 of 4, with 90.00 %" in text


def test_a_network_whose_last_head_is_the_best_is_told_so(monkeypatch):
    monkeypatch.setattr(descent, "_read", lambda trie, h, accuracies: read_as((0.1, 0.5, 0.4, 0.9)))
    search = searched("better", **SMALL | {"budget": {"n_trials": 1, "baseline": False}})
    assert "depth     the last head is the best" in headline(search.ledger.record())


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"network": {"output": "head"}, "pruning": {"by": "output"}},
            "pruning.by must be head or ensemble where networks have no output layer",
        ),
        (
            {"network": {"output": "head", "granularity": ["stage", "stage", "none"]}},
            "network.output must be layer where the output layer trains the last unit",
        ),
        (
            {"network": {"output": "ensemble", "granularity": "none"}},
            "network.output must be layer where the output layer trains the last unit",
        ),
        ({"network": {"output": "best"}}, "output must be 'layer', 'head' or 'ensemble'"),
        ({"training": {"optimizer_options": {"momentum": 0.9}}}, "momentum"),
        ({"confirm": {"margin": -0.5}}, "confirm.margin must be greater than 0, but got -0.5"),
        ({"network": {"head": "tail", "head_options": {"ratio": 2.0}}}, "ratio"),
    ],
)
def test_an_exit_or_an_option_that_there_is_not_is_refused(sections, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        searched("odd", **SMALL | sections)
    write_study(tmp_path / "odd.toml", **SMALL | sections)
    refused = CliRunner().invoke(app, ["search", "odd.toml"])
    assert refused.exit_code == 2
