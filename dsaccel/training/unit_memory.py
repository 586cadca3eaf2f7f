"""What a unit holds while it learns, in bytes.

A unit is a list of steps: what each keeps for its backward pass, and what it holds beside that
while it runs forward and backward.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from dsaccel.heads.linear import LinearPlan
from dsaccel.losses.predsim import PredSimPlan
from dsaccel.losses.sim import SimPlan
from dsaccel.spec.local import Head
from dsaccel.spec.plan import Block, Layer, Output, Segment
from dsaccel.spec.tiling import TILE, WINDOW, parts, suits

FP32 = 4
BF16 = 2
INDEX = 8
"""Bytes of a position that a max-pool keeps."""


@dataclass(frozen=True)
class Sizes:
    """What a number of a sample's feature map takes in a batch."""

    batch: int
    map_bytes: int
    """Of a number in a feature map."""
    tiles: bool
    """Whether wide 3x3 convolutions run by tiles."""
    unfolds: bool = False
    """Whether 3x3 convolutions lay out what each output reads, for a while."""

    def map(self, elements: int) -> int:
        return self.batch * self.map_bytes * elements

    def unfolded(self, channels: int, side: int) -> int:
        """For an output of some side."""
        return self.map(9 * channels * side**2) if self.unfolds else 0

    def exact(self, elements: int) -> int:
        """In fp32, whatever the precision: statistics, and what a loss reads."""
        return self.batch * FP32 * elements


@dataclass(frozen=True)
class UnitSpec:
    """A run of layers, each with its block, and the head that ends it."""

    layers: tuple[tuple[Block, Layer], ...]
    head: Head | Output

    @property
    def num_parameters(self) -> int:
        layers = sum(layer.num_parameters + _shortcut(b, layer)[0] for b, layer in self.layers)
        return layers + self.head.num_parameters


def units_of(segment: Segment) -> list[UnitSpec]:
    units: list[UnitSpec] = []
    run: list[tuple[Block, Layer]] = []
    for block in segment.blocks:
        for layer in block.layers:
            run.append((block, layer))
            if layer.head is not None:
                units.append(UnitSpec(tuple(run), layer.head))
                run = []
    if segment.output is not None:
        units.append(UnitSpec(tuple(run), segment.output))
    return units


def unit_peaks(segment: Segment, sizes: Sizes) -> Iterator[int]:
    """The peak of each unit's forward and backward pass, beside the segment's input.

    There are also what the unit below has passed on, and the input of a block that was opened there
    and is not the segment's first.
    """
    below = 0
    for unit in units_of(segment):
        opened = 0
        if unit.layers:
            block, layer = unit.layers[0]
            if layer is not block.layers[0] and block is not segment.blocks[0]:
                opened = sizes.map(num_read(block.layers[0]))
        yield below + opened + _peak(unit, sizes)
        below = sizes.map(num_written(unit.layers[-1][1])) if unit.layers else below


# ---------------------------------------------------------------------- the steps of a unit


@dataclass(frozen=True)
class _Step:
    """Bytes that a step keeps until its backward pass, holds beside that, and leaves behind."""

    kept: int
    forward: int = 0
    backward: int = 0
    gradient: int = 0
    """Of its parameters: there from its backward pass until Adam's step."""


def _peak(unit: UnitSpec, sizes: Sizes) -> int:
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


def _steps(unit: UnitSpec, sizes: Sizes) -> Iterator[_Step]:
    passes_gradient = False  # the unit's input is detached
    for block, layer in unit.layers:
        yield from _layer_steps(block, layer, sizes, passes_gradient=passes_gradient)
        passes_gradient = True
    if isinstance(unit.head, Output):
        yield _output_step(unit.head, sizes)
    else:
        yield from _head_steps(unit.head, sizes)


def _layer_steps(
    block: Block, layer: Layer, sizes: Sizes, *, passes_gradient: bool
) -> Iterator[_Step]:
    into, out = sizes.map(num_read(layer)), sizes.map(num_written(layer))
    if block.pool and layer is block.layers[0]:
        positions = sizes.batch * INDEX * num_read(layer)
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
        unfolded = sizes.unfolded(layer.in_channels, layer.side) if layer.kernel == 3 else 0
        yield _map_step(weights, out, out + entering, sizes, unfolded)
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


def _map_step(weights: int, kept: int, backward: int, sizes: Sizes, unfolded: int = 0) -> _Step:
    """A convolution or linear map. Autocast keeps a copy of the weights, whose gradient takes its
    place before it becomes one of the weights.
    """
    cast = 0 if sizes.map_bytes == FP32 else weights * sizes.map_bytes
    return _Step(
        kept + cast, forward=unfolded, backward=backward + unfolded, gradient=FP32 * weights
    )


def _conv3_step(
    channels: int, out_channels: int, side: int, kept: int, entering: int, sizes: Sizes
) -> _Step:
    """A 3x3 convolution that keeps the side. By tiles it keeps the same, but holds for a while what
    its parts are made into (`winograd.py`).
    """
    out = sizes.map(out_channels * side**2)
    unfolded = sizes.unfolded(channels, side)
    step = _map_step(9 * channels * out_channels, kept, out + entering, sizes, unfolded)
    if not sizes.tiles or not suits(channels, out_channels, side, side):
        return step
    image_parts, output_parts = parts((sizes.batch, channels, side, side), out_channels)
    images, outputs = image_parts[0].stop, output_parts[0].stop
    padded = FP32 * images * channels * (side + 2) ** 2
    summed = FP32 * images * channels * (side + TILE) ** 2
    windows, products = (FP32 * images * _inner(n * side**2) for n in (channels, outputs))
    kernels = FP32 * WINDOW**2 * channels * outputs
    # what is given, rows changed and columns changed: two or three of them at the same time
    entered = padded + 2 * windows
    forward = max(entered, windows + kernels + 19 * products // 9)
    to_weights = max(entered, windows + products + 7 * kernels // 4)
    to_input = products + kernels + 2 * windows + max(windows, summed) if entering else 0
    return replace(
        step,
        forward=out - kept + forward,
        backward=step.backward + max(to_weights, to_input),
    )


def _inner(elements: int) -> int:
    """Of windows that overlap, or of their products."""
    return elements * WINDOW**2 // TILE**2


def _head_steps(head: Head, sizes: Sizes) -> Iterator[_Step]:
    linear, loss = head.classifier, head.loss
    if not isinstance(linear, LinearPlan):
        yield _Step(0, gradient=FP32 * head.num_parameters)
        return
    elements = linear.channels * (linear.side or 1) ** 2
    features = sizes.map(elements)
    pooled = sizes.map(linear.num_features)
    if linear.conv:
        channels = linear.channels, linear.channels
        yield _conv3_step(*channels, linear.side or 1, features, features, sizes)
    gradient = FP32 * (linear.num_features + 1) * linear.num_classes
    # backward: the pooled features' gradient, copied, is added to that of the similarity branch
    only_reads = isinstance(loss, SimPlan) and not isinstance(loss, PredSimPlan)
    passes = 0 if only_reads else features * (1 if linear.pool == (1, 1) else 2)
    pending = features if isinstance(loss, SimPlan) else 0
    yield _Step(pooled, forward=pooled, backward=passes + pending, gradient=gradient)
    if isinstance(loss, SimPlan):
        statistics = sizes.exact(elements)
        # the convolution's output (kept), centred and squared in one map
        if loss.kernel == 1:
            yield _map_step(loss.channels**2, 0, 2 * features, sizes)
        else:
            yield _conv3_step(loss.channels, loss.channels, loss.side or 1, 0, features, sizes)
        yield _Step(statistics, forward=statistics, backward=statistics)


def _output_step(output: Output, sizes: Sizes) -> _Step:
    gradient = FP32 * output.num_parameters
    return _Step(sizes.map(output.num_features), gradient=gradient)


def _shortcut(block: Block, layer: Layer) -> tuple[int, int]:
    """Weights of the projection that ends at a layer, and numbers of a sample that it reads."""
    if layer is not block.layers[-1] or block.shortcut != "projection":
        return 0, 0
    return (block.in_channels + 2) * block.out_channels, num_read(block.layers[0])


def num_read(layer: Layer) -> int:
    """Numbers of a sample that a layer reads, after a max-pool."""
    if layer.kind == "linear":
        return layer.in_channels
    return layer.in_channels * (layer.side * layer.stride) ** 2


def num_written(layer: Layer) -> int:
    return layer.out_channels * (1 if layer.kind == "linear" else layer.side**2)
