"""A cohort that is trained in parts gives what it gives as a whole."""

import itertools
import weakref
from types import SimpleNamespace
from typing import Any, cast

import pytest
import tiny_study
import torch
from helpers import CPU, TRAINING, Batches, H, plans
from torch.utils._python_dispatch import _get_current_dispatch_mode

from dsaccel import stopping
from dsaccel.config.study import RunConfig
from dsaccel.errors import NoMemoryError
from dsaccel.spec.trie import Trie
from dsaccel.training.checkpoint import (
    Checkpoints,
    checkpoint_key,
    load_checkpoint,
    save_checkpoint,
)
from dsaccel.training.cohort import Cohort
from dsaccel.training.learner import Learner
from dsaccel.training.memory_limit import MemoryLimit
from dsaccel.training.meter import peak_bytes
from dsaccel.training.part import Part
from dsaccel.training.parts import SplitCohort
from dsaccel.training.train import Training

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("own_folder")]

SEQUENTIAL = TRAINING.model_copy(update={"schedule": "sequential", "epochs": 1})


def whole(training=TRAINING):
    networks = plans("1-1-1", "1-1-2", "1-2-2", "2-1-2")
    harvest = plans("1-2-1", "2-1-1")
    return Cohort(networks, training, Batches(), seed=1, device=CPU, harvest=harvest)


def split(folder, training=TRAINING, *, at_most=2, stops=()):
    networks = plans("1-1-1", "1-1-2", "1-2-2", "2-1-2")
    return SplitCohort(
        networks,
        training,
        Batches(),
        seed=1,
        device=CPU,
        harvest=plans("1-2-1", "2-1-1"),
        fits=lambda names: len(names) <= at_most,
        stops=stops,
        folder=folder,
    )


@pytest.mark.parametrize("training", [TRAINING, SEQUENTIAL], ids=["simultaneous", "sequential"])
@pytest.mark.parametrize("stride_s", [0.0, 1e9])
def test_parts_give_the_rungs_of_the_whole(tmp_path, monkeypatch, training, stride_s):
    monkeypatch.setattr("dsaccel.training.pace.STRIDE_S", stride_s)
    expected, cohort = whole(training), split(tmp_path / "parts", training)
    assert cohort.parts() == [(H("1-1-1"), H("1-1-2")), (H("1-2-2"), H("2-1-2"))]
    assert cohort.harvested == expected.harvested == [H("1-2-1"), H("2-1-1")]
    for one, other in zip(expected.rungs(), cohort.rungs(), strict=True):
        assert other == one
    assert not cohort.learners


def test_retired_networks_are_retired_from_their_parts(tmp_path):
    expected, cohort = whole(), split(tmp_path, stops=(1,))
    one, other = expected.rungs(), cohort.rungs()
    assert next(other) == next(one)
    for each in (expected, cohort):
        each.retire({H("1-1-1"), H("2-1-2")})
    assert cohort.parts() == [(H("1-1-2"), H("1-2-2"))]
    assert list(other) == list(one)


def test_a_part_is_let_go_before_the_next_one_is_made(tmp_path, monkeypatch):
    living: weakref.WeakSet[Learner] = weakref.WeakSet()
    others = []
    make, begin = Learner.__init__, Part.__init__

    def watched(self, *args, **kwargs):
        make(self, *args, **kwargs)
        living.add(self)

    def open_part(self, station, task):
        others.append(len(living))
        begin(self, station, task)

    monkeypatch.setattr(Learner, "__init__", watched)
    monkeypatch.setattr(Part, "__init__", open_part)
    monkeypatch.setattr("dsaccel.training.pace.STRIDE_S", 0.0)
    assert len(list(split(tmp_path).rungs())) == TRAINING.epochs
    assert others == [0] * 2 * TRAINING.epochs


def test_no_part_is_trained_beyond_a_stop_before_all_have_arrived(tmp_path, monkeypatch):
    epochs = []
    start = Learner.start_epoch
    monkeypatch.setattr(
        Learner,
        "start_epoch",
        lambda self, epoch, **way: (epochs.append(epoch), start(self, epoch, **way))[1],
    )
    trained = [max(epochs) for _ in split(tmp_path, stops=(2,)).rungs()]
    assert trained == [1, 2, 3]


@pytest.mark.parametrize("saved_as", [whole, split], ids=["whole", "split"])
@pytest.mark.parametrize("resumed_as", [whole, split], ids=["whole", "split"])
def test_a_checkpoint_is_read_whole_or_split(tmp_path, monkeypatch, saved_as, resumed_as):
    monkeypatch.setattr("dsaccel.training.pace.STRIDE_S", 0.0)
    expected = list(whole().rungs())
    make = {whole: lambda f: whole(), split: split}
    path = tmp_path / "checkpoint.pt"
    saved = make[saved_as](tmp_path / "a")
    key = checkpoint_key("", saved)
    rungs = saved.rungs()
    next(rungs)
    next(rungs)
    saved.retire({H("1-1-1")})
    save_checkpoint(path, key, saved)
    resumed = make[resumed_as](tmp_path / "b")
    assert load_checkpoint(path, checkpoint_key("", resumed), resumed)
    again = resumed.rungs()
    assert [next(again), next(again)] == expected[:2]
    resumed.retire({H("1-1-1")})
    (last,) = again
    assert last.accuracies == {n: a for n, a in expected[2].accuracies.items() if n != H("1-1-1")}


@pytest.mark.parametrize("training", [TRAINING, SEQUENTIAL], ids=["simultaneous", "sequential"])
def test_a_cohort_that_was_saved_whole_within_an_epoch_goes_on_in_parts(tmp_path, training):
    expected, saved, path = whole(training), whole(training), tmp_path / "checkpoint.pt"
    rungs, left = list(expected.rungs()), iter(range(5, -1, -1))

    def save(*, now):
        if not next(left):  # twice in the second epoch; in the second unit
            save_checkpoint(path, "key", saved)
            raise KeyboardInterrupt

    saved.keeper = cast(Any, SimpleNamespace(save=save))
    with pytest.raises(KeyboardInterrupt):
        list(saved.rungs())
    resumed = split(tmp_path / "parts", training)
    assert load_checkpoint(path, "key", resumed)
    assert resumed._within.batches > 0
    assert list(resumed.rungs()) == rungs


def test_a_network_that_waits_for_memory_learns_no_batch_twice(monkeypatch):
    """The device was full in the middle of a batch, and of the second epoch."""
    expected = list(one_network().rungs())
    monkeypatch.setattr(MemoryLimit, "_is_taken", lambda *_: True)
    monkeypatch.setattr(MemoryLimit, "_wait_for", lambda *_: True)
    learn, numbers = Learner._learn, itertools.count()

    def full_once(self, *args):
        if next(numbers) == 30:
            raise MemoryError
        return learn(self, *args)

    monkeypatch.setattr(Learner, "_learn", full_once)
    assert list(one_network().rungs()) == expected
    assert next(numbers) > 31


def test_damaged_learners_of_parts_give_way_to_those_of_the_checkpoint_before(
    tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr("dsaccel.training.pace.STRIDE_S", 0.0)
    path, saved = tmp_path / "checkpoint.pt", split(tmp_path / "parts")
    key = checkpoint_key("", saved)
    for _, reached in zip(range(2), saved.rungs(), strict=False):
        assert saved.step == reached.step
        save_checkpoint(path, key, saved)
    (last, *_) = (tmp_path / "parts").glob(f"*-{saved.step}-*.pt")
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    last.write_bytes(content)
    starts = []
    start = Learner.start_epoch
    monkeypatch.setattr(
        Learner,
        "start_epoch",
        lambda self, epoch, **way: (starts.append(epoch), start(self, epoch, **way))[1],
    )
    resumed = split(tmp_path / "parts")
    assert load_checkpoint(path, key, resumed)
    assert len(caplog.records) == 1
    assert list(resumed.rungs()) == list(whole().rungs())
    assert starts[0] == 2


def test_a_part_that_was_cut_off_within_a_stage_goes_on_from_its_last_unit(tmp_path, monkeypatch):
    monkeypatch.setattr("dsaccel.training.checkpoint.INTERVAL_S", -1.0)
    expected = list(whole(SEQUENTIAL).rungs())
    freeze, left = Learner.freeze, itertools.count(4, -1)

    def run(name):
        cohort = split(tmp_path / name, SEQUENTIAL)
        Checkpoints(tmp_path / f"{name}.pt", "", cohort)
        return list(cohort.rungs())

    def counted(self):
        if next(left) == 0:
            raise KeyboardInterrupt
        freeze(self)

    monkeypatch.setattr(Learner, "freeze", counted)
    with pytest.raises(KeyboardInterrupt):
        run("cut")
    cut = next(left)
    assert run("cut") == expected
    again = next(left)
    assert run("whole") == expected
    assert (again - next(left)) - (cut - again) >= 3  # units that were not trained twice
    assert not list(tmp_path.rglob("within-*"))


@pytest.mark.parametrize("training", [TRAINING, SEQUENTIAL], ids=["simultaneous", "sequential"])
def test_a_cohort_in_parts_that_is_stopped_trains_nothing_twice(tmp_path, monkeypatch, training):
    monkeypatch.setattr("dsaccel.training.parts.WORTH_MOVING_S", 1e9)  # cut as before
    expected, learned, learn = list(whole(training).rungs()), [], Learner._learn

    def run(name, stop_at=0):
        def counted(self, *args):
            learned.append(1)
            if len(learned) == stop_at:
                stopping.stop(KeyboardInterrupt())
            return learn(self, *args)

        monkeypatch.setattr(Learner, "_learn", counted)
        cohort = split(tmp_path / name, training)
        Checkpoints(tmp_path / f"{name}.pt", "", cohort)
        return list(cohort.rungs())

    assert run("whole") == expected
    num = len(learned)
    learned.clear()
    with pytest.raises(KeyboardInterrupt):  # in the last part
        run("stopped", num - num // 4)
    assert len(learned) < num
    assert run("stopped") == expected
    assert len(learned) == num


def test_a_split_cohort_rests_only_where_all_that_was_trained_is_told(tmp_path):
    cohort = split(tmp_path)
    assert [cohort.at_rest for _ in cohort.rungs()] == [True, False, True]


def test_what_parts_share_counts_as_trained_twice(tmp_path):
    networks = plans("1-1-1", "1-1-2", "1-2-2", "2-1-2")
    halves = [Trie({n: networks[n] for n in part}) for part in split(tmp_path).parts()]
    in_parts, together = split(tmp_path), whole()
    for cohort in (in_parts, together):
        list(cohort.rungs())
    assert in_parts.blocks_trained == sum(t.blocks_trained for t in halves)
    assert together.blocks_trained == together.trie.blocks_trained < in_parts.blocks_trained


# ---------------------------------------------------------------------- in a search

STUDY = {
    "budget": {"n_trials": 6, "cohort_size": 6, "baseline": False},
    "pruning": {"grace_epochs": 2},
}


def without_blocks(record):
    left_out = ("time_s", "config", "crew")
    attrs = {k: v for k, v in record.attributes.items() if k not in left_out}
    spent = ("blocks_trained", "time_s")
    attrs["cohort"] = {k: v for k, v in attrs["cohort"].items() if k not in spent}
    return attrs, record.blocks_trained or 0


def limited(monkeypatch, num_networks):
    """So many networks fit."""
    monkeypatch.setattr(MemoryLimit, "_needed", lambda self, plans, training: len(plans) * 2**20)
    return {"memory_mib": num_networks}


@pytest.mark.parametrize("memory", [1, 2, 4])
def test_a_search_in_little_memory_finds_what_it_finds_in_much(monkeypatch, memory):
    expected, much = tiny_study.whole(**STUDY)
    runtime = limited(monkeypatch, memory)
    search = tiny_study.searched("little", **STUDY, runtime=runtime)
    assert tiny_study.rows(search) == expected
    attrs, blocks = without_blocks(search.ledger.record())
    as_expected, fewer = without_blocks(much)
    assert attrs == as_expected
    assert blocks > fewer > 0
    assert not search.directory.parts.exists()


@pytest.mark.parametrize("schedule", ["simultaneous", "sequential"])
@pytest.mark.parametrize("memory", [2, 4])
def test_a_search_goes_on_when_all_of_a_cohort_are_pruned(monkeypatch, schedule, memory):
    monkeypatch.setattr("dsaccel.training.pace.STRIDE_S", 0.0)
    search = tiny_study.searched(
        budget={"n_trials": 7, "cohort_size": 4, "baseline": False},
        pruning={"kind": "ThresholdPruner", "options": {"lower": 0.99}},
        training={"schedule": schedule, "epochs": 2},
        references=[],
        runtime=limited(monkeypatch, memory),
    )
    trials = search.study.get_trials()
    assert [(t.state.name, list(t.intermediate_values)) for t in trials] == [("PRUNED", [1])] * 7
    assert search.is_finished
    assert (search.ledger.record().blocks_trained or 0) > 0
    assert not search.directory.parts.exists()
    assert not search.directory.checkpoint.exists()


def fail(monkeypatch, error, *, at_epoch=None):
    """Training raises `error`, once in an epoch or always; returns the epochs that begin."""
    epochs = []
    start = Learner.start_epoch

    def start_epoch(self, epoch, **way):
        if _get_current_dispatch_mode() is not None:  # its memory is counted: nothing is trained
            start(self, epoch, **way)
            return
        is_first = epoch not in epochs
        epochs.append(epoch)
        if at_epoch is None or (epoch == at_epoch and is_first):
            if at_epoch is not None:
                epochs.append(-1)
            raise error
        start(self, epoch, **way)

    monkeypatch.setattr(Learner, "start_epoch", start_epoch)
    return epochs


ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    MemoryError(),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't "
        "allocate memory: you tried to allocate 8 bytes."
    ),
]


@pytest.mark.parametrize("error", ERRORS, ids=["cuda", "python", "cpu"])
def test_a_search_that_runs_out_of_memory_goes_on_in_parts(monkeypatch, error):
    expected, much = tiny_study.whole(**STUDY)
    monkeypatch.setattr("dsaccel.training.checkpoint.INTERVAL_S", 0.0)
    epochs = fail(monkeypatch, error, at_epoch=3)
    search = tiny_study.searched("little", **STUDY)
    assert tiny_study.rows(search) == expected
    # two epochs as a whole, and from the checkpoint on the other two in parts
    assert [epoch for epoch, _ in itertools.groupby(epochs)][:5] == [1, 2, 3, -1, 3]
    assert (search.ledger.record().blocks_trained or 0) > (much.blocks_trained or 0) > 0


def test_without_a_checkpoint_the_parts_start_from_the_beginning(monkeypatch):
    expected, _ = tiny_study.whole(**STUDY)
    epochs = fail(monkeypatch, MemoryError(), at_epoch=4)
    search = tiny_study.searched("little", **STUDY)
    assert [epoch for epoch, _ in itertools.groupby(epochs)][:6] == [1, 2, 3, 4, -1, 1]
    assert tiny_study.rows(search) == expected


def test_it_splits_again_until_it_fits(monkeypatch):
    """More learners than a network has never fit."""
    expected, _ = tiny_study.whole(**STUDY)
    make = Cohort.learners.fget
    assert make is not None
    most = len(Trie(plans("2-2-2")).roots) + 7

    def learners(self):
        if len(list(self.trie.nodes())) > most:
            raise MemoryError
        return make(self)

    monkeypatch.setattr(Cohort, "learners", property(learners))
    search = tiny_study.searched("little", **STUDY)
    assert tiny_study.rows(search) == expected


def test_other_errors_are_not_taken_for_a_lack_of_memory(monkeypatch):
    fail(monkeypatch, RuntimeError("a defect"))
    with pytest.raises(RuntimeError, match="a defect"):
        tiny_study.searched(**STUDY)


def test_a_network_that_fails_alone_is_an_error_that_says_what_to_do(monkeypatch):
    fail(monkeypatch, MemoryError())
    with pytest.raises(NoMemoryError, match=r"ran out of memory .* alone .*batch_size"):
        tiny_study.searched(**STUDY)
    assert NoMemoryError.exit_code == 6


def test_a_network_that_cannot_fit_is_refused_before_it_is_trained(monkeypatch):
    fail(monkeypatch, AssertionError("trained"))
    with pytest.raises(NoMemoryError, match=r"memory must be at least \d+ MiB to train .* 1 MiB"):
        tiny_study.searched(
            **STUDY, runtime={"memory_mib": 1}, network={"width": 0.5}, training={"batch_size": 32}
        )
    search = tiny_study.searching(
        **STUDY, runtime={"memory_mib": 1}, network={"width": 0.5}, training={"batch_size": 32}
    )
    assert not [t for t in search.study.get_trials() if t.state.name == "RUNNING"]


def test_a_study_goes_on_with_another_memory_limit():
    tiny_study.searched(**STUDY, runtime={"memory_mib": 500})
    assert tiny_study.searching(**STUDY, runtime={"memory_mib": 600}).is_finished


def test_a_baseline_that_cannot_fit_is_refused_and_the_search_is_kept(monkeypatch):
    """Back-propagation through the whole network takes the most."""
    needed = MemoryLimit._needed

    def no_room_for_the_baseline(self, plans, training):
        is_global = any(not plan.num_local_losses for plan in plans.values())
        return 2 * self.limit_bytes if is_global else needed(self, plans, training)

    monkeypatch.setattr(MemoryLimit, "_needed", no_room_for_the_baseline)
    budget = {"n_trials": 6, "cohort_size": 6}
    with pytest.raises(NoMemoryError, match=r"by back-propagation.*budget\.baseline=false"):
        tiny_study.searched(budget=budget)
    again = tiny_study.searching(budget=budget)
    assert again.num_trained == 6
    assert not again.is_finished
    assert tiny_study.searching(budget=budget | {"baseline": False}).is_finished


# ---------------------------------------------------------------------- one network


def one_network(**runtime):
    tables = tiny_study.tables(runtime={"device": "cpu", "threads": 1, **runtime})
    sections = {key: tables[key] for key in ("data", "network", "training", "runtime")}
    return Training(
        RunConfig.model_validate({"family": "resnet18", "hierarchy": "1-2-1", **sections})
    )


@pytest.mark.parametrize("error", ERRORS, ids=["cuda", "python", "cpu"])
def test_training_that_runs_out_of_memory_is_an_error_that_says_what_to_do(monkeypatch, error):
    fail(monkeypatch, error, at_epoch=2)
    rungs = one_network().rungs()
    assert next(rungs).step == 1
    with pytest.raises(NoMemoryError, match=r"ran out of memory .* 1-2-1 alone .*batch_size"):
        next(rungs)


def test_a_network_whose_weights_alone_do_not_fit_is_the_same_error(monkeypatch):
    def learners(self):
        raise MemoryError

    monkeypatch.setattr(Cohort, "learners", property(learners))
    with pytest.raises(NoMemoryError, match="ran out of memory"):
        next(one_network().rungs())


def test_training_that_cannot_fit_is_refused_before_anything_is_allocated(monkeypatch):
    monkeypatch.setattr(Cohort, "_make_learner", lambda self, node: pytest.fail("allocated"))
    monkeypatch.setattr(MemoryLimit, "_needed", lambda self, plans, training: 3 * 2**20)
    with pytest.raises(NoMemoryError, match="at least 3 MiB to train 1-2-1, but 2 MiB"):
        next(one_network(memory_mib=2).rungs())


def test_other_errors_of_training_are_left_as_they_are(monkeypatch):
    fail(monkeypatch, RuntimeError("a defect"))
    with pytest.raises(RuntimeError, match="a defect"):
        next(one_network().rungs())


# ---------------------------------------------------------------------- what it takes


def test_parts_take_no_more_memory_than_the_largest_of_them(tmp_path):
    def alone(names):
        networks = plans(*map(str, names))
        return peak_bytes(
            lambda: list(Cohort(networks, TRAINING, Batches(), seed=1, device=CPU).rungs()), CPU
        )

    parts = split(tmp_path).parts()
    assert len(parts) == 2
    peak = peak_bytes(lambda: list(split(tmp_path).rungs()), CPU)
    assert peak < 1.1 * max(map(alone, parts))


def test_going_on_takes_no_more_memory_than_training(tmp_path):
    path, cohort = tmp_path / "checkpoint.pt", whole()
    key = checkpoint_key("", cohort)

    def train(run):
        rungs = run.rungs()
        next(rungs)
        next(rungs)

    trained = peak_bytes(lambda: train(cohort), CPU)
    save_checkpoint(path, key, cohort)

    def go_on():
        resumed = whole()
        assert load_checkpoint(path, key, resumed)
        assert len(list(resumed.rungs())) == TRAINING.epochs

    assert peak_bytes(go_on, CPU) < 1.05 * trained
