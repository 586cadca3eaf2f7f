"""The modules a segment is made of. B batch, C channels, H = W side, F features, K classes.

A *unit* is what one loss trains: a run of layers and the head that ends it. Every weight and every
dropped channel comes from a generator that is named by position, never from the global one.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dsaccel.nn.losses import label_similarity, one_hot_loss, similarity_loss
from dsaccel.nn.winograd import Conv2d
from dsaccel.seeds import derive
from dsaccel.spec.plan import Block, Head, Layer, Output, Segment

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

    def __init__(self, block: Block, number: int, seed: int) -> None:
        super().__init__()
        layer = block.layers[number]
        self.position = Position(block.stage, block.index, number + 1)
        self.opens_block = number == 0
        self.pool = block.pool and self.opens_block
        self.adds_shortcut = number == len(block.layers) - 1 and block.shortcut != "none"
        self.dropout = layer.dropout
        self.is_map = layer.kind == "conv"
        draw = Draw(seed, self.position)
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
        if self.pool:
            x = F.max_pool2d(x, 2)
        if self.opens_block:
            skip = x
        if not self.is_map:
            x = x.flatten(1)
        z = self.norm(self.weight(x))
        if self.adds_shortcut:
            assert skip is not None
            z = z + (skip if self.shortcut is None else self.shortcut(skip))
        return F.leaky_relu(z, NEGATIVE_SLOPE, inplace=True), skip

    def drop(self, h: Tensor, generator: torch.Generator | None) -> Tensor:
        """Drop whole channels of each sample with probability `dropout`, scale up the others.

        Without a generator by torch's global one, which only those do who use a network elsewhere.
        """
        if self.dropout == 0:
            return h
        shape = (*h.shape[:2], *([1] * (h.ndim - 2)))
        keep = torch.empty(shape, dtype=h.dtype, device=h.device)
        return h * keep.bernoulli_(1 - self.dropout, generator=generator).div_(1 - self.dropout)


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
    """Local classifier and similarity branch; reads features before dropout."""

    def __init__(self, head: Head, position: Position, seed: int) -> None:
        super().__init__()
        self.spec = head
        draw = Draw(seed, position)
        self.classifier = draw("pred", nn.Linear, head.num_features, head.num_classes)
        nn.init.zeros_(self.classifier.weight)
        self.pred_conv = self.similarity = None
        if head.pred_conv and head.side is not None and head.loss != "sim":
            self.pred_conv = _same_channels("pred_conv", head, 3, draw)
        if head.has_similarity:
            self.similarity = _same_channels("sim", head, head.sim_kernel, draw)

    def logits(self, h: Tensor) -> Tensor:
        """Features -> (B, K)."""
        if self.pred_conv is not None:
            h = self.pred_conv(h)
        if self.spec.pool != (1, 1):
            h = average_pool(h, self.spec.pool)
        return self.classifier(h.flatten(1))

    def loss(self, h: Tensor, y_B: Tensor) -> Tensor:
        """The local loss, a scalar."""
        if self.spec.loss == "mse":
            return one_hot_loss(_exact(self.logits(h)), y_B)
        # under `sim` alone the classifier is a read-out: it learns, the features do not
        features = h.detach() if self.spec.loss == "sim" else h
        prediction = F.cross_entropy(_exact(self.logits(features)), y_B)
        if self.similarity is None:
            return prediction
        s = _exact(self.similarity(h))
        with torch.autocast(h.device.type, enabled=False):
            target_BB = label_similarity(y_B, self.spec.num_classes, s.dtype)
            similarity = similarity_loss(s, target_BB)
        if self.spec.loss == "sim":
            return prediction + similarity
        return (1 - self.spec.beta) * prediction + self.spec.beta * similarity


def average_pool(h: Tensor, kernel: tuple[int, int]) -> Tensor:
    """Means over windows of `kernel`, smaller at the far edges: (B, C, H, W) -> (B, C, H', W')."""
    if h.shape[2] % kernel[0] or h.shape[3] % kernel[1]:
        return F.avg_pool2d(h, kernel, ceil_mode=True)
    return AveragePool.apply(h, kernel)  # pyright: ignore[reportReturnType]


class AveragePool(torch.autograd.Function):
    """Means over windows that divide the map; torch's, with a backward faster on a CPU."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, kernel: tuple[int, int]) -> Tensor:
        ctx.kernel = kernel
        return F.avg_pool2d(h, kernel)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        height, width = ctx.kernel
        each_BHWC = (gradients[0] / (height * width)).permute(0, 2, 3, 1).contiguous()
        windows = each_BHWC[:, :, None, :, None].expand(-1, -1, height, -1, width, -1)
        return windows.flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2), None


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
        if self.spec.pool:
            x = F.max_pool2d(x, 2)
        if self.spec.average:
            x = x.mean(dim=(2, 3))
        return self.classifier(x.flatten(1))

    def loss(self, x: Tensor, y_B: Tensor) -> Tensor:
        return self.spec.weight * F.cross_entropy(_exact(self.logits(x)), y_B)


class Unit(nn.Module):
    """What one loss trains: a run of layers and the head at its end."""

    def __init__(self, layers: list[LayerModule], head: LocalHead | OutputLayer) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.head = head

    def forward(
        self,
        x: Tensor,
        skip: Tensor | None,
        generators: Mapping[Position, torch.Generator | None] | None,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Input and open block's input -> what the head reads, what goes forward, block's input.

        Channels are dropped where `generators` are given.
        """
        h = x
        for layer in self.layers:
            assert isinstance(layer, LayerModule)
            h, skip = layer(x, skip)
            x = layer.drop(h, generators[layer.position]) if generators else h
        return (x if isinstance(self.head, OutputLayer) else h), x, skip


def build_units(segment: Segment, seed: int) -> list[Unit]:
    """The units of a segment, initialised by position; on the CPU, in fp32."""
    units: list[Unit] = []
    run: list[LayerModule] = []
    for block in segment.blocks:
        for number, layer in enumerate(block.layers):
            run.append(LayerModule(block, number, seed))
            if layer.head is not None:
                units.append(Unit(run, LocalHead(layer.head, run[-1].position, seed)))
                run = []
    if segment.output is not None:
        # an output layer on detached features starts at zero, as the local classifiers do
        units.append(Unit(run, OutputLayer(segment.output, zero=not run, seed=seed)))
    return units


def positions(units: list[Unit]) -> Iterator[Position]:
    """Where the layers of some units stand."""
    for unit in units:
        for layer in unit.layers:
            assert isinstance(layer, LayerModule)
            yield layer.position


def _exact(x: Tensor) -> Tensor:
    """Losses and statistics are computed in fp32 (or fp64), whatever autocast says."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def _weights(layer: Layer, draw: "Draw") -> nn.Conv2d | nn.Linear:
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
    )


def _same_channels(role: str, head: Head, kernel: int, draw: "Draw") -> nn.Conv2d | nn.Linear:
    """From features to as many features: a convolution, or a linear map of vectors."""
    if head.side is None:
        return draw(role, nn.Linear, head.channels, head.channels, bias=False)
    return draw(role, Conv2d, head.channels, head.channels, kernel, padding=kernel // 2, bias=False)


@dataclass(frozen=True)
class Draw:
    """Makes modules whose weights are drawn from U(-b, b), b = 1 / sqrt(fan in): torch's default,
    but from a generator that is named by position and role.
    """

    seed: int
    position: Position | None

    def __call__(self, role: str, kind: type[Weighted], *args: Any, **kwargs: Any) -> Weighted:
        module = kind(*args, **kwargs, device="meta")
        seed = derive(self.seed, "init", *(self.position or ()), role)
        generator = torch.Generator().manual_seed(seed)
        bound = 1 / math.sqrt(module.weight[0].numel())
        for name, parameter in list(module.named_parameters()):
            drawn = torch.empty(parameter.shape).uniform_(-bound, bound, generator=generator)
            setattr(module, name, nn.Parameter(drawn))
        return module
