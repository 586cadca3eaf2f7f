"""A search that ends at any write goes on to the same study.

The writes are the storage's commits, and renamed and removed files. A process that ends before or
after one of them is played by an error, after which nothing is written any more.
"""

import itertools
import os
from collections.abc import Callable
from typing import Any

import optuna
import pytest
from sqlalchemy.engine.default import DefaultDialect
from tiny_study import searching

from dsaccel.search.engine import Search
from dsaccel.study.record import StudyRecord

STUDY: dict[str, Any] = {
    "space": {"num_blocks": [[1, 2], [1, 2], [1, 3]]},
    "references": [],
    "data": {"train_images": 24},
    "training": {"epochs": 2, "batch_size": 12},
    "budget": {"n_trials": 8, "cohort_size": 2, "strategy": "tpe"},
    "pruning": {"grace_epochs": 1, "reduction_factor": 2},
}


class Killed(BaseException):
    """The process has ended."""


class Writes:
    """Counts writes, and ends the process at one of them.

    Args:
        patch: puts itself in the place of what writes.
        at: the write (1-based) at which the process ends; None: at none.
        is_done: whether that write is still made.
    """

    def __init__(self, patch: pytest.MonkeyPatch, at: int | None, is_done: bool) -> None:
        self.num = 0
        self._at, self._is_done = at, is_done
        for owner, name in ((DefaultDialect, "do_commit"), (os, "replace"), (os, "unlink")):
            patch.setattr(owner, name, self._counted(getattr(owner, name)))

    def _counted(self, write: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **options: Any) -> Any:
            self.num += 1
            if self._at is None or self.num < self._at:
                return write(*args, **options)
            if self.num == self._at and self._is_done:
                write(*args, **options)
            raise Killed

        return counted


def run(name: str, at: int | None = None, *, is_done: bool = False) -> tuple[Search, list[int]]:
    """A search, ended at a write; and how many writes it had made after each rung."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dsaccel.search.proposals.NUM_STARTUP", 3)
        patch.setattr("dsaccel.training.checkpoint.INTERVAL_S", 0.0)
        writes = Writes(patch, at, is_done)
        search = searching(name, **STUDY)
        num = [writes.num for _ in search.run()]
    return search, [*num, writes.num]


def facts(search: Search) -> dict[str, Any]:
    """All that a study says, but for times and the numbers of its trials."""
    record = StudyRecord.read(search.study)
    timed = ("time_s",)
    trials = [
        (
            trial.trial.state.name,
            trial.order,
            trial.value,
            trial.trial.params,
            trial.by_step,
            {k: v for k, v in trial.trial.user_attrs.items() if k not in timed},
        )
        for trial in record.finished
    ]
    kept = {k: v for k, v in record.attributes.items() if k not in (*timed, "global", "baseline")}
    baseline = record.baseline and (record.baseline.hierarchy, record.baseline.accuracy)
    harvest = search.directory.harvest
    return {
        "trials": trials,
        "attributes": kept,
        "baseline": baseline,
        "harvest": harvest.read_text() if harvest.is_file() else "",
    }


@pytest.fixture(autouse=True)
def working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The facts of a search that nobody ended, and its numbers of writes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("whole"))
        search, nums = run("s")
        return facts(search), nums


def goes_on(at: int, is_done: bool, whole: dict[str, Any]) -> None:
    with pytest.raises(Killed):
        run(f"s{at}-{is_done:d}", at, is_done=is_done)
    search, _ = run(f"s{at}-{is_done:d}")
    assert facts(search) == whole


@pytest.mark.parametrize("from_end", [0, 1, 3, 6, 10])
def test_a_search_that_ends_while_a_cohort_is_finished_goes_on_to_the_same_study(whole, from_end):
    expected, nums = whole
    at = nums[1] - from_end  # the second rung is the last of the first cohort
    assert nums[0] < at
    goes_on(at, is_done=from_end % 2 == 0, whole=expected)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_search_that_ends_at_any_write_goes_on_to_the_same_study(whole):
    expected, nums = whole
    for at, is_done in itertools.product(range(1, nums[-1] + 1), (False, True)):
        goes_on(at, is_done, expected)
