"""One process at a time drives a study, from whatever folder; what a user enqueues is trained."""

import logging
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState
from tiny_study import rows, searched, searching

from dsaccel.config.study import ConfirmConfig
from dsaccel.confirm.run import Confirm
from dsaccel.errors import ConfigError, StorageError
from dsaccel.study import lease
from dsaccel.study.folder import StudyDir
from dsaccel.study.storage import driving
from dsaccel.study.urls import connectable, storage_of_environment, without_password

pytestmark = pytest.mark.usefixtures("own_folder")

SHORT: dict[str, Any] = {
    "training": {"epochs": 2},
    "budget": {"n_trials": 2, "cohort_size": 2, "baseline": False},
}


@pytest.fixture
def shared(tmp_path) -> str:
    return f"sqlite:///{(tmp_path / 'shared.db').as_posix()}"


def elsewhere(monkeypatch) -> None:
    """Go on in another folder, as on another machine."""
    Path("elsewhere").mkdir(exist_ok=True)
    monkeypatch.chdir("elsewhere")


def test_a_driver_in_another_folder_is_refused_and_touches_nothing(shared, monkeypatch):
    monkeypatch.setattr(lease, "BEAT_S", 0.2)
    first = searching("one", storage=shared, **SHORT)
    run = first.run()
    next(run)
    elsewhere(monkeypatch)
    with pytest.raises(StorageError, match=r"another process is at it: process \d+ on .*, since 2"):
        searching("one", storage=shared, **SHORT)
    assert list(Path().rglob("*")) == []
    monkeypatch.chdir("..")
    for _ in run:
        pass
    assert rows(first) == rows(searched("alone", **SHORT))


def test_a_driver_that_slept_writes_nothing_after_another_one_took_over(shared, monkeypatch):
    monkeypatch.setattr(lease, "BEAT_S", 1e6)  # it sleeps
    first = searching("one", storage=shared, **SHORT)
    run = first.run()
    next(run)
    monkeypatch.setattr(lease, "LEASE_S", 0.5)
    elsewhere(monkeypatch)
    second = searched("one", storage=shared, **SHORT)
    told = rows(second)
    monkeypatch.chdir("..")
    with (
        driving(second.study, StudyDir("one", Path("elsewhere/studies"))),
        pytest.raises(StorageError, match=r"was taken over by .*elsewhere"),
    ):
        for _ in run:
            pass
    assert first.ledger.record().finished, "what another one wrote is still read"
    assert rows(second) == told
    finished = [row for row in told if row[0] != "FAIL"]
    assert finished == rows(searched("alone", **SHORT))


def test_a_driver_that_died_in_this_folder_is_not_waited_for(shared, monkeypatch):
    first = searching("one", storage=shared, **SHORT)
    with monkeypatch.context() as patch:
        patch.setattr(lease._Lease, "release", lambda _: None)
        next(first.run())  # closed at once, its row stays
    monkeypatch.setattr("time.sleep", lambda _: pytest.fail("waits"))
    searching("one", storage=shared, **SHORT)


# ---- what a user enqueues


def test_what_a_user_enqueues_is_trained_or_told_why_not(caplog):
    caplog.set_level(logging.INFO, "dsaccel")
    search = searching("asked", **SHORT)
    for blocks in ((2, 2, 2), (1, 9, 1), (2, 2, 2)):
        names = (f"num_blocks_s{stage}" for stage in (1, 2, 3))
        search.study.enqueue_trial(dict(zip(names, blocks, strict=True)))
    search.study.enqueue_trial({"num_blocks_s1": "two"})
    for _ in search.run():
        pass
    good, *bad = search.study.trials[:4]
    assert good.state == TrialState.COMPLETE
    assert good.user_attrs["hierarchy"] == "2-2-2"
    assert [trial.state for trial in bad] == [TrialState.FAIL] * 3
    assert [bool(trial.user_attrs["why"]) for trial in bad] == [True] * 3
    assert "num_blocks of stage 2 must be within 1..2" in bad[0].user_attrs["why"]
    assert "enqueued twice" in bad[1].user_attrs["why"]
    assert "for each of num_blocks_s1" in bad[2].user_attrs["why"]
    assert caplog.text.count("is not trained") == 3


def test_what_is_enqueued_while_a_cohort_is_trained_is_not_taken_for_one_of_it():
    search = searching("asked", **SHORT)
    run = search.run()
    next(run)
    search.study.enqueue_trial({f"num_blocks_s{stage}": 2 for stage in (1, 2, 3)})
    for _ in run:
        pass
    trials = [trial for trial in search.study.trials if trial.state == TrialState.COMPLETE]
    assert "2-2-2" in {trial.user_attrs["hierarchy"] for trial in trials}
    for trial in trials:
        assert str(search.space.from_params(trial.params)) == trial.user_attrs["hierarchy"]
    again = searching("asked", **SHORT)
    assert again.is_finished
    again.study.enqueue_trial({f"num_blocks_s{stage}": 1 for stage in (1, 2, 3)})
    assert not again.is_finished, "what a user asks for is beside the budget"


def test_what_was_read_beside_others_is_trained_if_a_user_enqueues_it():
    study = SHORT | {
        "references": ["1-1-2", "1-2-2", "2-1-2", "2-2-2"],
        "budget": {"n_trials": 4, "cohort_size": 4, "baseline": False},
        "pruning": {"kind": "none"},
    }
    search = searched("asked", **study)
    harvested = [t.hierarchy for t in search.ledger.record().finished if t.is_harvested]
    assert harvested
    search.study.enqueue_trial(search.space.to_params(harvested[0]))
    again = searched("asked", **study)
    assert harvested[0] in [t.hierarchy for t in again.ledger.record().trained]
    assert again.is_finished


@pytest.mark.long
def test_a_study_named_as_the_tuning_of_another_is_left_alone(shared):
    other = searched("one-global", storage=shared, **SHORT)
    before = rows(other)
    study = searched("one", storage=shared, **SHORT)
    asked = ConfirmConfig(top=1, num_seeds=1, controls=False, tuning_trials=2)
    confirm = Confirm(study.config, study.directory, study.study, asked, command="a test")
    for _ in confirm.run():
        pass
    assert rows(other) == before
    assert confirm.record.values["tuning"]["num_trials"] == 2


# ---- passwords


@pytest.mark.parametrize(
    ("url", "match"),
    [
        ("postgresql+psycopg://u:CANARY@h/d", r"no password.*://u:\*\*\*@h/d.*DSACCEL_STORAGE"),
        ("postgresql+psycopg://u@h/d?password=CANARY", r"no password.*PGPASSWORD.*pgpass"),
        ("postgresql+psycopg://u:CAN@ARY@h/d", r"one @.*write @ as %40"),
        ("postgresql+psycopg://u:CAN/ARY@h/d", r"one @.*/ as %2F"),
    ],
)
def test_a_password_in_a_url_is_refused_and_not_shown(url, match):
    with pytest.raises(ConfigError, match=match) as caught:
        searching("none", storage=url)
    assert "CAN" not in str(caught.value).replace("CANNOT", "")
    assert list(Path().iterdir()) == []


def test_a_password_comes_from_the_environment_alone(monkeypatch):
    whole = "postgresql+psycopg://u:CAN%40ARY@h:5/d?sslmode=require&password=CANARY"
    bare = "postgresql+psycopg://u@h:5/d?sslmode=require"
    monkeypatch.setenv("DSACCEL_STORAGE", whole)
    assert storage_of_environment() == bare == without_password(whole)
    assert connectable(bare).password == "CAN@ARY"
    assert connectable(bare.replace("//u", "//v")).password is None
    monkeypatch.setenv("DSACCEL_STORAGE", "postgresql://u:a@b@h/d")
    with pytest.raises(ConfigError, match=r"DSACCEL_STORAGE must have one @"):
        storage_of_environment()
