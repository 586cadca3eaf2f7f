"""How much memory training takes, from the plan alone: before anything is allocated.

What lies in memory for long (parameters, Adam's two averages) is summed over the trie's nodes; what
comes and goes is the peak over the units, which learn one at a time. A unit is a list of steps:
what each keeps for its backward pass, and what it holds beside that while it runs forward and
backward. Bytes of tensors, as torch's allocators hand them out; what convolution libraries take
for themselves is not among them.
"""

# B batch, K classes

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from dsaccel.config import TrainingConfig
from dsaccel.networks.plan import Block, Head, Layer, Output, Plan, Segment
from dsaccel.networks.trie import Node, Trie

FP32 = 4
BF16 = 2
TILE, WINDOW, MIN_CHANNELS = 4, 6, 256
"""Of the convolutions that run by tiles on a CPU: winograd.py."""
INDEX = 8
"""Bytes of a position that a max-pool keeps."""


@dataclass(frozen=True)
class Estimate:
    """What training holds at its peak, in bytes."""

    parameters_bytes: int
    """Weights and running statistics of all nodes."""
    optimizer_bytes: int
    """Adam's averages; `sequential`: of the units that learn at the same time."""
    activations_bytes: int
    """The unit with the highest peak, its gradients among it, and the features that branches
    of the trie still wait for."""
    cache_bytes: int = 0
    """Kept features of frozen units (`sequential`)."""

    @property
    def total_bytes(self) -> int:
        return (
            self.parameters_bytes + self.optimizer_bytes + self.activations_bytes + self.cache_bytes
        )


def estimate(
    trie: Trie, training: TrainingConfig, *, num_images: int = 0, device: str = "cpu"
) -> Estimate:
    """The peak of training a trie.

    Args:
        trie: the networks.
        training: batch size, precision and schedule.
        num_images: training images; for the feature caches of the sequential schedule.
        device: its type; on a CPU wide convolutions run by tiles, and hold more.
    """
    is_exact = training.precision == "fp32"
    sizes = _Sizes(
        training.batch_size, FP32 if is_exact else BF16, tiles=is_exact and device == "cpu"
    )
    nodes = list(trie.nodes())
    parameters = sum(_parameters(node.segment) for node in nodes)
    statistics = sum(_statistics(node.segment) for node in nodes)
    images = max((sizes.exact(_in(root.segment.layers[0])) for root in trie.roots), default=0)
    if training.schedule == "simultaneous":
        learning, cached = parameters, 0
        peaks = _simultaneous_peaks(trie.roots, sizes, held=images)
    else:
        learning, cached = _largest_wave(trie), _cached_bytes(trie, training, num_images, sizes)
        peaks = _sequential_peaks(trie.roots, sizes, held=images)
    return Estimate(
        parameters_bytes=FP32 * (parameters + statistics),
        optimizer_bytes=2 * FP32 * learning,
        activations_bytes=max(peaks, default=0),
        cache_bytes=cached,
    )


def split_to_fit(
    names: Sequence[str], fits: Callable[[Sequence[str]], bool]
) -> list[tuple[str, ...]]:
    """Cut a list into the fewest runs that fit, each as long as it can be; the first may be all.

    In lexicographic order neighbours share the longest prefixes, so runs are subtrees. A run of one
    is taken even if it does not fit.

    Args:
        names: hierarchies, in order.
        fits: whether those can be trained together; true of a part of whatever it is true of.
    """
    parts: list[tuple[str, ...]] = []
    start = 0
    while start < len(names):
        fitting, too_many = start + 1, len(names) + 1
        while too_many - fitting > 1:
            middle = (fitting + too_many) // 2
            if fits(names[start:middle]):
                fitting = middle
            else:
                too_many = middle
        parts.append(tuple(names[start:fitting]))
        start = fitting
    return parts


def estimate_plans(
    plans: Mapping[str, Plan],
    training: TrainingConfig,
    *,
    num_images: int = 0,
    device: str = "cpu",
) -> Estimate:
    """The peak of training some networks as one trie."""
    return estimate(Trie(plans), training, num_images=num_images, device=device)


# ---------------------------------------------------------------------- the trie


@dataclass(frozen=True)
class _Sizes:
    batch: int
    map_bytes: int
    """Of a number in a feature map."""
    tiles: bool
    """Whether wide 3x3 convolutions run by tiles."""

    def map(self, elements: int) -> int:
        return self.batch * self.map_bytes * elements

    def exact(self, elements: int) -> int:
        """In fp32, whatever the precision: statistics, and what a loss reads."""
        return self.batch * FP32 * elements


def _simultaneous_peaks(
    siblings: Sequence[Node], sizes: _Sizes, *, held: int, entry: int = 0
) -> Iterator[int]:
    """The peak at each node: what it needs beside its input, the input (`entry`), and what branches
    below still wait for (`held`; the images always).
    """
    for node in siblings:
        yield held + entry + max(_unit_peaks(node.segment, sizes))
        waiting = 0 if node is siblings[-1] else entry
        features = sizes.map(sum(_passed_on(node.segment)[-1:]))
        yield from _simultaneous_peaks(node.children, sizes, held=held + waiting, entry=features)


def _sequential_peaks(siblings: Sequence[Node], sizes: _Sizes, *, held: int) -> Iterator[int]:
    """Likewise; the features of all frozen units below are held."""
    for node in siblings:
        yield held + max(_unit_peaks(node.segment, sizes))
        below = sizes.map(sum(_passed_on(node.segment)))
        yield from _sequential_peaks(node.children, sizes, held=held + below)


def _largest_wave(trie: Trie) -> int:
    """Parameters of the units that learn at the same time, at most: the n-th of each stage."""
    waves: dict[tuple[int, int], int] = {}

    def visit(node: Node, stage: int, number: int) -> None:
        number = number if node.stage == stage else 0
        for unit in _units(node.segment):
            key = (node.stage, number)
            waves[key] = waves.get(key, 0) + unit.num_parameters
            number += 1
        for child in node.children:
            visit(child, node.stage, number)

    for root in trie.roots:
        visit(root, root.stage, 0)
    return max(waves.values(), default=0)


def _cached_bytes(trie: Trie, training: TrainingConfig, num_images: int, sizes: _Sizes) -> int:
    """What the units to be trained next read in all epochs, or the caches' size if that is less."""
    room = (training.feature_cache_mib + training.feature_cache_host_mib) * 2**20
    kept = sum(_widest(root) for root in trie.roots)
    return min(room, kept * sizes.map_bytes * num_images * training.epochs)


def _widest(node: Node) -> int:
    """The most numbers of a sample that frozen units pass on in a subtree, none above another."""
    ends = [unit.layers[-1] for unit in _units(node.segment) if unit.layers]
    # within a block its input is kept too, for the shortcut
    shortcuts = (0 if layer is b.layers[-1] else _in(b.layers[0]) for b, layer in ends)
    own = max((_out(end[1]) + skip for end, skip in zip(ends, shortcuts, strict=True)), default=0)
    return max(own, sum(_widest(child) for child in node.children))


# ---------------------------------------------------------------------- the units of a segment


@dataclass(frozen=True)
class _Unit:
    """A run of layers, each with its block, and the head that ends it."""

    layers: tuple[tuple[Block, Layer], ...]
    head: Head | Output

    @property
    def num_parameters(self) -> int:
        layers = sum(layer.num_parameters + _shortcut(b, layer)[0] for b, layer in self.layers)
        return layers + self.head.num_parameters


def _units(segment: Segment) -> list[_Unit]:
    units: list[_Unit] = []
    run: list[tuple[Block, Layer]] = []
    for block in segment.blocks:
        for layer in block.layers:
            run.append((block, layer))
            if layer.head is not None:
                units.append(_Unit(tuple(run), layer.head))
                run = []
    if segment.output is not None:
        units.append(_Unit(tuple(run), segment.output))
    return units


def _parameters(segment: Segment) -> int:
    return sum(unit.num_parameters for unit in _units(segment))


def _statistics(segment: Segment) -> int:
    """Running mean and variance of each normalised channel."""
    projected = (b.out_channels for b in segment.blocks if b.shortcut == "projection")
    return 2 * (sum(layer.out_channels for layer in segment.layers) + sum(projected))


def _passed_on(segment: Segment) -> list[int]:
    """Numbers of a sample that each unit passes on."""
    return [_out(unit.layers[-1][1]) for unit in _units(segment) if unit.layers]


def _unit_peaks(segment: Segment, sizes: _Sizes) -> Iterator[int]:
    """The peak of each unit's forward and backward pass, beside the segment's input.

    There are also what the unit below has passed on, and the input of a block that was opened there
    and is not the segment's first.
    """
    below = 0
    for unit in _units(segment):
        opened = 0
        if unit.layers:
            block, layer = unit.layers[0]
            if layer is not block.layers[0] and block is not segment.blocks[0]:
                opened = sizes.map(_in(block.layers[0]))
        yield below + opened + _peak(unit, sizes)
        below = sizes.map(_out(unit.layers[-1][1])) if unit.layers else below


# ---------------------------------------------------------------------- the steps of a unit


@dataclass(frozen=True)
class _Step:
    """Bytes that a step keeps until its backward pass, holds beside that, and leaves behind."""

    kept: int
    forward: int = 0
    backward: int = 0
    gradient: int = 0
    """Of its parameters: there from its backward pass until Adam's step."""


def _peak(unit: _Unit, sizes: _Sizes) -> int:
    peak = live = 0
    steps = list(_steps(unit, sizes))
    for step in steps:
        live += step.kept
        peak = max(peak, live + step.forward)
    for step in reversed(steps):
        live += step.gradient
        peak = max(peak, live + step.backward)
        live -= step.kept
    return peak


def _steps(unit: _Unit, sizes: _Sizes) -> Iterator[_Step]:
    passes_gradient = False  # the unit's input is detached
    for block, layer in unit.layers:
        yield from _layer_steps(block, layer, sizes, passes_gradient=passes_gradient)
        passes_gradient = True
    if isinstance(unit.head, Output):
        yield _output_step(unit.head, sizes)
    else:
        yield from _head_steps(unit.head, sizes)


def _layer_steps(
    block: Block, layer: Layer, sizes: _Sizes, *, passes_gradient: bool
) -> Iterator[_Step]:
    into, out = sizes.map(_in(layer)), sizes.map(_out(layer))
    if block.pool and layer is block.layers[0]:
        positions = sizes.batch * INDEX * _in(layer)
        if passes_gradient:
            yield _Step(into + positions, backward=5 * into)
        else:
            yield _Step(into, forward=positions)
    if layer.kind == "linear" and block.pool:
        yield _Step(into)  # flattened: a copy, as maps are channels-last
    entering = into if passes_gradient else 0
    if layer.kernel == 3 and layer.stride == 1 and layer.kind == "conv":
        channels = layer.in_channels, layer.out_channels
        yield _conv3_step(*channels, layer.side, out, entering, sizes)
    else:
        weights = layer.num_parameters - 2 * layer.out_channels
        yield _map_step(weights, out, out + entering, sizes)
    weights, elements = _shortcut(block, layer)
    if weights:
        entering = sizes.map(elements) if passes_gradient else 0
        yield _map_step(weights, out, 2 * out + entering, sizes)
    # the normalisation's output becomes the activation's in place; a sum is a new map
    summands = 0
    if layer is block.layers[-1]:
        summands = {"none": 0, "identity": out, "projection": 2 * out}[block.shortcut]
    norms = 2 * FP32 * layer.out_channels
    # the classifier's gradient is not channels-last, and is copied before the normalisation's
    copied = 0 if layer.head is None else out
    yield _Step(out, forward=summands, backward=2 * out + copied, gradient=norms)
    if layer.dropout:
        yield _Step(out)


def _map_step(weights: int, kept: int, backward: int, sizes: _Sizes) -> _Step:
    """A convolution or linear map. Autocast keeps a copy of the weights, whose gradient takes its
    place before it becomes one of the weights.
    """
    cast = 0 if sizes.map_bytes == FP32 else weights * sizes.map_bytes
    return _Step(kept + cast, backward=backward, gradient=FP32 * weights)


def _conv3_step(
    channels: int, out_channels: int, side: int, kept: int, entering: int, sizes: _Sizes
) -> _Step:
    """A 3x3 convolution that keeps the side. By tiles, windows of the input and kernels in another
    basis are kept, and as many products held.
    """
    weights = 9 * channels * out_channels
    out = sizes.map(out_channels * side**2)
    if not sizes.tiles or side % TILE or min(channels, out_channels) < MIN_CHANNELS:
        return _map_step(weights, kept, out + entering, sizes)
    products = WINDOW**2 / TILE**2
    windows = int(products * sizes.map(channels * side**2))
    kernel = WINDOW**2 * FP32 * channels * out_channels
    padded = sizes.map(channels * (side + 2) ** 2)
    gradient = FP32 * weights
    forward = max(padded + windows, int(products * out) + 2 * out) - kept
    to_input = 3 * windows if entering else 0
    to_weights = entering + kernel + gradient
    return _Step(
        kept + windows + kernel,
        forward=max(0, forward),
        backward=out + int(products * out) + max(to_input, to_weights),
        gradient=gradient,
    )


def _head_steps(head: Head, sizes: _Sizes) -> Iterator[_Step]:
    elements = head.channels * (1 if head.side is None else head.side**2)
    features = sizes.map(elements)
    pooled = sizes.map(head.num_features)
    if head.pred_conv and head.loss != "sim" and head.side is not None:
        yield _conv3_step(head.channels, head.channels, head.side, features, features, sizes)
    gradient = FP32 * (head.num_features + 1) * head.num_classes
    # backward: the pooled features' gradient, copied, is added to that of the similarity branch
    passes = 0 if head.loss == "sim" else features * (1 if head.pool == (1, 1) else 2)
    pending = features if head.has_similarity else 0
    yield _Step(pooled, forward=pooled, backward=passes + pending, gradient=gradient)
    if head.has_similarity:
        statistics = sizes.exact(elements)
        # the convolution's output (kept), centred and squared in one map
        if head.side is None or head.sim_kernel == 1:
            yield _map_step(head.channels**2, 0, 2 * features, sizes)
        else:
            yield _conv3_step(head.channels, head.channels, head.side, 0, features, sizes)
        yield _Step(statistics, forward=statistics, backward=statistics)


def _output_step(output: Output, sizes: _Sizes) -> _Step:
    gradient = FP32 * output.num_parameters
    return _Step(sizes.map(output.num_features), gradient=gradient)


def _shortcut(block: Block, layer: Layer) -> tuple[int, int]:
    """Weights of the projection that ends at a layer, and numbers of a sample that it reads."""
    if layer is not block.layers[-1] or block.shortcut != "projection":
        return 0, 0
    return (block.in_channels + 2) * block.out_channels, _in(block.layers[0])


def _in(layer: Layer) -> int:
    """Numbers of a sample that a layer reads, after a max-pool."""
    if layer.kind == "linear":
        return layer.in_channels
    return layer.in_channels * (layer.side * layer.stride) ** 2


def _out(layer: Layer) -> int:
    return layer.out_channels * (1 if layer.kind == "linear" else layer.side**2)
