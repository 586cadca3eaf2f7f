"""A network that fails twice is told FAIL with its reason, and its study goes on."""

import re
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState
from tiny_study import rows, searched, searching
from tiny_study import tiny_run as run_config

from dsaccel import imports
from dsaccel.errors import ConfigError, NoResultError
from dsaccel.search.outcome import check_winner
from dsaccel.study.rows import read_rows
from dsaccel.training.blame import TrainingError
from dsaccel.training.learner import Learner
from dsaccel.training.memory_limit import MemoryLimit
from dsaccel.training.train import Training

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("own_folder")]

STUDY: dict[str, Any] = {
    "references": [],
    "training": {"epochs": 3},
    "budget": {"n_trials": 8, "cohort_size": 4, "strategy": "exhaustive", "baseline": False},
    "pruning": {"kind": "none"},
}
FAILS = {"1-2-1", "1-2-2", "2-2-1", "2-2-2"}
"""The networks with a second block in the second stage."""


def fails(learner: Learner) -> bool:
    return (2, 2) in {position[:2] for position in learner.generators}


@pytest.fixture
def failing(monkeypatch):
    """Has those networks fail in an epoch, or when they are made if it is 0, so many times."""

    def fail(epoch: int, error: Exception, times: int = 1000) -> None:
        make, start, step = Learner.__init__, Learner.start_epoch, Learner._learn
        at: dict[Learner, int] = {}
        errors = iter([error] * times)

        def made(self: Learner, *args: Any, **options: Any) -> None:
            make(self, *args, **options)
            if epoch == 0 and self.device.type == "cpu" and fails(self):
                raise error

        def started(self: Learner, now: int, **way: Any) -> None:
            at[self] = now
            start(self, now, **way)

        def learned(self: Learner, *args: Any) -> Any:
            if at[self] == epoch and fails(self) and (raised := next(errors, None)):
                raise raised
            return step(self, *args)

        monkeypatch.setattr(Learner, "__init__", made)
        monkeypatch.setattr(Learner, "start_epoch", started)
        monkeypatch.setattr(Learner, "_learn", learned)

    return fail


def states(search) -> dict[str, tuple[str, float | None, str | None]]:
    found = search.ledger.record().finished
    return {t.name: (t.state.name, t.value, t.why) for t in found}


@pytest.mark.parametrize(
    ("epoch", "error"),
    [(0, ConfigError("no heads")), *((n, ZeroDivisionError("no heads")) for n in (1, 3))],
)
def test_the_study_goes_on_without_a_network_that_fails(failing, caplog, epoch, error):
    expected = states(searched("whole", **STUDY))
    failing(epoch, error)
    search = searched("failing", **STUDY)
    found = states(search)
    assert {name: trial for name, trial in found.items() if name not in FAILS} == {
        name: trial for name, trial in expected.items() if name not in FAILS
    }
    reasons = {found[name] for name in FAILS}
    kind = "" if isinstance(error, ConfigError) else "ZeroDivisionError: "
    assert {(state, value) for state, value, _ in reasons} == {("FAIL", None)}
    assert all(str(why).startswith(f"{kind}no heads") for *_, why in reasons)
    assert "1-2-1, 1-2-2 must be trained, but failed" in caplog.text
    assert search.is_finished
    assert search.is_exhausted
    check_winner(search)
    failed = [row for row in read_rows(search.ledger.record()) if row.hierarchy in FAILS]
    assert [row.step for row in failed] == [epoch - 1 if epoch > 1 else None] * 4
    assert all(row.state.startswith("failed: ") for row in failed)


def test_a_network_that_failed_is_trained_when_it_is_enqueued_again(failing, caplog):
    expected = states(searched("whole", **STUDY))
    failing(2, ZeroDivisionError("mended after that"), times=4)  # two of each cohort, twice
    search = searched("failing", **STUDY)
    assert {name for name, (state, *_) in states(search).items() if state == "FAIL"} == FAILS
    assert "mend the cause, enqueue it, and it is trained again" in caplog.text
    again = searching("failing", **STUDY)
    assert again.is_finished
    again.study.enqueue_trial({f"num_blocks_s{stage}": 2 for stage in (1, 2, 3)})
    assert not again.is_finished
    for _ in again.run():
        pass
    assert states(again)["2-2-2"] == expected["2-2-2"]
    assert again.is_finished
    assert read_rows(again.ledger.record())


@pytest.mark.parametrize(("stop", "in_parts"), [(1, False), (5, False), (3, True)])
def test_a_search_in_which_a_network_fails_goes_on_to_the_same(
    failing, monkeypatch, stop, in_parts
):
    failing(3, ZeroDivisionError("late"))
    monkeypatch.setattr("dsaccel.training.checkpoint.INTERVAL_S", -1.0)
    if in_parts:
        monkeypatch.setattr(MemoryLimit, "_needed", lambda _, plans, training: len(plans) * 2**20)
    runtime = {"memory_mib": 2} if in_parts else {}
    study = STUDY | {"pruning": {"grace_epochs": 1}, "runtime": runtime}
    expected = searched("whole", **study)
    cut = searching("cut", **study)
    rungs = cut.run()
    for _ in range(stop):
        next(rungs)
    rungs.close()
    again = searched("cut", **study)

    def known(search) -> list[Any]:
        return sorted((row for row in rows(search) if row[0] != "FAIL" or "why" in row[4]), key=str)

    assert known(again) == known(expected)


def test_a_study_all_of_whose_networks_fail_ends_with_the_reason(failing):
    failing(1, ZeroDivisionError("no heads"))
    study = STUDY | {"space": {"num_blocks": [[1, 2], [2, 2], [1, 2]]}}
    search = searched("all", **study)
    assert {trial.state for trial in search.study.trials} == {TrialState.FAIL}
    with pytest.raises(NoResultError, match="but all 4 failed, 1-2-1 first: ZeroDivisionError: no"):
        check_winner(search)


def test_what_goes_wrong_once_is_tried_again_and_is_no_failure_of_the_network(failing, caplog):
    expected = rows(searched("whole", **STUDY))
    failing(2, ZeroDivisionError("a cosmic ray"), times=1)
    assert rows(searched("once", **STUDY)) == expected
    assert re.search("1-2-1, 1-2-2 must .* a cosmic ray .*: it is tried once more", caplog.text)


BREAKS = """
import multiprocessing
from dataclasses import dataclass

from dsaccel.losses.pred import Pred, PredPlan


class Breaks(Pred):
    def plan(self, unit):
        return BreaksPlan(unit.label_smoothing, (unit.stage, unit.index) == (2, 2))


@dataclass(frozen=True)
class BreaksPlan(PredPlan):
    breaks: bool = False

    def gradients(self, *args, **read):
        if self.breaks and multiprocessing.parent_process():
            raise ZeroDivisionError("not in a worker")
        return super().gradients(*args, **read)
"""


def test_a_network_that_fails_in_a_worker_is_told_fail_and_the_others_go_on(tmp_path, monkeypatch):
    Path("breaks.py").write_text(BREAKS)
    monkeypatch.setattr(imports, "_trusted", {"./breaks.py:Breaks": tmp_path})
    small = {
        "space": {"num_blocks": [[1, 1], [1, 2], [1, 2]]},
        "network": {"loss": "./breaks.py:Breaks"},
        "budget": STUDY["budget"] | {"n_trials": 4},
    }
    expected = states(searched("whole", **STUDY | small))
    found = states(searched("workers", **STUDY | small, runtime={"workers": 2}))
    for name in ("1-2-1", "1-2-2"):
        state, _, why = found.pop(name)
        assert state == "FAIL"
        assert str(why).startswith("ZeroDivisionError: not in a worker (breaks.py, line ")
        del expected[name]
    assert found == expected
    assert {state for state, *_ in found.values()} == {"COMPLETE"}


SYSTEMS = [
    RuntimeError("CUDA error: an illegal memory access was encountered"),
    OSError("Input/output error"),
]


@pytest.mark.parametrize("error", SYSTEMS, ids=["CUDA", "disk"])
def test_what_is_no_network_s_fault_ends_the_search_and_tells_no_reason(failing, error):
    failing(2, error)
    with pytest.raises(type(error), match=str(error)):
        searched("gone", **STUDY)
    assert not any("why" in t.user_attrs for t in searching("gone", **STUDY).study.trials)


def test_one_network_that_cannot_be_trained_is_told_in_a_line(failing):
    failing(1, ZeroDivisionError("no heads"))
    with pytest.raises(TrainingError, match="1-2-1 must be trained, but failed: ZeroDivisionError"):
        list(Training(run_config()).rungs())
