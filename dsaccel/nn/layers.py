"""The modules a segment is made of. B batch, C channels, H = W side, F features, K classes.

A *unit* is what one loss trains: a run of layers and the head that ends it. Every weight and every
dropped channel comes from a generator that is named by position, never from the global one.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from dsaccel.errors import ConfigError
from dsaccel.nn.labels import Labels, cross_entropy_gradient
from dsaccel.nn.similarity import exact
from dsaccel.nn.winograd import Conv2d
from dsaccel.seeds import derive
from dsaccel.spec import local
from dsaccel.spec.local import Head
from dsaccel.spec.plan import Block, Layer, Output, Pool, Segment

NEGATIVE_SLOPE = 0.01

ONEDNN_BLOCK = 16
"""Channels that oneDNN takes at a time in fp32: 16 by AVX-512, 8 by AVX2."""

Weighted = TypeVar("Weighted", bound=nn.Conv2d | nn.Linear)


class Position(NamedTuple):
    """Where a layer stands: the name of its random numbers."""

    stage: int
    block: int
    unit: int


class Features(NamedTuple):
    """What one unit passes on to the next."""

    x: Tensor
    """(B, C, H, W) or (B, F), channels dropped."""
    skip: Tensor | None
    """The open block's input, for its shortcut; None: no block has been opened."""


class LayerModule(nn.Module):
    """Convolution or linear map, batch normalisation, (+ shortcut,) leaky ReLU."""

    def __init__(self, block: Block, number: int, draw: local.Draw) -> None:
        super().__init__()
        layer = block.layers[number]
        self.block = block
        self.position = Position(block.stage, block.index, number + 1)
        self.opens_block = number == 0
        self.pool: Pool | None = block.pool if self.opens_block else None
        self.adds_shortcut = number == len(block.layers) - 1 and block.shortcut != "none"
        self.dropout = layer.dropout
        self.is_map = layer.kind == "conv"
        self.weight = _weights(layer, draw)
        self.norm = (nn.BatchNorm2d if self.is_map else nn.BatchNorm1d)(layer.out_channels)
        self.shortcut = None
        if self.adds_shortcut and block.shortcut == "projection":
            self.shortcut = nn.Sequential(
                draw(
                    "shortcut",
                    Projection,
                    block.in_channels,
                    block.out_channels,
                    1,
                    block.stride,
                    bias=False,
                ),
                nn.BatchNorm2d(block.out_channels),
            )

    def forward(self, x: Tensor, skip: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """(B, C, H, W) or (B, F), and the open block's input -> the features, and that input."""
        x = _pooled(x, self.pool)
        if self.opens_block:
            skip = x
        if not self.is_map:
            x = x.flatten(1)
        z = self.norm(self.weight(x))
        if self.adds_shortcut:
            assert skip is not None
            z = z + (skip if self.shortcut is None else self.shortcut(skip))
        return F.leaky_relu(z, NEGATIVE_SLOPE, inplace=True), skip

    def drop(
        self,
        h: Tensor,
        generator: torch.Generator | None,
        drawn: dict[Position, Tensor] | None = None,
    ) -> Tensor:
        """Drop whole channels of each sample with probability `dropout`, scale up the others.

        Without a generator by torch's global one, which only those do who use a network elsewhere.
        What is in `drawn` is taken again.
        """
        if self.dropout == 0:
            return h
        keep = drawn.get(self.position) if drawn else None
        if keep is None:
            shape = (*h.shape[:2], *([1] * (h.ndim - 2)))
            keep = torch.empty(shape, dtype=h.dtype, device=h.device)
            keep.bernoulli_(1 - self.dropout, generator=generator).div_(1 - self.dropout)
        if drawn is not None:
            drawn[self.position] = keep
        return h * keep


class Projection(nn.Conv2d):
    """A shortcut's 1x1 convolution, without padding.

    A strided one of few channels is given, on a CPU, only the pixels that it reads: the same
    function, up to rounding. When it is given all, oneDNN's gradient of its fp32 weights may write
    past its workspace (uxlfoundation/oneDNN#6035; 3.11.2 does), which mostly ends in a crash.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D, H', W')."""
        if self.stride == (1, 1) or self.in_channels >= ONEDNN_BLOCK or input.device.type != "cpu":
            return super().forward(input)
        rows, columns = self.stride
        # sliced so that the gradient is channels-last, too
        read_BHWC = input.permute(0, 2, 3, 1)[:, ::rows, ::columns]
        return F.conv2d(read_BHWC.permute(0, 3, 1, 2), self.weight, self.bias)


class LocalHead(nn.Module):
    """A unit's classifier and the layers of its local loss; reads features before dropout."""

    def __init__(self, head: Head, position: Position, seed: int) -> None:
        super().__init__()
        self.spec = head
        draw = Draw(seed, position)
        layers = [*head.classifier.build(draw).items(), *head.loss.build(draw).items()]
        for name, layer in layers:
            if hasattr(self, name):
                raise ConfigError(f"a head and its loss must not both have a layer {name}")
            self.add_module(name, layer)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def logits(self, h: Tensor) -> Tensor:
        """Features -> (B, K)."""
        return self.spec.classifier.logits(h, self)

    def loss(self, h: Tensor, y_B: Tensor, **read: Tensor) -> Tensor:
        """The local loss, a scalar."""
        return self.spec.loss.loss(h, self._exact_logits, y_B, self, **read)

    def gradients(
        self, h: Tensor, labels: Labels, **read: Tensor
    ) -> list[tuple[Tensor, Tensor | None]]:
        """Where its gradient begins, without its value."""
        return self.spec.loss.gradients(h, self._exact_logits, labels, self, **read)

    def _exact_logits(self, h: Tensor) -> Tensor:
        return exact(self.logits(h))


class OutputLayer(nn.Module):
    """The classifier at a network's end; reads features after dropout, as the next unit would."""

    def __init__(self, output: Output, *, zero: bool, seed: int) -> None:
        super().__init__()
        self.spec = output
        draw = Draw(seed, None)
        self.classifier = draw("output", nn.Linear, output.num_features, output.num_classes)
        if zero:
            nn.init.zeros_(self.classifier.weight)

    def logits(self, x: Tensor) -> Tensor:
        """Features -> (B, K)."""
        x = _pooled(x, self.spec.pool)
        if self.spec.average:
            x = x.mean(dim=(2, 3))
        return self.classifier(x.flatten(1))

    def loss(self, x: Tensor, y_B: Tensor) -> Tensor:
        if self.spec.loss is not None:
            return self.spec.weight * self.spec.loss.loss(x, self._exact_logits, y_B, self)
        logits_BK, smoothing = exact(self.logits(x)), self.spec.label_smoothing
        return self.spec.weight * F.cross_entropy(logits_BK, y_B, label_smoothing=smoothing)

    def gradients(self, x: Tensor, labels: Labels) -> list[tuple[Tensor, Tensor | None]]:
        if self.spec.loss is not None:
            return [(self.loss(x, labels.y_B), None)]
        logits_BK, smoothing = exact(self.logits(x)), self.spec.label_smoothing
        return [cross_entropy_gradient(logits_BK, labels, smoothing, self.spec.weight)]

    def _exact_logits(self, x: Tensor) -> Tensor:
        return exact(self.logits(x))


class Unit(nn.Module):
    """What one loss trains: a run of layers and the head at its end."""

    def __init__(self, layers: list[LayerModule], head: LocalHead | OutputLayer) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.head = head
        self.recomputes = False
        """Whether a gradient computes each block again, of which then only the input is kept."""

    def forward(
        self,
        x: Tensor,
        skip: Tensor | None,
        generators: Mapping[Position, torch.Generator | None] | None,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Input and open block's input -> what the head reads, what goes forward, block's input.

        Channels are dropped where `generators` are given.
        """
        layers, h = cast("list[LayerModule]", [*self.layers]), x
        if self.recomputes and torch.is_grad_enabled():
            for block in _blocks(layers):
                run = partial(_run, block, generators=generators, drawn={})
                h, x, skip = checkpoint(
                    run,
                    x,
                    skip,
                    use_reentrant=False,
                    preserve_rng_state=False,
                    context_fn=lambda block=block: (nullcontext(), _statistics_kept(block)),
                )  # pyright: ignore[reportGeneralTypeIssues]
        elif layers:
            h, x, skip = _run(layers, x, skip, generators)
        return (x if isinstance(self.head, OutputLayer) else h), x, skip

    def loss(self, h: Tensor, y_B: Tensor, x: Tensor) -> Tensor:
        """The loss of what the head reads, where the unit was fed `x`."""
        if isinstance(self.head, LocalHead) and self.head.spec.loss.reads:
            return self.head.loss(h, y_B, previous=x)
        return self.head.loss(h, y_B)

    def gradients(self, h: Tensor, labels: Labels, x: Tensor) -> list[tuple[Tensor, Tensor | None]]:
        """Where the gradient of the loss begins, as of `loss`."""
        if isinstance(self.head, LocalHead) and self.head.spec.loss.reads:
            return self.head.gradients(h, labels, previous=x)
        return self.head.gradients(h, labels)


def _run(
    layers: Sequence[LayerModule],
    x: Tensor,
    skip: Tensor | None,
    generators: Mapping[Position, torch.Generator | None] | None,
    drawn: dict[Position, Tensor] | None = None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """As `Unit.forward`, for some layers."""
    h = x
    for layer in layers:
        h, skip = layer(x, skip)
        x = layer.drop(h, generators[layer.position], drawn) if generators else h
    return h, x, skip


def _blocks(layers: Sequence[LayerModule]) -> Iterator[list[LayerModule]]:
    """The layers of a unit, block by block; the first block may have been opened below."""
    block: list[LayerModule] = []
    for layer in layers:
        if layer.opens_block and block:
            yield block
            block = []
        block.append(layer)
    if block:
        yield block


@contextmanager
def _statistics_kept(layers: Sequence[nn.Module]) -> Iterator[None]:
    """What is computed again counts to running statistics that are thrown away."""
    modules = [module for layer in layers for module in layer.modules()]
    kept = [(m, name, b) for m in modules for name, b in m.named_buffers(recurse=False)]
    try:
        for module, name, buffer in kept:
            setattr(module, name, buffer.clone())
        yield
    finally:
        for module, name, buffer in kept:
            setattr(module, name, buffer)


def build_units(segment: Segment, seed: int) -> list[Unit]:
    """The units of a segment, initialised by position; on the CPU, in fp32."""
    units: list[Unit] = []
    run: list[LayerModule] = []
    for block in segment.blocks:
        for number, layer in enumerate(block.layers):
            draw = Draw(seed, Position(block.stage, block.index, number + 1))
            run.append(block.build(number, draw) or LayerModule(block, number, draw))
            if layer.head is not None:
                units.append(Unit(run, LocalHead(layer.head, run[-1].position, seed)))
                run = []
    if segment.output is not None:
        # an output layer on detached features starts at zero, as the local classifiers do
        units.append(Unit(run, OutputLayer(segment.output, zero=not run, seed=seed)))
    return units


def build_block(block: Block, draw: local.Draw) -> list[LayerModule]:
    """A block that is part of a head; its random numbers are named by its place beneath a role."""
    layers: list[LayerModule] = []
    for number in range(len(block.layers)):
        own = draw.under(f"{block.stage}.{block.index}.{number + 1}")
        layers.append(block.build(number, own) or LayerModule(block, number, own))
    return layers


def layer_outputs(units: Iterable[Unit], x: Tensor) -> list[Tensor]:
    """What each layer makes of normalised images, (B, C, H, W) or (B, F); no channel is dropped."""
    skip: Tensor | None = None
    outputs: list[Tensor] = []
    for unit in units:
        for layer in unit.layers:
            x, skip = layer(x, skip)
            outputs.append(x)
    return outputs


def positions(units: list[Unit]) -> Iterator[Position]:
    """Where the layers of some units stand."""
    for unit in units:
        for layer in unit.layers:
            assert isinstance(layer, LayerModule)
            yield layer.position


def _pooled(x: Tensor, pool: Pool | None) -> Tensor:
    if pool == "max":
        return F.max_pool2d(x, 2)
    if pool == "average":
        return F.avg_pool2d(x, 2)
    return F.max_pool2d(x, 3, stride=2, padding=1) if pool == "overlapping" else x


def _weights(layer: Layer, draw: local.Draw) -> nn.Conv2d | nn.Linear:
    if layer.kind == "linear":
        return draw("conv", nn.Linear, layer.in_channels, layer.out_channels, bias=layer.bias)
    return draw(
        "conv",
        Conv2d,
        layer.in_channels,
        layer.out_channels,
        layer.kernel,
        layer.stride,
        layer.kernel // 2,
        bias=layer.bias,
        groups=layer.groups,
    )


@dataclass(frozen=True)
class Draw:
    """Makes modules whose weights are drawn from U(-b, b), b = 1 / sqrt(fan in): torch's default,
    but from a generator that is named by position and role.
    """

    seed: int
    position: Position | None
    prefix: str = ""

    def under(self, role: str) -> "Draw":
        """For layers whose roles are words of their own, beneath this one."""
        return Draw(self.seed, self.position, f"{self.prefix}{role}.")

    def __call__(self, role: str, kind: type[Weighted], *args: Any, **kwargs: Any) -> Weighted:
        module = kind(*args, **kwargs, device="meta")
        seed = derive(self.seed, "init", *(self.position or ()), self.prefix + role)
        generator = torch.Generator().manual_seed(seed)
        bound = 1 / math.sqrt(module.weight[0].numel())
        for name, parameter in list(module.named_parameters()):
            drawn = torch.empty(parameter.shape).uniform_(-bound, bound, generator=generator)
            setattr(module, name, nn.Parameter(drawn))
        return module
