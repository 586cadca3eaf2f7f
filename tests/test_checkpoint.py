"""A checkpoint is taken up by the cohort that it was saved of, and by no other."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from helpers import NETWORK, TRAINING, H, cohort, differing, plans, tensors
from profiled import profiled_peak_bytes

from dsaccel.errors import StorageError
from dsaccel.nn.sealed import is_whole, read_state, write_state
from dsaccel.training.checkpoint import (
    Checkpoints,
    checkpoint_key,
    load_checkpoint,
    save_checkpoint,
)
from dsaccel.training.learner import Learner

NAMES = (H("1-1-2"), H("1-2-1"))


def key(study="study", names=NAMES, network=NETWORK, training=None, **kwargs):
    learned = TRAINING.model_copy(update=training or {})
    return checkpoint_key(study, cohort(plans(*names, network=network), learned, **kwargs))


@pytest.mark.parametrize(
    "changes",
    [
        {"study": "another"},
        {"seed": 2},
        {"training": {"learning_rate": 2e-2}},
        {"network": NETWORK.model_copy(update={"dropout": 0.1})},
        {"names": NAMES[::-1]},
        {"harvest": plans("1-1-1")},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_its_key_has_all_that_decides_what_is_learned(changes):
    assert key(**changes) != key()


def test_its_key_has_nothing_else():
    assert key(training={"cuda_graph": True, "feature_cache_mib": 0}) == key()


@pytest.mark.parametrize("content", [{"a": 1}, {"key": torch.zeros(2)}], ids=str)
def test_a_file_that_is_none_is_not_read(tmp_path, content):
    path = tmp_path / "checkpoint.pt"
    torch.save(content, path)
    fresh = cohort(plans(*NAMES))
    assert not load_checkpoint(path, key(), fresh)
    assert fresh.at_rest


def test_another_cohorts_is_not_read(tmp_path):
    path = tmp_path / "checkpoint.pt"
    saved, fresh, other = (cohort(plans(*NAMES), seed=seed) for seed in (1, 1, 2))
    mine = checkpoint_key("study", saved)
    next(saved.rungs())
    save_checkpoint(path, mine, saved)
    assert not load_checkpoint(path, checkpoint_key("study", other), other)
    assert load_checkpoint(path, checkpoint_key("study", fresh), fresh)
    assert len(list(fresh.rungs())) == len(list(other.rungs())) == TRAINING.epochs


def damage(path):
    """Flip a bit in the middle, where the weights are."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert not is_whole(path)


def test_a_damaged_checkpoint_gives_way_to_the_one_before_and_then_to_the_beginning(
    tmp_path, caplog, monkeypatch
):
    begin, epochs = Learner.start_epoch, []
    monkeypatch.setattr(
        Learner,
        "start_epoch",
        lambda self, epoch, **way: (epochs.append(epoch), begin(self, epoch, **way))[1],
    )
    path, saved = tmp_path / "checkpoint.pt", cohort(plans(*NAMES))
    mine = checkpoint_key("study", saved)
    expected = []
    for rung in saved.rungs():
        expected.append(rung)
        if rung.step < 3:
            save_checkpoint(path, mine, saved)
    for start in (2, 1, 0):
        resumed = cohort(plans(*NAMES))
        assert load_checkpoint(path, mine, resumed) == (start > 0)
        epochs.clear()
        assert list(resumed.rungs()) == expected
        assert min(epochs) == start + 1
        assert len(caplog.records) == {2: 0, 1: 1, 0: 3}[start]
        if start:
            damage({2: path, 1: tmp_path / "checkpoint-before.pt"}[start])
    assert "is damaged: what it holds is trained again" in caplog.text


def test_a_cohort_is_saved_when_it_is_time(tmp_path, monkeypatch):
    path, training = tmp_path / "checkpoint.pt", cohort(plans(*NAMES))
    training.save(now=True)  # nobody keeps it
    Checkpoints(path, "study", training)
    rungs = training.rungs()
    next(rungs)
    next(rungs)
    assert not path.exists()
    training.save(now=True)
    assert is_whole(path)
    path.unlink()
    monkeypatch.setattr("dsaccel.training.checkpoint.INTERVAL_S", 0.0)
    often = cohort(plans(*NAMES))
    Checkpoints(path, "study", often)
    saved = [path.exists() for _ in often.rungs()]
    assert saved == [True, True, True]  # within the first epoch, too


def test_going_on_makes_no_learner_of_what_was_retired_and_yields_the_rungs_again(tmp_path):
    path, saved, resumed = tmp_path / "checkpoint.pt", *(cohort(plans(*NAMES)) for _ in range(2))
    rungs = saved.rungs()
    first = next(rungs)
    saved.retire({NAMES[0]})
    save_checkpoint(path, "key", saved)
    assert load_checkpoint(path, "key", resumed)
    again = resumed.rungs()
    assert next(again) == first
    resumed.retire({NAMES[0]})
    assert list(again) == list(rungs)
    assert set(resumed.learners) == set(resumed.trie.nodes())
    assert resumed.blocks == saved.blocks


def test_that_a_network_diverged_is_known_when_its_learners_are_gone(tmp_path):
    path, saved, resumed = tmp_path / "checkpoint.pt", *(cohort(plans(*NAMES)) for _ in range(2))
    next(saved.rungs())
    *_, last = saved.trie.path(NAMES[0])
    next(saved.learners[last].units[0].parameters()).data.fill_(torch.nan)
    expected = saved.diverged(NAMES[0])
    assert expected is not None
    saved.retire({NAMES[0]})
    save_checkpoint(path, "key", saved)
    assert load_checkpoint(path, "key", resumed)
    next(resumed.rungs())
    assert resumed.diverged(NAMES[0]) == expected
    assert resumed.diverged(NAMES[1]) is None


def test_a_checkpoint_is_mapped_and_copied_to_the_device_piece_by_piece(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.pt"
    saved, fresh = (cohort(plans(*NAMES)) for _ in range(2))
    mine = checkpoint_key("study", saved)
    next(saved.rungs())
    save_checkpoint(path, mine, saved)
    load, ways = torch.load, []
    monkeypatch.setattr(
        torch, "load", lambda *args, **way: (ways.append(way), load(*args, **way))[1]
    )
    assert load_checkpoint(path, mine, fresh)
    next(fresh.rungs())
    weights = sum(
        t.nbytes
        for each in saved.learners.values()
        for u in each.units
        for t in u.state_dict().values()
    )
    peak = profiled_peak_bytes(lambda: fresh.learners)
    assert ways == [{"map_location": "cpu", "weights_only": True, "mmap": True}]
    adams = [adam for learner in fresh.learners.values() for adam in learner.optimizers]
    averages = [t for adam in adams for state in adam.state.values() for t in state.values()]
    # beside the file that is mapped only what stays
    assert peak - path.stat().st_size <= 1.05 * (weights + sum(t.nbytes for t in averages))


@pytest.mark.parametrize("changed", [b"", b"\0", slice(-1), slice(60), slice(-65, None)], ids=str)
def test_a_state_that_is_not_as_it_was_written_is_not_read(tmp_path, changed):
    path = tmp_path / "state.pt"
    write_state(path, {"a": torch.ones(2)})
    assert read_state(path)["a"].tolist() == [1, 1]
    content = path.read_bytes()
    path.write_bytes(content[changed] if isinstance(changed, slice) else content[:-64] + changed)
    with pytest.raises(StorageError, match="is damaged or gone"):
        read_state(path)


class EndedError(Exception):
    """A process ends in the middle of its work."""


@pytest.mark.parametrize("schedule", ["simultaneous", "sequential"])
@pytest.mark.parametrize("num_saves", [1, 4, 5, 7])
def test_a_cohort_that_was_ended_after_any_batch_goes_on_from_there(
    tmp_path, monkeypatch, schedule, num_saves
):
    """Three batches an epoch. Dropout draws in each; both runs together learn what one does."""
    network = NETWORK.model_copy(update={"dropout": 0.3})
    training = TRAINING.model_copy(update={"schedule": schedule, "epochs": 2})
    networks, path = plans(*NAMES, network=network), tmp_path / "checkpoint.pt"
    whole, saved, resumed = (cohort(networks, training) for _ in range(3))
    learn, learned = Learner._learn, []
    monkeypatch.setattr(
        Learner, "_learn", lambda self, *args: (learned.append(1), learn(self, *args))[1]
    )
    expected = list(whole.rungs())
    num_learned = len(learned)
    learned.clear()

    def save(*, now):
        nonlocal num_saves
        num_saves -= 1
        if not num_saves:
            save_checkpoint(path, "key", saved)
            raise EndedError

    saved.keeper = cast(Any, SimpleNamespace(save=save))
    with pytest.raises(EndedError):
        list(saved.rungs())
    assert 0 < len(learned) <= num_learned
    assert load_checkpoint(path, "key", resumed)
    assert list(resumed.rungs()) == expected
    assert len(learned) == num_learned
    for name in NAMES:
        assert not differing(tensors(resumed, name), tensors(whole, name))
        assert resumed.time_s[name] > 0
    assert resumed.blocks == whole.blocks
