"""How much memory training takes, from the plan alone: before anything is allocated.

What lies in memory for long (parameters, Adam's two averages) is summed over the trie's nodes; what
comes and goes is the peak over the units (`unit_memory.py`), of which one learns at a time, or one
a lane. Bytes of tensors, as torch's allocators hand them out; what convolution libraries take for
themselves is not among them.
"""

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from dsaccel.config.study import TrainingConfig
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.plan import Plan, Segment
from dsaccel.spec.trie import Node, Trie
from dsaccel.training.unit_memory import (
    BF16,
    FP32,
    Sizes,
    num_read,
    num_written,
    unit_peaks,
    units_of,
)

T = TypeVar("T")


@dataclass(frozen=True)
class Estimate:
    """What training holds at its peak, in bytes."""

    parameters_bytes: int
    """Weights and running statistics of all nodes."""
    optimizer_bytes: int
    """Adam's averages; `sequential`: of the units that learn at the same time."""
    activations_bytes: int
    """The unit with the highest peak, its gradients among it, and the features that branches
    of the trie still wait for. With a CUDA graph: that, for what is not recorded, and what the
    graph keeps to itself."""
    cache_bytes: int = 0
    """Kept features of frozen units (`sequential`)."""

    @property
    def total_bytes(self) -> int:
        return (
            self.parameters_bytes + self.optimizer_bytes + self.activations_bytes + self.cache_bytes
        )


def estimate(
    trie: Trie,
    training: TrainingConfig,
    *,
    num_images: int = 0,
    device: str = "cpu",
    unfolds_bf16: bool = False,
) -> Estimate:
    """The peak of training a trie.

    Args:
        trie: the networks.
        training: batch size, precision and schedule.
        num_images: training images; for the feature caches of the sequential schedule.
        device: its type; on a CPU wide convolutions run by tiles.
        unfolds_bf16: the device has no convolution of bf16 of its own.
    """
    is_exact = training.precision == "fp32"
    sizes = Sizes(
        training.batch_size,
        FP32 if is_exact else BF16,
        tiles=is_exact and device == "cpu",
        unfolds=unfolds_bf16 and not is_exact,
    )
    nodes = list(trie.nodes())
    parameters = sum(_parameters(node.segment) for node in nodes)
    statistics = sum(_statistics(node.segment) for node in nodes)
    images = max((sizes.exact(num_read(root.segment.layers[0])) for root in trie.roots), default=0)
    if training.schedule == "simultaneous":
        learning, cached = parameters, 0
        peak = max(_simultaneous_peaks(trie.roots, sizes, held=images), default=0)
        if device == "cuda" and training.cuda_graph:
            lanes = training.cuda_lanes
            peak += peak if lanes == 1 else _lanes_peak(nodes, sizes, lanes)
    else:
        learning, cached = _largest_wave(trie), _cached_bytes(trie, training, num_images, sizes)
        peak = max(_sequential_peaks(trie.roots, sizes, held=images), default=0)
    return Estimate(
        parameters_bytes=FP32 * (parameters + statistics),
        optimizer_bytes=2 * FP32 * learning,
        activations_bytes=peak,
        cache_bytes=cached,
    )


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


def estimate_plans(
    plans: Mapping[Hierarchy, Plan],
    training: TrainingConfig,
    *,
    num_images: int = 0,
    device: str = "cpu",
    unfolds_bf16: bool = False,
) -> Estimate:
    """The peak of training some networks as one trie."""
    return estimate(
        Trie(plans),
        training,
        num_images=num_images,
        device=device,
        unfolds_bf16=unfolds_bf16,
    )


# ---------------------------------------------------------------------- the trie


def _simultaneous_peaks(
    siblings: Sequence[Node], sizes: Sizes, *, held: int, entry: int = 0
) -> Iterator[int]:
    """The peak at each node: what it needs beside its input, the input (`entry`), and what branches
    below still wait for (`held`; the images always).
    """
    for node in siblings:
        yield held + entry + max(unit_peaks(node.segment, sizes))
        waiting = 0 if node is siblings[-1] else entry
        features = sizes.map(sum(_passed_on(node.segment)[-1:]))
        yield from _simultaneous_peaks(node.children, sizes, held=held + waiting, entry=features)


def _lanes_peak(nodes: Sequence[Node], sizes: Sizes, num_lanes: int) -> int:
    """Of a recorded step, at most: the highest units are in different lanes, and no features are
    let go before its end.
    """
    features = sum(sizes.map(sum(_passed_on(node.segment))) for node in nodes)
    peaks = (peak for node in nodes for peak in unit_peaks(node.segment, sizes))
    return features + sum(heapq.nlargest(num_lanes, peaks))


def _sequential_peaks(siblings: Sequence[Node], sizes: Sizes, *, held: int) -> Iterator[int]:
    """Likewise; the features of all frozen units below are held."""
    for node in siblings:
        yield held + max(unit_peaks(node.segment, sizes))
        below = sizes.map(sum(_passed_on(node.segment)))
        yield from _sequential_peaks(node.children, sizes, held=held + below)


def _largest_wave(trie: Trie) -> int:
    """Parameters of the units that learn at the same time, at most: the n-th of each stage."""
    waves: dict[tuple[int, int], int] = {}

    def visit(node: Node, stage: int, number: int) -> None:
        number = number if node.stage == stage else 0
        for unit in units_of(node.segment):
            key = (node.stage, number)
            waves[key] = waves.get(key, 0) + unit.num_parameters
            number += 1
        for child in node.children:
            visit(child, node.stage, number)

    for root in trie.roots:
        visit(root, root.stage, 0)
    return max(waves.values(), default=0)


def _cached_bytes(trie: Trie, training: TrainingConfig, num_images: int, sizes: Sizes) -> int:
    """What the units to be trained next read in all epochs, or the caches' size if that is less."""
    room = (training.feature_cache_mib + training.feature_cache_host_mib) * 2**20
    kept = sum(_widest(root) for root in trie.roots)
    return min(room, kept * sizes.map_bytes * num_images * training.epochs)


def _widest(node: Node) -> int:
    """The most numbers of a sample that frozen units pass on in a subtree, none above another."""
    ends = [unit.layers[-1] for unit in units_of(node.segment) if unit.layers]
    # within a block its input is kept too, for the shortcut
    shortcuts = (0 if layer is b.layers[-1] else num_read(b.layers[0]) for b, layer in ends)
    passed = (num_written(layer) for _, layer in ends)
    own = max((out + skip for out, skip in zip(passed, shortcuts, strict=True)), default=0)
    return max(own, sum(_widest(child) for child in node.children))


def _parameters(segment: Segment) -> int:
    return sum(unit.num_parameters for unit in units_of(segment))


def _statistics(segment: Segment) -> int:
    """Running mean and variance of each normalised channel."""
    projected = (b.out_channels for b in segment.blocks if b.shortcut == "projection")
    return 2 * (sum(layer.out_channels for layer in segment.layers) + sum(projected))


def _passed_on(segment: Segment) -> list[int]:
    """Numbers of a sample that each unit passes on."""
    return [num_written(unit.layers[-1][1]) for unit in units_of(segment) if unit.layers]
