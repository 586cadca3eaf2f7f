"""How much memory training takes, counted before anything is allocated.

A segment's own learner takes a step on tensors without numbers, once for each shape of segment, and
what lives at the same time is counted (`meter.py`). What lies in memory for long (weights, the
optimizer's averages) is summed over the trie's nodes; what comes and goes is the peak over the
units, of which one learns at a time, or one a lane. Bytes of tensors, as torch's allocators hand
them out; of what libraries take for themselves, only their workspaces on CUDA are in the estimate.
"""

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TypeVar

import torch
from torch import Tensor

from dsaccel.config.study import TrainingConfig
from dsaccel.nn.layers import Features
from dsaccel.nn.winograd import Conv2d
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.plan import Block, Layer, Plan, Segment
from dsaccel.spec.trie import Node, Trie
from dsaccel.training.learner import Learner
from dsaccel.training.meter import Counter, FakeMeter, Machine

CPU = torch.device("cpu")
A_CPU = Machine()
WORKSPACE_BYTES = 64 * 2**20
"""That cuBLAS takes for each stream: 32 MiB for the forward and 32 for the backward pass."""

T = TypeVar("T")


@dataclass(frozen=True)
class Estimate:
    """What training holds at its peak, in bytes."""

    parameters_bytes: int
    """Weights and running statistics of all nodes."""
    optimizer_bytes: int
    """The optimizer's averages; `sequential`: of the units that learn at the same time."""
    activations_bytes: int
    """The unit with the highest peak, its gradients among it, and the features that branches
    of the trie still wait for. With a CUDA graph: that, for what is not recorded, and what the
    graph keeps to itself."""
    cache_bytes: int = 0
    """Kept features of frozen units (`sequential`)."""
    workspace_bytes: int = 0
    """Of CUDA's libraries."""

    @property
    def total_bytes(self) -> int:
        held = self.parameters_bytes + self.optimizer_bytes + self.activations_bytes
        return held + self.cache_bytes + self.workspace_bytes


def estimate(
    trie: Trie,
    training: TrainingConfig,
    *,
    num_images: int = 0,
    machine: Machine = A_CPU,
) -> Estimate:
    """The peak of training a trie.

    Args:
        trie: the networks.
        training: batch size, precision and schedule.
        num_images: training images; for the feature caches of the sequential schedule.
        machine: where.
    """
    counted = count_nodes(trie, training, machine)
    nodes = list(counted.values())
    images = max((_images(root, training).nbytes for root in trie.roots), default=0)
    optimizer = sum(unit.optimizer for node in nodes for unit in node.units)
    is_cuda, lanes, cached = machine.device == "cuda", 1, 0
    if training.schedule == "simultaneous":
        peak = max(_simultaneous_peaks(trie.roots, counted, held=images), default=0)
        if is_cuda and training.cuda_graph:
            lanes = training.cuda_lanes
            peak += peak if lanes == 1 else _lanes_peak(nodes, lanes)
    else:
        optimizer = _largest_wave(trie, counted)
        cached = _cached_bytes(trie, counted, training, num_images)
        peak = max(_sequential_peaks(trie.roots, counted, held=images), default=0)
    return Estimate(
        parameters_bytes=sum(unit.parameters for node in nodes for unit in node.units),
        optimizer_bytes=optimizer,
        activations_bytes=peak,
        cache_bytes=cached,
        workspace_bytes=lanes * WORKSPACE_BYTES if is_cuda else 0,
    )


def estimate_plans(
    plans: Mapping[Hierarchy, Plan],
    training: TrainingConfig,
    *,
    num_images: int = 0,
    machine: Machine = A_CPU,
) -> Estimate:
    """The peak of training some networks as one trie."""
    return estimate(Trie(plans), training, num_images=num_images, machine=machine)


def split_to_fit(items: Sequence[T], fits: Callable[[Sequence[T]], bool]) -> list[tuple[T, ...]]:
    """Cut a list into the fewest runs that fit, each as long as it can be; the first may be all.

    In lexicographic order neighbours share the longest prefixes, so runs are subtrees. A run of one
    is taken even if it does not fit.

    Args:
        items: in order.
        fits: whether those can be trained together; true of a part of whatever it is true of.
    """
    parts: list[tuple[T, ...]] = []
    start = 0
    while start < len(items):
        fitting, too_many = start + 1, len(items) + 1
        while too_many - fitting > 1:
            middle = (fitting + too_many) // 2
            if fits(items[start:middle]):
                fitting = middle
            else:
                too_many = middle
        parts.append(tuple(items[start:fitting]))
        start = fitting
    return parts


# ---------------------------------------------------------------------- one segment


@dataclass(frozen=True)
class Maps:
    """What a segment reads: a tensor's shape, batch first, and type."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def nbytes(self) -> int:
        return torch.Size(self.shape).numel() * self.dtype.itemsize

    def empty(self) -> Tensor:
        """Channels-last, as all maps are."""
        x = torch.empty(self.shape, dtype=self.dtype)
        return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


@dataclass(frozen=True)
class UnitMemory:
    """What one unit holds, in bytes."""

    parameters: int
    """Weights and running statistics."""
    optimizer: int
    peak: int
    """While it learns: beside that and the segment's input."""
    features: int
    """That it passes on."""
    skip: int
    """Passed on beside them: the input of the open block; 0 at the segment's end."""


@dataclass(frozen=True)
class SegmentMemory:
    units: tuple[UnitMemory, ...]
    passed_on: Maps

    @cached_property
    def peak(self) -> int:
        """Of its units."""
        return max(unit.peak for unit in self.units)


def count_segment(
    segment: Segment, maps: Maps, training: TrainingConfig, machine: Machine
) -> SegmentMemory:
    """What a segment holds while its units learn from a batch."""
    same = {"schedule": "simultaneous", "epochs": 1, "learning_rate": 1e-3}
    alike = training.deciding.model_copy(update=same)
    return _count(_nameless(segment), maps, alike, machine)  # pyright: ignore[reportArgumentType]


@lru_cache(maxsize=4096)
def _count(
    segment: Segment, maps: Maps, training: TrainingConfig, machine: Machine
) -> SegmentMemory:
    counter = Counter(machine)
    with FakeMeter(counter):
        features = Features(maps.empty(), None)
        labels_B = torch.zeros(maps.shape[0], dtype=torch.long)
        learner = Learner(segment, training, seed=0, device=CPU)
        for module in (module for unit in learner.units for module in unit.modules()):
            if isinstance(module, Conv2d):
                module.by_tiles = machine.device == "cpu"
        held = [_make_averages(learner, index, counter) for index in range(len(learner.units))]
        learner.start_epoch(1)
        start = counter.level
        units = []
        for unit, optimizer in zip(learner.units, held, strict=True):
            counter.restart()
            features = learner.learn(features, labels_B)
            parameters = sum(t.nbytes for t in (*unit.parameters(), *unit.buffers()))
            made = features.x.nbytes if len(unit.layers) else 0
            skip = 0 if features.skip is None or unit is learner.units[-1] else features.skip.nbytes
            units.append(UnitMemory(parameters, optimizer, counter.peak - start, made, skip))
            learner.freeze()
            start -= optimizer
        return SegmentMemory(tuple(units), Maps(tuple(features.x.shape), features.x.dtype))


def _make_averages(learner: Learner, index: int, counter: Counter) -> int:
    """Have a unit's optimizer make what it keeps, as a first step would; returns its bytes."""
    before, optimizer = counter.level, learner.optimizers[index]
    for parameter in learner.units[index].parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return counter.level - before


def _nameless(segment: Segment) -> Segment:
    """Equal for segments that take the same memory, wherever they stand and however they learn."""

    def layer(given: Layer) -> Layer:
        return replace(given, dropout=0.5 if given.dropout else 0.0)

    def block(given: Block, index: int) -> Block:
        return replace(given, stage=1, index=index, layers=tuple(map(layer, given.layers)))

    blocks = tuple(block(given, index) for index, given in enumerate(segment.blocks))
    return replace(segment, blocks=blocks, learning_rate=None)


# ---------------------------------------------------------------------- the trie

Counts = Mapping[Node, SegmentMemory]


def count_nodes(
    trie: Trie, training: TrainingConfig, machine: Machine
) -> dict[Node, SegmentMemory]:
    """What the segment of each node holds."""
    counted: dict[Node, SegmentMemory] = {}
    for node in trie.nodes():
        below = _images(node, training) if node.parent is None else counted[node.parent].passed_on
        counted[node] = count_segment(node.segment, below, training, machine)
    return counted


def _images(root: Node, training: TrainingConfig) -> Maps:
    layer = root.segment.layers[0]
    side = layer.side * layer.stride
    return Maps((training.batch_size, layer.in_channels, side, side), torch.float32)


def _simultaneous_peaks(
    siblings: Sequence[Node], counted: Counts, *, held: int, entry: int = 0
) -> Iterator[int]:
    """The peak at each node: what it needs beside its input, the input (`entry`), and what branches
    below still wait for (`held`; the images always).
    """
    for node in siblings:
        yield held + entry + counted[node].peak
        waiting = 0 if node is siblings[-1] else entry
        yield from _simultaneous_peaks(
            node.children, counted, held=held + waiting, entry=counted[node].units[-1].features
        )


def _lanes_peak(nodes: Sequence[SegmentMemory], num_lanes: int) -> int:
    """Of a recorded step, at most: the highest units are in different lanes, and no features are
    let go before its end.
    """
    units = [unit for node in nodes for unit in node.units]
    highest = heapq.nlargest(num_lanes, (unit.peak for unit in units))
    return sum(unit.features for unit in units) + sum(highest)


def _sequential_peaks(siblings: Sequence[Node], counted: Counts, *, held: int) -> Iterator[int]:
    """Likewise; the features of all frozen units below are held."""
    for node in siblings:
        yield held + counted[node].peak
        below = sum(unit.features for unit in counted[node].units)
        yield from _sequential_peaks(node.children, counted, held=held + below)


def _largest_wave(trie: Trie, counted: Counts) -> int:
    """Averages of the units that learn at the same time, at most: the n-th of each stage."""
    waves: dict[tuple[int, int], int] = {}

    def visit(node: Node, stage: int, number: int) -> None:
        number = number if node.stage == stage else 0
        for unit in counted[node].units:
            key = (node.stage, number)
            waves[key] = waves.get(key, 0) + unit.optimizer
            number += 1
        for child in node.children:
            visit(child, node.stage, number)

    for root in trie.roots:
        visit(root, root.stage, 0)
    return max(waves.values(), default=0)


def _cached_bytes(trie: Trie, counted: Counts, training: TrainingConfig, num_images: int) -> int:
    """What the units to be trained next read in all epochs, or the caches' size if that is less."""
    room = (training.feature_cache_mib + training.feature_cache_host_mib) * 2**20
    kept = sum(_widest(root, counted) for root in trie.roots)
    return min(room, kept * num_images * training.epochs // training.batch_size)


def _widest(node: Node, counted: Counts) -> int:
    """The most of a batch that frozen units pass on in a subtree, none above another."""
    units = counted[node].units
    trained = units if node.children else units[:-1]  # nobody reads an output layer's
    own = max((unit.features + unit.skip for unit in trained), default=0)
    return max(own, sum(_widest(child, counted) for child in node.children))
