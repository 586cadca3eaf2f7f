"""A study in a folder that cannot be written is read all the same."""

import os

import optuna
import pytest
import tiny_study

from dsaccel.study.folder import StudyDir
from dsaccel.study.storage import open_study

CONFIG = tiny_study.config()


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """A study with one trial, open for writing; its folder is then said to be read-only."""
    monkeypatch.chdir(tmp_path)
    directory = StudyDir("tiny")
    directory.path.mkdir(parents=True)
    study = open_study(directory, CONFIG, create=True)
    study.add_trial(optuna.create_trial(value=0.5))
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK and access(path, mode))
    return directory, study


def close(study: optuna.Study) -> None:
    study._storage._backend.engine.dispose()  # type: ignore[attr-defined]


def test_a_study_in_a_read_only_folder_is_read_without_a_file_beside_it(stored):
    directory, study = stored
    close(study)
    read = open_study(directory, CONFIG)
    assert [trial.value for trial in read.trials] == [0.5]
    assert [path.name for path in directory.path.iterdir()] == ["study.db"]
    with pytest.raises(optuna.exceptions.StorageInternalError):
        read.set_user_attr("a", 1)


def test_what_is_in_the_log_alone_is_read_too(stored):
    directory, _ = stored
    assert directory.database.with_name("study.db-wal").stat().st_size > 0
    assert len(open_study(directory, CONFIG).trials) == 1
