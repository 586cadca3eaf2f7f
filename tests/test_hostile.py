"""What nobody means to give, and what comes of it: one line and a documented exit code."""

import os
import signal

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_study import TABLES, searched, searching, tables
from tiny_study import recorded as record_of

from dsaccel.analysis import replay_policies
from dsaccel.analysis.recorded import record_landscape
from dsaccel.config.study import SpaceConfig, StudyConfig
from dsaccel.config.toml import parse_config
from dsaccel.errors import ConfigError, NoMemoryError, StorageError
from dsaccel.spec.hierarchy import MAX_BLOCKS, Hierarchy
from dsaccel.study.folder import StudyDir

# ---- numbers without an end


@pytest.mark.parametrize("text", ["1-1-100000000", "999-3-10", "9" * 5000, "-".join("1" * 501)])
def test_more_blocks_than_a_network_may_have_are_refused_with_the_limit(text):
    with pytest.raises(ConfigError, match="at most 500 blocks in all, but got"):
        Hierarchy.parse(text)
    assert Hierarchy.parse(f"1-1-{MAX_BLOCKS - 2}").num_blocks == MAX_BLOCKS


@pytest.mark.parametrize("highest", [1_000_000, 1_000_000_000])
def test_a_space_of_more_blocks_than_a_network_may_have_is_refused_with_the_limit(highest):
    space = {"family": "resnet18", "num_blocks": [[1, 2], [1, 3], [1, highest]]}
    with pytest.raises(ConfigError, match=f"at most 500 blocks in all, but got {highest + 5}"):
        parse_config(SpaceConfig, space, "a test")


def test_a_path_that_is_not_utf8_is_refused_with_a_way_out(tmp_path):
    path = os.fsdecode(b"/data/set\xff")
    with pytest.raises(ConfigError, match=r"must be UTF-8, but got .*set.udcff.*; give the folder"):
        parse_config(StudyConfig, tables(data={"name": path}), "a test")


# ---- a study's files


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return StudyDir("tiny")


def test_an_emptied_database_is_told_and_not_begun_anew(folder):
    searching()
    folder.database.write_bytes(b"")
    with pytest.raises(StorageError, match=r"study.db must hold the study that .*study.toml desc"):
        searching()
    assert folder.database.read_bytes() == b""


@pytest.mark.parametrize("name", ["lock", "checkpoint", "config", "database"])
def test_a_folder_in_place_of_a_file_is_told(folder, name):
    getattr(folder, name).mkdir(parents=True)
    with pytest.raises((StorageError, ConfigError), match=getattr(folder, name).name):
        searching()


@pytest.mark.parametrize(
    "url",
    [
        *("sqlite://", "sqlite:///:memory:", "sqlite:///file::memory:?uri=true"),
        "sqlite:///file:x?mode=memory&uri=true",
    ],
)
def test_a_storage_that_ends_with_its_process_is_refused(folder, url):
    with pytest.raises(ConfigError, match="must outlast its process"):
        searching(storage=url)


# ---- other processes


def _die(_seed):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.long
def test_a_killed_replay_worker_is_told(folder, monkeypatch):
    exhaustive = {
        "pruning": {"kind": "none"},
        "budget": {"n_trials": 5, "cohort_size": 5, "baseline": False},
        "training": {"epochs": 1},
        "space": {"num_blocks": [[1, 1], [1, 2], [1, 2]]},
    }
    search = searched(**exhaustive)
    landscape = record_landscape([record_of(search)])
    policy = replay_policies.policies(landscape, "random", "2", 4, {})
    monkeypatch.setattr(replay_policies, "partial", lambda *_: _die)
    with pytest.raises(NoMemoryError, match=r"one was killed, .* fewer than 2 --jobs"):
        list(replay_policies.replay_policies(landscape, policy, 2, jobs=2))


# ---- anything


@pytest.mark.long
@given(st.text(max_size=40) | st.from_regex(r"[0-9]{1,4}(-[0-9]{1,4}){0,5}( [a-z_]+=[^ ]*)?"))
def test_a_hierarchy_is_read_and_written_the_same_or_refused(text):
    try:
        hierarchy = Hierarchy.parse(text)
    except ConfigError:
        return
    written = str(hierarchy)
    assert Hierarchy.parse(written) == hierarchy
    assert str(Hierarchy.parse(written)) == written


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)
KEYS = [(name, key) for name, part in TABLES.items() if isinstance(part, dict) for key in part]


@given(st.lists(st.tuples(st.sampled_from(KEYS), VALUES), min_size=1, max_size=3))
def test_a_study_is_read_and_written_the_same_or_refused(changes):
    changed = tables()
    for (section, key), value in changes:
        changed[section] = {**changed[section], key: value}
    try:
        read = parse_config(StudyConfig, changed, "a test")
    except ConfigError:
        return
    again = parse_config(StudyConfig, read.model_dump(mode="json", exclude_none=True), "a test")
    assert again == read
