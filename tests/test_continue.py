"""A study that exists goes on as it was begun, wherever it lies, and for one process at a time."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import filelock
import numpy as np
import pytest
from helpers import spy_on_training
from optuna.trial import TrialState
from PIL import Image
from tiny_study import rows, searched, searching

from dsaccel.analysis.recorded import record_landscape
from dsaccel.api import Study
from dsaccel.errors import ConfigError, MismatchError, NoResultError, StorageError
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.study.folder import StudyDir
from dsaccel.study.record import NO_COHORT

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("own_folder")]

SHORT = {"training": {"epochs": 1}, "budget": {"n_trials": 2, "cohort_size": 2, "baseline": False}}


@pytest.fixture(params=["path", "uri"])
def shared(request, tmp_path):
    """The URL of a storage outside of any study's folder."""
    path = (tmp_path / "shared.db").as_posix()
    return f"sqlite:///{path}" if request.param == "path" else f"sqlite:///file:{path}?uri=true"


def in_folder(monkeypatch, name: str) -> None:
    Path(name).mkdir()
    monkeypatch.chdir(name)


def test_a_study_in_a_shared_storage_is_continued_with_its_own_settings_alone(shared, monkeypatch):
    searched("common", storage=shared, **SHORT)
    in_folder(monkeypatch, "elsewhere")
    with pytest.raises(MismatchError, match=r"training.epochs: 1 in the study, 3 asked for"):
        searching("common", storage=shared, **SHORT | {"training": {"epochs": 3}})
    assert list(Path().iterdir()) == []
    assert searching("common", storage=shared, **SHORT).is_finished


def test_a_study_whose_settings_file_is_lost_is_still_itself():
    searched("lost", **SHORT)
    StudyDir("lost").config.unlink()
    with pytest.raises(MismatchError, match=r"network.loss: predsim in the study, pred asked for"):
        searching("lost", network={"loss": "pred"}, **SHORT)
    assert searching("lost", **SHORT).is_finished
    assert StudyDir("lost").config.is_file()


def test_a_study_goes_on_in_its_storage_though_it_is_not_named_again(shared):
    first = searched("kept", storage=shared, **SHORT)
    again = searching("kept", **SHORT)
    assert again.is_finished
    assert again.url == shared == again.directory.read_config().storage
    assert rows(again) == rows(first)
    assert not again.directory.database.exists()


def test_a_study_is_not_begun_again_in_another_storage(shared):
    searched("moved", **SHORT)
    with pytest.raises(MismatchError, match=r"in the study, .*shared.db\S* asked for, which"):
        searching("moved", storage=shared, **SHORT)
    with closing(sqlite3.connect(StudyDir("moved").database)) as database:
        database.execute("VACUUM INTO 'shared.db'")
    assert searching("moved", storage=shared, **SHORT).is_finished


def test_no_storage_at_all_is_refused():
    with pytest.raises(ConfigError, match=r"storage"):
        searching("none", storage="")


def test_a_second_process_is_refused_and_the_first_goes_on():
    first = searching("busy", **SHORT)
    early = searching("busy", **SHORT)
    run = first.run()
    next(run)
    with pytest.raises(StorageError, match=r"trained by one process at a time"):
        next(early.run())
    with pytest.raises(StorageError, match=r"trained by one process at a time"):
        searching("busy", **SHORT | {"budget": SHORT["budget"] | {"n_trials": 9}})
    assert first.directory.read_config() == first.config
    for _ in run:
        pass
    assert [trial.state for trial in first.study.trials] == [TrialState.COMPLETE] * len(rows(first))
    assert rows(first) == rows(searched("alone", **SHORT))
    assert searching("busy", **SHORT).is_finished


def test_a_study_that_was_cut_off_is_not_locked():
    first = searching("cut", **SHORT)
    next(first.run())  # closed at once
    with filelock.FileLock(StudyDir("cut").lock, timeout=0):
        pass


def test_what_a_process_that_died_left_running_is_failed_before_others_run():
    first = searching("dead", **SHORT)
    first.ledger.begin(NO_COHORT.next([Hierarchy((1, 1, 2))]))
    run = searching("dead", **SHORT).run()
    next(run)
    (left, *_) = first.study.get_trials(deepcopy=False)
    assert left.state == TrialState.FAIL
    run.close()


def test_another_process_that_tells_a_trial_is_said_in_one_line(monkeypatch):
    first = searching("told", **SHORT)
    run = first.run()

    def other(cohort, name, state):
        (trial, *_) = first.study.get_trials(states=(TrialState.RUNNING,))
        first.study.tell(trial.number, state=TrialState.FAIL)
        first.study._storage.set_trial_state_values(trial._trial_id, TrialState.COMPLETE, [0.5])

    monkeypatch.setattr(first.ledger, "tell", other)
    with pytest.raises(StorageError, match=r"written to by another process"):
        for _ in run:
            pass


def test_a_baseline_that_was_cut_off_goes_on_where_it_was_saved(monkeypatch):
    study = {"training": {"epochs": 3}, "budget": {"n_trials": 1, "cohort_size": 1}}
    expected = searched("whole", **study).ledger.record().baseline
    monkeypatch.setattr("dsaccel.training.checkpoint.INTERVAL_S", -1.0)
    cut = searching("cut", **study).run()
    assert [next(cut).phase for _ in range(5)] == ["search"] * 3 + ["baseline"] * 2
    cut.close()
    starts = spy_on_training(monkeypatch)
    again = searched("cut", **study)
    assert starts == [2]
    reached = again.ledger.record().baseline
    assert reached
    assert expected
    assert (reached.hierarchy, reached.accuracy) == (expected.hierarchy, expected.accuracy)
    assert not list(again.directory.path.rglob("*.pt"))


def test_what_is_cleaned_is_not_needed():
    search = searched("clean", **SHORT)
    directory, facts = search.directory, rows(search)
    left = [directory.checkpoint, directory.path / "report.html.part", directory.heads / "9-9.json"]
    for path in left:
        path.write_bytes(b"left by a process that was killed")
    before = {path for path in directory.path.rglob("*") if path.is_file()}
    assert set(Study.load("clean").clean()) == set(left)
    after = {path for path in directory.path.rglob("*") if path.is_file()}
    assert after == before - set(left)
    again = searching("clean", **SHORT)
    assert (again.is_finished, rows(again)) == (True, facts)
    cut = searching("cut", **SHORT | {"training": {"epochs": 2}})
    next(cut.run())
    cut.directory.checkpoint.write_bytes(b"of a cohort that is not finished")
    assert Study.load("cut").clean() == {}


@pytest.mark.parametrize("name", ["before", "x-global"])
def test_a_renamed_folder_holds_the_same_study(name):
    trained = rows(searched(name, **SHORT))
    shutil.move(f"studies/{name}", "studies/after")
    again = searching("after", **SHORT)
    assert again.is_finished
    assert rows(again) == trained
    loaded = Study.load("after")
    assert loaded.optuna.study_name == name
    with pytest.raises(NoResultError, match=r"dsaccel search studies/after/study.toml"):
        record_landscape([loaded.record])


def test_a_checkpoint_of_a_study_that_is_no_more_is_removed_with_it():
    searching("gone", **SHORT)
    shutil.rmtree("studies/gone")
    Path("studies/gone").mkdir()
    StudyDir("gone").checkpoint.write_bytes(b"of a study with another n_trials")
    searching("gone", **SHORT)
    assert not StudyDir("gone").checkpoint.exists()
    StudyDir("gone").checkpoint.write_bytes(b"of this study")
    searching("gone", **SHORT)
    assert StudyDir("gone").checkpoint.exists()


def write_images(folder: str) -> None:
    draw = np.random.default_rng(0)
    for number in range(48):
        path = Path(folder) / "train" / f"class{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)


def test_images_may_lie_elsewhere_later_if_they_are_the_same():
    write_images("here")
    data = {"name": "here", "train_images": None}
    searched("images", data=data, **SHORT)
    shutil.move("here", "there")
    again = searching("images", data=data | {"name": "there"}, **SHORT)
    assert again.is_finished
    assert again.directory.read_config().data.name == "there"
    shutil.move("there", "far")
    with pytest.raises(MismatchError, match=r"study.toml --data far\n  training.epochs: 1 in"):
        searching("images", data=data | {"name": "far"}, **SHORT | {"training": {"epochs": 2}})
    shutil.move("far", "there")
    (victim, *_) = Path("there").rglob("*.png")
    Image.new("RGB", (8, 8)).save(victim)
    shutil.move("there", "moved")
    with pytest.raises(MismatchError, match=r"old settings and images\n(.*\n)*.*images are not"):
        searching("images", data=data | {"name": "moved"}, **SHORT)
