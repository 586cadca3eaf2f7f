"""A search that ends at any write goes on to the same study.

The writes are the storage's commits, and renamed and removed files. What a process leaves that ends
before or after one of them is what lies in its folder at that moment: so one search is run, and its
folder is copied at each write.
"""

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine.default import DefaultDialect
from tiny_study import searching

from dsaccel.search.engine import Search
from dsaccel.study.record import StudyRecord

pytestmark = pytest.mark.usefixtures("own_folder")

STUDY: dict[str, Any] = {
    "space": {"num_blocks": [[1, 2], [1, 2], [1, 3]]},
    "references": [],
    "data": {"train_images": 24},
    "training": {"epochs": 2, "batch_size": 12},
    "budget": {"n_trials": 8, "cohort_size": 2, "strategy": "tpe"},
    "pruning": {"grace_epochs": 1, "reduction_factor": 2},
}


class Copies:
    """Copies a search's folder before and after each of its writes, unless it is as before.

    Args:
        patch: puts itself in the place of what writes.
        folder: of the copies, which are numbered from 0 on.
    """

    def __init__(self, patch: pytest.MonkeyPatch, folder: Path) -> None:
        self.num_writes = self.num = 0
        self._folder, self._last = folder, ""
        for owner, name in ((DefaultDialect, "do_commit"), (os, "replace"), (os, "unlink")):
            patch.setattr(owner, name, self._counted(getattr(owner, name)))

    def _counted(self, write: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **options: Any) -> Any:
            self.num_writes += 1
            self._copy()
            result = write(*args, **options)
            self._copy()
            return result

        return counted

    def _copy(self) -> None:
        files = sorted(path for path in Path("studies").rglob("*") if path.is_file())
        contents = ((str(path), hashlib.sha256(path.read_bytes()).hexdigest()) for path in files)
        if (now := repr(list(contents))) != self._last:
            shutil.copytree("studies", self._folder / f"{self.num}" / "studies")
            self.num, self._last = self.num + 1, now


def run(copies: Path | None = None) -> tuple[Search, list[int], int]:
    """A search; how many copies there were after each rung and at the end, and its writes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dsaccel.search.proposals.NUM_STARTUP", 3)
        patch.setattr("dsaccel.training.checkpoint.INTERVAL_S", 0.0)
        patch.setattr("dsaccel.study.lease.LEASE_S", 0.0)  # a copy is no driver that may live
        if copies is None:
            search = searching("s", **STUDY)
            return search, [0 for _ in search.run()], 0
        made = Copies(patch, copies)
        search = searching("s", **STUDY)
        nums = [made.num for _ in search.run()]
        return search, [*nums, made.num], made.num_writes


def facts(search: Search) -> dict[str, Any]:
    """All that a study says, but for times and the numbers of its trials."""
    record = StudyRecord.read(search.study)
    timed = ("time_s", "alone_s")
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


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The facts of a search that nobody ended, its copies, and how many there were when."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        search, nums, num_writes = run(folder / "copies")
        assert num_writes > 300
        return facts(search), folder / "copies", nums


def goes_on(copy: Path, expected: dict[str, Any]) -> None:
    shutil.copytree(copy / "studies", "studies")
    search, *_ = run()
    assert facts(search) == expected
    shutil.rmtree("studies")


@pytest.mark.parametrize(
    "from_end", [4, *(pytest.param(n, marks=pytest.mark.long) for n in (1, 9, 16, 25))]
)
def test_a_search_that_ends_while_a_cohort_is_finished_goes_on_to_the_same_study(whole, from_end):
    expected, copies, nums = whole
    at = nums[1] - from_end  # the second rung is the last of the first cohort
    assert nums[0] < at
    goes_on(copies / f"{at}", expected)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("half", [0, 1])
def test_a_search_that_ends_at_any_write_goes_on_to_the_same_study(whole, half):
    expected, copies, nums = whole
    for at in range(half, nums[-1], 2):
        goes_on(copies / f"{at}", expected)
