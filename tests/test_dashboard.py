"""A study in the browser: a copy that follows it, with names, notes, figures and true times."""

import json
import shutil
import socket
import subprocess
import threading
import urllib.request
from queue import Queue

import pytest
from commands import run
from tiny_study import searched, searching

from dsaccel.report.dashboard import Copy, serve

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("own_folder")]

FEW = {"n_trials": 4, "cohort_size": 4}
PRUNED = {"kind": "halving", "grace_epochs": 1}


@pytest.fixture
def served():
    """A searched study, and the address that shows it; port 0 is any."""
    search, told = searched(budget=FEW, pruning=PRUNED), Queue()
    record = search.ledger.record()
    threading.Thread(target=serve, args=(lambda: record, 0, told.put), daemon=True).start()
    return search, told.get(timeout=60)


def fetch(url: str, path: str):
    with urllib.request.urlopen(url.partition("/dashboard")[0] + path, timeout=60) as answer:
        return json.load(answer)


def test_every_trial_has_its_name_a_note_and_its_own_time_in_rows_of_one_line(served):
    search, url = served
    assert url.startswith("http://127.0.0.1:")
    shown = fetch(url, "/api/studies/0?after=0")
    record = search.ledger.record()
    assert len(shown["trials"]) == len(record.trials)
    for trial, own in zip(shown["trials"], record.all(), strict=True):
        attributes = {each["key"]: each["value"] for each in trial["user_attrs"]}
        assert attributes["hierarchy"] == own.name
        assert all(len(str(value)) < 40 for value in attributes.values())
        note = trial["note"]["body"]
        assert note.startswith(f"### {own.name}")
        assert " │ ".join("■" * blocks for blocks in own.hierarchy.blocks) in note
        assert all(f"| {exit} |" in note for exit in own.exits)
    pruned = [t for t in shown["trials"] if t["state"] == "Pruned"]
    assert pruned
    assert all("Pruned at epoch " in trial["note"]["body"] for trial in pruned)
    assert sum("(best)" in trial["note"]["body"] for trial in shown["trials"]) == 1
    assert "Hierarchies of resnet18" in shown["note"]["body"]
    names = {figure["id"] for figure in shown["plotly_graph_objects"]}
    assert names >= {"history", "hierarchies", "heads"}


def test_a_trials_time_is_its_share_of_the_cohorts_time():
    search = searched(budget=FEW)
    record = search.ledger.record()
    copy = Copy(lambda: record)
    for trial, own in zip(copy.get_all_trials(0), record.all(), strict=True):
        assert trial.duration is not None
        assert trial.duration.total_seconds() == pytest.approx(own.figure("time_s"), abs=1e-3)


def test_the_copy_follows_a_running_search_and_writes_nothing_to_it():
    search = searching(budget=FEW)
    running = search.run()
    next(running)
    copy = Copy(search.ledger.record)
    assert {trial.state.name for trial in copy.get_all_trials(0)} == {"RUNNING"}
    before = dict(search.study._storage.get_study_system_attrs(search.study._study_id))
    for _ in running:
        pass
    copy.refresh()
    assert "RUNNING" not in {trial.state.name for trial in copy.get_all_trials(0)}
    after = search.study._storage.get_study_system_attrs(search.study._study_id)
    assert after == before


def test_a_port_that_is_taken_is_one_line():
    searched(budget={"n_trials": 1})
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        result = run("dashboard", "tiny", "--port", port)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert f"port {port} must be free on this machine" in result.stderr


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium")
@pytest.mark.parametrize("page", ["", "/trials?numbers=1"])
def test_a_browser_shows_it_and_has_nothing_to_complain_of(served, page, tmp_path):
    search, url = served
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    options += ["--enable-logging=stderr", "--virtual-time-budget=15000", "--dump-dom"]
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    done = subprocess.run(
        ["chromium", *options, profile, url + page], capture_output=True, text=True, timeout=200
    )
    assert "CONSOLE" not in done.stderr
    trial = search.ledger.record().all()[1]
    expected = trial.name if page else "Hyperparameter Importance"
    assert expected in done.stdout
