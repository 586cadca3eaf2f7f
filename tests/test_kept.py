"""What a search has trained can be used: weights beside the study, and where they are from."""

import json
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import run
from safetensors import safe_open
from safetensors.torch import load_file
from tiny_study import searched, searching

from dsaccel import Study, load_network
from dsaccel.errors import ConfigError, NoResultError
from dsaccel.nn.sealed import sealed_weights
from dsaccel.nn.weights import read_config, save_weights
from dsaccel.report.results import write_results
from dsaccel.study import provenance
from dsaccel.study.rows import read_rows
from dsaccel.training.train import Training

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("own_folder")]

FEW = {"n_trials": 4, "cohort_size": 2}


def evaluated(path: str) -> dict[str, Any]:
    result = run("evaluate", path, "--split", "val", "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_the_winner_and_its_baseline_are_used_without_training_anything_again():
    search = searched(budget=FEW)
    write_results(search)
    record = search.ledger.record()
    best = next(row for row in read_rows(record) if row.may_be_best)
    assert evaluated("studies/tiny/best.toml")["accuracy"] == best.accuracy
    assert record.baseline is not None
    assert evaluated("studies/tiny/baseline.safetensors")["accuracy"] == record.baseline.accuracy
    study = Study.load("tiny")
    images = torch.rand(2, 1, 8, 8)
    told = load_network("studies/tiny/best.safetensors")(images)
    assert torch.equal(study.trained_network()(images), told)
    with pytest.raises(NoResultError, match="must have been kept in"):
        study.trained_network("2-2-2 loss=pred")


def test_the_best_of_all_cohorts_are_kept_and_no_others():
    search = searched(budget=FEW, runtime={"keep": 2})
    rows = [row for row in read_rows(search.ledger.record()) if row.may_be_best]
    assert len(rows) > 2
    kept = {path.stem for path in Path("studies/tiny/weights").iterdir()}
    assert kept == {row.hierarchy for row in rows[:2]}
    for row in rows[:2]:
        of_row = evaluated(f"studies/tiny/weights/{row.hierarchy}.safetensors")
        assert of_row["accuracy"] == row.accuracy


@pytest.mark.parametrize("exit", ["layer", "head", "ensemble"])
@pytest.mark.parametrize("all_heads", [False, True])
def test_kept_weights_hold_the_heads_that_their_exit_reads_or_all(exit, all_heads):
    runtime = {"all_heads": all_heads}
    network = {"output": exit, "loss": "predsim"}
    search = searched(budget={"n_trials": 1, "baseline": False}, network=network, runtime=runtime)
    write_results(search)
    path = Path("studies/tiny/best.safetensors")
    run_config, num_units = read_config(path), len(load_network(path).units)
    read = {"layer": 1, "head": 1, "ensemble": -(-num_units // 2)}[exit]
    held = {name.rpartition(".")[0] for name in load_file(path) if "classifier" in name}
    num_heads = num_units - (exit == "layer")
    assert len(held) == (num_heads if all_heads else read - (exit == "layer"))

    again = Training(run_config)
    for _ in again.rungs():
        pass
    images = torch.rand(3, 1, 8, 8)
    save_weights(Path("all.safetensors"), again.units, run_config, again.facts)
    whole, kept = load_network("all.safetensors"), load_network(path)
    assert torch.equal(kept(images), whole(images))
    features = zip(kept.features(images), whole.features(images), strict=True)
    assert all(torch.equal(mine, theirs) for mine, theirs in features)
    shown = evaluated(str(path))
    of_heads = again.result().head_accuracies[-1]
    first = 0 if all_heads else num_units - read
    assert shown["head_accuracies"] == [None] * first + of_heads[first:]
    assert shown["exits"][exit] == shown["accuracy"] == again.result().val_accuracy
    assert set(shown["exits"]) == set(again.result().exits) if all_heads else {exit}
    table = run("evaluate", path, "--split", "val").stdout
    assert (f"the {read} of {num_units} kept" in table) is not all_heads
    if all_heads:
        assert len(kept.heads(images)) == num_units
        return
    with pytest.raises(ConfigError, match=r"must hold the head stem .* --all-heads"):
        kept.heads(images)


def test_what_is_done_with_kept_weights_needs_no_more_heads_than_their_exit():
    write_results(searched(budget={"n_trials": 1, "baseline": False}))
    path = "studies/tiny/best.safetensors"
    result = run("export", "tiny", "--torch", "tiny.pt2")
    assert result.exit_code == 0, result.output
    assert load_network(path).feature_info
    begun = run("train", "studies/tiny/best.toml", "--init", path, "--epochs", "1")
    assert begun.exit_code == 0, begun.output
    assert "local classifiers 0 of" in begun.stderr
    assert "output layer 1 of 1" in begun.stderr
    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    without = {name: t for name, t in tensors.items() if not name.startswith("fc.")}
    Path("bare.safetensors").write_bytes(sealed_weights(without, metadata))
    refused = run("evaluate", "bare.safetensors", "--split", "val")
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
    assert "only one of file and network has fc.bias, fc.weight" in refused.stderr


def test_a_study_that_keeps_nothing_writes_no_weights_and_shows_no_earlier_ones():
    search = searched(budget=FEW, runtime={"keep": 0})
    Path("studies/tiny/best.safetensors").write_bytes(b"of an earlier winner")
    write_results(search)
    assert list(Path("studies/tiny").rglob("*.safetensors")) == []


def test_a_search_that_is_cut_off_while_it_keeps_weights_keeps_the_same(monkeypatch):
    whole = searched("whole", budget=FEW)
    search = searching("cut", budget=FEW)

    def cut(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("dsaccel.study.kept.save_weights", cut)
        with pytest.raises(KeyboardInterrupt):
            list(search.run())
    for _ in searching("cut", budget=FEW).run():
        pass
    folders = [study.directory.weights for study in (whole, search)]
    names = [sorted(path.name for path in folder.iterdir()) for folder in folders]
    assert names[0] == names[1] != []
    for name in names[0]:
        first, second = (load_network(folder / name).state_dict() for folder in folders)
        assert all(torch.equal(first[key], second[key]) for key in first)


def test_an_exported_config_says_what_it_was_trained_with():
    write_results(searched(budget=FEW))
    result = tomllib.loads(Path("studies/tiny/best.toml").read_text())["result"]
    assert set(result["versions"]) == set(provenance.PACKAGES)
    assert result["commit"] == provenance.commit()
    assert result["device"].startswith("cpu (")
    assert len(result["images"]) > 8
    assert result["command"]
    assert result["time_s"] > 0


def test_a_commit_is_that_of_the_checkout_and_a_command_has_no_password(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.argv", ["/usr/bin/dsaccel", "search", "x://u:CANARY@h/d"])
    assert provenance.command() == "dsaccel search x://u:***@h/d"
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "a" / "b" / "c.py"))
    provenance.commit.cache_clear()
    assert provenance.commit() == "unknown"
    if shutil.which("git"):
        for arguments in (("init", "-q"), ("commit", "-q", "--allow-empty", "-m", "x")):
            who = ("-c", "user.name=x", "-c", "user.email=x@y")
            provenance._git(tmp_path, *who, *arguments)
        provenance.commit.cache_clear()
        assert provenance.commit() == provenance._git(tmp_path, "rev-parse", "HEAD")
    provenance.commit.cache_clear()


def test_a_checklist_is_answered_with_what_the_study_knows_and_no_more():
    searched(budget=FEW)
    shown = run("report", "tiny", "--checklist").stdout
    for known in ("search: one seed (1)", "4 trials", "digits", provenance.commit()[:12], "torch"):
        assert known in shown
    assert shown.count("for the authors to say") == 3
