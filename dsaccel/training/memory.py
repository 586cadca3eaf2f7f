"""How much memory training takes, counted before anything is allocated.

A segment's own learner takes a step on tensors without numbers, once for each shape of segment
(`segment_memory.py`). What lies in memory for long (weights, the optimizer's averages) is summed
over the trie's nodes; what comes and goes is the peak over the units, of which one learns at a
time, or one a lane. Bytes of tensors, as torch's allocators hand them out; of what libraries take
for themselves, only their workspaces on CUDA are in the estimate.
"""

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from dsaccel.config.recipe import Recompute
from dsaccel.config.study import TrainingConfig
from dsaccel.parts import part_of
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.plan import Plan
from dsaccel.spec.trie import Node, Trie
from dsaccel.training.meter import Machine
from dsaccel.training.segment_memory import Maps, SegmentMemory, count_segment

A_CPU = Machine()
WORKSPACE_BYTES = 64 * 2**20
"""cuBLAS takes 32 MiB a stream for the forward and 32 for the backward pass."""

MAX_COUNTED = 64
"""Blocks of a network of which each kind of checkpointing is counted."""

T = TypeVar("T")


@dataclass(frozen=True)
class Estimate:
    """The memory that training holds at its peak, in bytes."""

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
    """The memory of CUDA's libraries."""

    @property
    def total_bytes(self) -> int:
        held = self.parameters_bytes + self.optimizer_bytes + self.activations_bytes
        return held + self.cache_bytes + self.workspace_bytes


def estimate(
    trie: Trie, training: TrainingConfig, *, num_images: int = 0, machine: Machine = A_CPU
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
    if part_of(training, "schedule").all_at_once:
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


def checkpointed(plan: Plan, training: TrainingConfig) -> TrainingConfig:
    """The same training with the kind of recomputing that takes least memory by the estimate; of
    equals the one that takes less time. Of deep networks `block` is taken, for the others take
    long to count.
    """
    kinds: tuple[Recompute, ...] = ("block", "stage", "nested")
    kinds = kinds[:1] if len(plan.blocks) > MAX_COUNTED else kinds
    ways = [training.model_copy(update={"recompute": kind}) for kind in kinds]
    return min(ways, key=lambda way: training_bytes(way)(plan))


def training_bytes(training: TrainingConfig) -> Callable[[Plan], int]:
    """The estimated peak of training a network alone, on a CPU, without feature caches."""
    return lambda plan: estimate_plans({plan.hierarchy: plan}, training).total_bytes


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


# ---------------------------------------------------------------------- the trie

Counts = Mapping[Node, SegmentMemory]


def count_nodes(
    trie: Trie, training: TrainingConfig, machine: Machine
) -> dict[Node, SegmentMemory]:
    """Count the memory of each node's segment."""
    counted: dict[Node, SegmentMemory] = {}
    images: Maps | None = None
    for node in trie.nodes():
        images = images or _images(node, training)
        below = images if node.parent is None else counted[node.parent].passed_on
        counted[node] = count_segment(node.segment, below, images, training, machine)
    return counted


def _images(root: Node, training: TrainingConfig) -> Maps:
    layer = root.segment.layers[0]
    side = layer.side * layer.stride
    return Maps((training.batch_size, layer.in_channels, side, side), torch.float32)


def _simultaneous_peaks(
    siblings: Sequence[Node], counted: Counts, *, held: int, entry: int = 0
) -> Iterator[int]:
    """The peak at each node: its own need, its input, and what branches below wait for."""
    for node in siblings:
        yield held + entry + counted[node].peak
        waiting = 0 if node is siblings[-1] else entry
        yield from _simultaneous_peaks(
            node.children, counted, held=held + waiting, entry=counted[node].units[-1].features
        )


def _lanes_peak(nodes: Sequence[SegmentMemory], num_lanes: int) -> int:
    """The most that a recorded step holds: the highest units lie in different lanes."""
    units = [unit for node in nodes for unit in node.units]
    highest = heapq.nlargest(num_lanes, (unit.peak for unit in units))
    return sum(unit.features for unit in units) + sum(highest)


def _sequential_peaks(siblings: Sequence[Node], counted: Counts, *, held: int) -> Iterator[int]:
    """The peak at each node, where the features of all frozen units below are held."""
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
    """The bytes that the next units read in all epochs, or the caches' size if that is less."""
    room = (training.feature_cache_mib + training.feature_cache_host_mib) * 2**20
    kept = sum(_widest(root, counted) for root in trie.roots)
    return min(room, kept * num_images * training.epochs // training.batch_size)


def _widest(node: Node, counted: Counts) -> int:
    """The most of a batch that frozen units pass on in a subtree, none above another."""
    units = counted[node].units
    trained = units if node.children else units[:-1]  # nobody reads an output layer's
    own = max((unit.features + unit.skip for unit in trained), default=0)
    return max(own, sum(_widest(child, counted) for child in node.children))
