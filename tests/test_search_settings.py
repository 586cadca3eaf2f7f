"""Searches of settings beside the counts, end to end on a tiny study."""

import csv
import itertools
import json
import random
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from tiny_study import config, heads, recorded, rows, searched, searching, write_study
from typer.testing import CliRunner

from dsaccel.analysis.recorded import record_landscape
from dsaccel.cli.app import app
from dsaccel.config.study import RunConfig
from dsaccel.config.toml import parse_config, read_toml
from dsaccel.errors import ConfigError, MismatchError
from dsaccel.report.results import write_results
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.trie import Trie
from dsaccel.study.export import run_config
from dsaccel.study.record import StudyRecord
from dsaccel.study.rows import best_trial, find_trial
from dsaccel.training.train import Training
from dsaccel.training.workbench import Workbench

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("own_folder")]

JOINT: dict[str, Any] = {
    "learning_rate": {"low": 1e-3, "high": 1e-1, "log": True},
    "loss": {"choices": ["predsim", "pred"]},
}
SMALL: dict[str, Any] = {
    "references": [],
    "data": {"train_images": 32},
    "network": {"width": 1 / 32},
    "training": {"epochs": 2},
    "pruning": {"kind": "none"},
    "budget": {"n_trials": 4, "cohort_size": 4, "strategy": "random", "baseline": False},
}


def space(settings, bounds=((1, 1), (1, 1), (1, 2))) -> dict[str, Any]:
    return {"num_blocks": [list(pair) for pair in bounds], "settings": settings}


WHOLE: dict[str, Any] = {
    "space": space(JOINT, ((1, 1), (1, 2), (1, 3))),
    "references": ["2-1-1"],
    "data": {"train_images": 32},
    "training": {"epochs": 3},
    "budget": {"n_trials": 8, "cohort_size": 4, "strategy": "random", "baseline": True},
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A search of counts, learning rate and loss, and the folder that it ran in."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        search = searched("joint", **WHOLE)
        write_results(search)
    return search, folder


@pytest.fixture
def finished(whole, monkeypatch):
    """That search, in its folder; for tests that only read it."""
    search, folder = whole
    monkeypatch.chdir(folder)
    return search


def names(search) -> list[str]:
    return [trial.user_attrs["hierarchy"] for trial in search.study.trials]


SEARCHED: dict[str, dict[str, Any]] = {
    "learning_rate": JOINT["learning_rate"],
    "dropout": {"low": 0.0, "high": 0.7, "step": 0.1},
    "width": {"choices": [1 / 32, 1 / 16]},
    "loss": {"choices": ["predsim", "pred", "sim", "mse"]},
    "granularity": {"choices": ["conv", "block", "stage"]},
    "granularity_per_stage": {"choices": ["conv", "block", "stage"]},
    "cuts": {"choices": [True, False]},
    "first_loss": {"low": 1, "high": 7},
    "beta": {"low": 0.5, "high": 0.99},
    "decoder_size": {"low": 512, "high": 4096, "log": True},
    "pred_conv": {"choices": [True, False]},
    "sim_kernel": {"choices": [1, 3]},
}


@pytest.mark.parametrize("setting", SEARCHED)
def test_each_setting_is_searched_and_stored_as_its_own_parameter(setting):
    search = searched("one", space=space({setting: SEARCHED[setting]}), **SMALL)
    trials = [t for t in search.study.trials if not t.user_attrs.get("harvested")]
    assert [t.state for t in trials] == [TrialState.COMPLETE] * 4
    assert len(set(names(search))) == len(search.study.trials)
    parameters = {f"num_blocks_s{i}" for i in (1, 2, 3)}
    per_stage = {f"granularity_s{i}" for i in (1, 2, 3)}
    parameters |= per_stage if setting == "granularity_per_stage" else {setting}
    for trial in search.study.trials:
        hierarchy = Hierarchy.parse(trial.user_attrs["hierarchy"])
        assert [name for name, _ in hierarchy.settings] == [setting.removesuffix("_per_stage")]
        assert trial.params.keys() == parameters
        assert search.space.from_params(trial.params) == hierarchy
        assert search.space.violation(hierarchy) is None
    assert len({Hierarchy.parse(name).settings for name in names(search)}) > 1
    # what is stored is what the same network reaches on its own
    trial = trials[-1]
    run = run_config(search.config, trial.user_attrs["hierarchy"], None)
    training = Training(run)
    assert [rung.step for rung in training.cohort.rungs()] == [1, 2]
    expected = heads(search)[trial.user_attrs["hierarchy"]]
    assert training.cohort.head_accuracies(training.hierarchy) == expected
    assert training.plan.num_parameters == trial.user_attrs["num_parameters"]


@pytest.mark.parametrize("schedule", ["simultaneous", "sequential"])
def test_all_settings_are_searched_at_once(schedule):
    without = {"simultaneous": {"granularity"}, "sequential": {"granularity", "cuts"}}[schedule]
    settings = {name: values for name, values in SEARCHED.items() if name not in without}
    sections = SMALL | {"training": {"epochs": 1, "schedule": schedule}}
    search = searched("all", space=space(settings), **sections)
    assert search.num_trained == 4
    trial = best_trial(search.ledger.record())
    assert trial is not None
    run = run_config(search.config, trial.name, None)
    training = Training(run)
    *_, last = training.cohort.rungs()
    assert last.objective(training.hierarchy) == trial.value


def test_the_reference_has_the_study_s_own_settings_and_is_never_pruned(finished):
    own = "2-1-1 learning_rate=0.02 loss=predsim"
    assert finished.config.references == (own,)
    first = finished.study.trials[0]
    assert first.user_attrs["hierarchy"] == own
    assert first.user_attrs["reference"] is True
    assert first.state == TrialState.COMPLETE
    assert finished.num_trained == 8


def test_what_is_shared_is_what_trains_identically(finished):
    asked = [t for t in finished.study.trials if not t.user_attrs.get("harvested")]
    hierarchies = [Hierarchy.parse(t.user_attrs["hierarchy"]) for t in asked]
    tries = [Trie({h: finished.plan(h) for h in hierarchies[i : i + 4]}) for i in (0, 4)]
    # no two have one learning rate: nothing is shared
    assert all(trie.blocks_trained == trie.blocks_separate for trie in tries)
    record, epochs = finished.ledger.record(), finished.config.training.epochs
    learned = sum((1 + t.hierarchy.num_blocks) * max(t.by_step) for t in record.trained)
    assert record.blocks_trained == pytest.approx(learned / epochs)


def test_a_harvested_network_has_the_settings_of_the_network_it_was_read_from(finished):
    read = [t.user_attrs["hierarchy"] for t in finished.study.trials if "harvested" in t.user_attrs]
    if finished.directory.harvest.exists():
        with finished.directory.harvest.open() as file:
            read += [row["hierarchy"] for row in csv.DictReader(file)]
    asked = [Hierarchy.parse(name) for name in names(finished) if name not in read]
    assert read
    for hierarchy in map(Hierarchy.parse, read):
        (longer,) = (h for h in asked if h.settings == hierarchy.settings)
        assert longer.blocks[:-1] == hierarchy.blocks[:-1]
        assert longer.blocks[-1] > hierarchy.blocks[-1]


def invoke(*args: str) -> dict[str, Any]:
    result = CliRunner().invoke(app, [*args, "--json", "--quiet"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_the_exported_best_trains_to_its_accuracy_to_the_last_digit(finished):
    best = best_trial(finished.ledger.record())
    assert best is not None
    path = finished.directory.best
    config = parse_config(RunConfig, read_toml(path), "best.toml")
    candidate = Hierarchy.parse(best.name)
    assert config.hierarchy == str(candidate.with_settings({}))
    assert config.training.learning_rate == dict(candidate.settings)["learning_rate"]
    assert config.network.loss == dict(candidate.settings)["loss"]
    for target in ([str(path)], [best.name, "--study", "joint"]):
        result = invoke("train", *target)
        assert result["val_accuracy"] == best.value
        assert result["head_accuracies"] == heads(finished)[best.name]


def test_the_baseline_is_the_winner_with_its_settings_trained_globally(finished):
    best = best_trial(finished.ledger.record())
    baseline = finished.study.user_attrs["baseline"]
    assert best is not None
    assert baseline["hierarchy"] == best.name
    result = invoke("train", str(finished.directory.best), "--mode", "global")
    assert baseline["val_accuracy"] == result["val_accuracy"]


def test_any_trial_is_exported_by_its_name_and_the_best_of_its_counts(finished, tmp_path):
    complete = [t for t in finished.study.trials if t.state == TrialState.COMPLETE]
    last = complete[-1].user_attrs["hierarchy"]
    counts = last.split()[0]
    of_counts = [t for t in complete if t.user_attrs["hierarchy"].split()[0] == counts]
    for name, expected in [
        (last, complete[-1].number),
        (counts, max(of_counts, key=lambda t: t.values[0]).number),
    ]:
        output = tmp_path / f"{expected}.toml"
        args = ["export", "joint", "--hierarchy", name, "-o", str(output), "--force"]
        result = CliRunner().invoke(app, args)
        assert result.exit_code == 0, result.output
        exported = parse_config(RunConfig, read_toml(output), "")
        assert exported.result is not None
        assert exported.result["trial"] == expected
    args = ["export", "joint", "--hierarchy", f"{counts} loss=mse", "-o", str(tmp_path / "x.toml")]
    assert CliRunner().invoke(app, args).exit_code == 0
    untrained = parse_config(RunConfig, read_toml(tmp_path / "x.toml"), "")
    assert untrained.result is None
    assert untrained.network.loss == "mse"


def test_of_trials_with_equal_counts_the_best_is_found_and_any_by_its_whole_name():
    study = optuna.create_study(direction="maximize")
    for name, value in [("1-2", 0.1), ("1-1 width=0.5", 0.3), ("1-1 width=0.25", 0.5)]:
        attributes = {"hierarchy": name, "flops": 1}
        study.add_trial(optuna.create_trial(value=value, user_attrs=attributes))
    found = {
        name: find_trial(StudyRecord.read(study), Hierarchy.parse(name))
        for name in ("1-1", "1-1 width=0.5", "1-2", "2-2", "1-1 width=1")
    }
    numbers = {name: trial and trial.number for name, trial in found.items()}
    assert numbers == {"1-1": 2, "1-1 width=0.5": 1, "1-2": 0, "2-2": None, "1-1 width=1": None}


def test_settings_on_the_command_line_are_those_of_the_network():
    write_study(Path("studies/tiny.toml"), references=[], training={"epochs": 1})
    options = ("--learning-rate", "0.001", "--loss", "pred", "--set", "network.pred_conv=true")
    one = invoke("train", "1-1-1", "--study", "tiny", *options)
    name = "1-1-1 loss=pred learning_rate=1e-3 pred_conv=true"
    other = invoke("train", name, "--study", "tiny")
    plain = invoke("train", "1-1-1", "--study", "tiny")
    small = ("--data", "digits", "--train-images", "140", "--batch-size", "16", "--epochs", "2")
    small += ("--learning-rate", "0.02", "--width", "0.0625")
    assert (
        invoke("train", "1-1-1 loss=mse", *small)["head_accuracies"]
        == invoke("train", "1-1-1", *small, "--loss", "mse")["head_accuracies"]
        != invoke("train", "1-1-1", *small)["head_accuracies"]
    )
    assert one["head_accuracies"] == other["head_accuracies"] != plain["head_accuracies"]
    assert one["hierarchy"] == other["hierarchy"] == "1-1-1"


def test_the_report_shows_what_is_searched_and_each_trial_s_settings(finished):
    page = finished.directory.report.read_text()
    assert "learning rate 0.001–0.1, loss predsim or pred" in page
    for name in names(finished):
        assert name in page
    again = CliRunner().invoke(app, ["search", "joint"])
    assert again.exit_code == 0, again.output
    assert "nothing to do" in again.output


def test_a_joint_search_cut_off_proposes_the_same(finished, tmp_path, monkeypatch):
    before = rows(finished)
    monkeypatch.chdir(tmp_path)
    sections = WHOLE
    searched("joint", **sections | {"budget": {**sections["budget"], "n_trials": 4}})
    resumed = searched("joint", **sections)
    assert rows(resumed) == before


def test_other_ranges_are_another_study():
    settings = {"dropout": {"low": 0.0, "high": 0.4}}
    searching("one", space=space(settings), **SMALL)
    searching("one", space=space(settings), **SMALL)
    with pytest.raises(
        MismatchError, match=r"space\.settings\.dropout\.high: 0.4 in the study, 0.5"
    ):
        searching("one", space=space({"dropout": {"low": 0.0, "high": 0.5}}), **SMALL)
    with pytest.raises(MismatchError, match=r"space\.settings"):
        searching("one", space=space({}), **SMALL)


def test_a_finite_space_is_taken_whole_where_it_fits_and_else_by_tpe():
    finite = {"dropout": {"choices": [0.0, 0.1]}, "granularity_per_stage": {"choices": ["conv"]}}
    budget = {"n_trials": 4, "cohort_size": None, "baseline": False}
    sections = SMALL | {"budget": budget, "training": {"epochs": 1}}
    search = searched("finite", space=space(finite), **sections)
    assert search.config.budget.strategy == "exhaustive"
    assert search.num_trained == 4 == search.space.size
    assert search.is_exhausted
    expected = [
        f"1-1-{n} dropout={d} granularity=conv,conv,conv" for d in (0.0, 0.1) for n in (1, 2)
    ]
    assert names(search) == expected
    # of equal rates the stem and three blocks are shared
    assert search.ledger.record().blocks_trained == 2 * 5
    assert search.ledger.record().blocks_separate == 2 * (4 + 5)
    for settings, n_trials in [(finite, 3), ({"dropout": {"low": 0.0, "high": 0.1}}, 1000)]:
        sections["budget"] = budget | {"n_trials": n_trials}
        assert searching(
            str(n_trials), space=space(settings), **sections
        ).config.budget.strategy == ("tpe")


def test_a_reference_outside_what_is_searched_is_refused():
    sections = dict(SMALL, references=["1-1-1"])
    message = r"own settings, and width must be one of 0.5, 1.0, but got 0.03125 in 1-1-1 width="
    with pytest.raises(ConfigError, match=message):
        searching(space=space({"width": {"choices": [0.5, 1]}}), **sections)


def test_a_landscape_of_searched_settings_is_refused(finished):
    message = "of hierarchies alone, but study joint also searches learning_rate, loss; search a"
    with pytest.raises(ConfigError, match=message):
        record_landscape([recorded(finished)])


def test_a_network_that_ends_before_its_first_loss_is_not_harvested():
    sections = SMALL | {"network": {"width": 1 / 32, "first_loss": 8}, "training": {"epochs": 1}}
    sections["budget"] = SMALL["budget"] | {"n_trials": 1, "cohort_size": 1}
    search = searched("deep", space=space({}, ((1, 1), (1, 1), (3, 3))), **sections)
    # 1-1-1 has seven units
    assert names(search) == ["1-1-3"]
    with search.directory.harvest.open() as file:
        assert [row["hierarchy"] for row in csv.DictReader(file)] == ["1-1-2"]


def test_a_decoder_size_is_looked_up_between_two_that_give_one_network(monkeypatch):
    settings = {"decoder_size": {"low": 16, "high": 8192}}
    bench = Workbench.open(config(space=space(settings), **SMALL))
    plan, built = type(bench.planner).__call__, []

    def counted(planner, hierarchy, *rest):
        built.append(hierarchy)
        return plan(planner, hierarchy, *rest)

    monkeypatch.setattr(type(bench.planner), "__call__", counted)
    rng = random.Random(1)
    drawn = [bench.space.draw(rng) for _ in range(600)]
    told = {hierarchy: bench.space.identity(hierarchy) for hierarchy in drawn}
    assert len(built) < len(told) / 2
    by_plan = {h: plan(bench.planner, h).fingerprint for h in list(told)[:100]}
    for a, b in itertools.combinations(by_plan, 2):
        assert (told[a] == told[b]) is (by_plan[a] == by_plan[b])
