"""Units wait for what they read and for nothing else. What CUDA adds is tested in test_gpu.py."""

from contextlib import contextmanager

import pytest
import torch
from helpers import CPU, TRAINING, Batches, cohort, plans

from dsaccel.nn.labels import SimilarLabels
from dsaccel.nn.units import LocalHead, Unit
from dsaccel.schedules.simultaneous import simultaneous
from dsaccel.spec.trie import Trie
from dsaccel.training.cuda_streams import CudaLanes
from dsaccel.training.descent import train_batch
from dsaccel.training.learner import Learner

NUM_LANES = 3


class FakeStream:
    """Knows what has happened before its newest operation: how many of each stream's."""

    current: "FakeStream"
    num_made = 0

    def __init__(self, _device=None):
        self.number = FakeStream.num_made
        FakeStream.num_made += 1
        self.clock = {self.number: 0}

    def operate(self) -> dict[int, int]:
        """Launch something; returns what it comes after, itself included."""
        self.clock[self.number] += 1
        return dict(self.clock)

    def wait_event(self, event: "FakeEvent") -> None:
        for number, count in event.clock.items():
            self.clock[number] = max(self.clock.get(number, 0), count)

    def wait_stream(self, other: "FakeStream") -> None:
        event = FakeEvent()
        event.record(other)
        self.wait_event(event)


class FakeEvent:
    clock: dict[int, int]

    def record(self, stream: FakeStream) -> None:
        self.clock = dict(stream.clock)


@contextmanager
def on(stream: FakeStream):
    before, FakeStream.current = FakeStream.current, stream
    yield
    FakeStream.current = before


def comes_after(clock: dict[int, int], other: dict[int, int]) -> bool:
    return all(clock.get(number, 0) >= count for number, count in other.items())


@pytest.fixture
def outside(monkeypatch):
    """CUDA's streams, as far as lanes use them; the one that the caller is on."""
    FakeStream.num_made = 0
    FakeStream.current = outside = FakeStream()
    monkeypatch.setattr(torch.cuda, "Stream", FakeStream)
    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
    monkeypatch.setattr(torch.cuda, "stream", on)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _device: FakeStream.current)
    return outside


class Watched:
    """What each unit's forward pass, its loss and its step come after, and in which stream."""

    def __init__(self, monkeypatch):
        self.forwards: list[tuple[int, dict[int, int]]] = []
        self.losses: list[dict[int, int]] = []
        self.ends: list[dict[int, int]] = []
        self.kept: list[tuple[int, int]] = []
        forward, loss, end = Unit.forward, LocalHead.gradients, torch.optim.Adam.step

        def unit_forward(unit, x, skip, generators):
            self.forwards.append((FakeStream.current.number, FakeStream.current.operate()))
            return forward(unit, x, skip, generators)

        def head_loss(head, h, labels):
            self.losses.append(FakeStream.current.operate())
            return loss(head, h, labels)

        def adam_step(adam):
            self.ends.append(FakeStream.current.operate())
            return end(adam)

        def record_stream(tensor, stream):
            self.kept.append((tensor.data_ptr(), stream.number))

        monkeypatch.setattr(Unit, "forward", unit_forward)
        monkeypatch.setattr(LocalHead, "gradients", head_loss)
        monkeypatch.setattr(torch.optim.Adam, "step", adam_step)
        monkeypatch.setattr(torch.Tensor, "record_stream", record_stream)


def learn(*names: str) -> tuple[Trie, dict]:
    trie = Trie(plans(*names))
    learners = {node: Learner(node.segment, TRAINING, seed=1, device=CPU) for node in trie.nodes()}
    for learner in learners.values():
        learner.start_epoch(1)
    return trie, learners


def test_a_unit_begins_when_its_input_is_there_and_need_not_wait_for_the_loss(outside, monkeypatch):
    trie, learners = learn("1-1-1")
    watched = Watched(monkeypatch)
    x, y = next(Batches().train_batches(1))
    train_batch(trie.roots, learners, x, y, CudaLanes(CPU, NUM_LANES))
    num_units = sum(len(learner.units) for learner in learners.values())
    assert len(watched.forwards) == len(watched.ends) == num_units
    pairs = zip(watched.forwards, watched.forwards[1:], strict=False)
    for number, ((lane, below), (next_lane, above)) in enumerate(pairs):
        assert lane != next_lane
        assert comes_after(above, below)
        assert not comes_after(above, watched.losses[number])
        assert not comes_after(above, watched.ends[number])


def test_siblings_wait_for_the_unit_below_them_and_not_for_each_other(outside, monkeypatch):
    trie, learners = learn("1-1-1", "1-1-2", "1-2-1")
    watched = Watched(monkeypatch)
    x, y = next(Batches().train_batches(1))
    train_batch(trie.roots, learners, x, y, CudaLanes(CPU, 64))
    first_unit: dict = {}
    stack, number = list(reversed(trie.roots)), 0
    while stack:  # in the order that they are trained in
        node = stack.pop()
        first_unit[node] = number
        number += len(learners[node].units)
        stack += reversed(node.children)
    assert number == len(watched.forwards)
    branching = [node for node in trie.nodes() if len(node.children) > 1]
    assert branching
    for node in branching:
        last = first_unit[node] + len(learners[node].units) - 1
        starts = [watched.forwards[first_unit[child]][1] for child in node.children]
        for start in starts:
            assert comes_after(start, watched.forwards[last][1])
            assert not any(comes_after(start, other) for other in starts if other is not start)


def test_a_step_waits_for_what_was_before_it_and_is_waited_for_by_what_is_after(
    outside, monkeypatch
):
    trie, learners = learn("1-1-2", "1-2-1")
    watched = Watched(monkeypatch)
    x, y = next(Batches().train_batches(1))
    before = outside.operate()
    train_batch(trie.roots, learners, x, y, CudaLanes(CPU, NUM_LANES))
    after = outside.operate()
    assert all(comes_after(clock, before) for _, clock in watched.forwards)
    assert all(comes_after(after, clock) for clock in watched.ends)
    assert FakeStream.current is outside


def test_each_step_puts_each_unit_into_the_same_lane(outside, monkeypatch):
    trie, learners = learn("1-1-2", "1-2-1")
    watched = Watched(monkeypatch)
    lanes = CudaLanes(CPU, 4)
    for x, y in Batches().train_batches(1):
        train_batch(trie.roots, learners, x, y, lanes)
    used = [lane for lane, _ in watched.forwards]
    num_units = sum(len(learner.units) for learner in learners.values())
    assert len(used) > num_units
    assert num_units % 4 != 0  # else it would come out by itself
    assert all(lane == used[number % num_units] for number, lane in enumerate(used))
    assert len(set(used)) == 4


def test_what_is_read_in_another_lane_is_kept_until_that_lane_is_done(outside, monkeypatch):
    trie, learners = learn("1-1-1")
    watched = Watched(monkeypatch)
    read: list[set[int]] = []
    forward = Unit.forward

    def noted(unit, x, skip, generators):
        read.append({t.data_ptr() for t in (x, skip) if t is not None})
        return forward(unit, x, skip, generators)

    monkeypatch.setattr(Unit, "forward", noted)
    x, y = next(Batches().train_batches(1))
    train_batch(trie.roots, learners, x, y, CudaLanes(CPU, NUM_LANES))
    lanes = [lane for lane, _ in watched.forwards]
    for lane, tensors in list(zip(lanes, read, strict=True))[1:]:
        assert {(tensor, lane) for tensor in tensors} <= set(watched.kept)
    assert any(len(tensors) == 2 for tensors in read)  # a block's input, too


def test_what_is_made_of_labels_is_there_before_the_lanes(outside, monkeypatch):
    """Once a step: units in all lanes read it."""
    Watched(monkeypatch)
    made: list[int] = []
    make = SimilarLabels.__call__

    def seen(target, y_B):
        made.append(FakeStream.current.number)
        return make(target, y_B)

    monkeypatch.setattr(SimilarLabels, "__call__", seen)
    whole, data = cohort(plans("1-1-2", "1-2-1")), Batches(num_images=64)
    lanes = CudaLanes(CPU, NUM_LANES)
    list(simultaneous(whole.trie, whole.learners, data, 1, lanes=lanes))
    assert made == [outside.number] * sum(1 for _ in data.train_batches(1))
