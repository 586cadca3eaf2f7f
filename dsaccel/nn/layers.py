"""Layers. B batch, C channels, H = W side, F features.

Every weight and every dropped channel comes from a generator that is named by position, never from
torch's global one.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dsaccel.nn.winograd import Conv2d
from dsaccel.seeds import derive
from dsaccel.spec import local
from dsaccel.spec.blocks import Block, Layer, Pool

NEGATIVE_SLOPE = 0.01

ONEDNN_BLOCK = 16
"""Channels that oneDNN takes at a time in fp32: 16 by AVX-512, 8 by AVX2."""

Weighted = TypeVar("Weighted", bound=nn.Conv2d | nn.Linear)


class Position(NamedTuple):
    """Where a layer stands: the name of its random numbers."""

    stage: int
    block: int
    unit: int


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
        self.keeps_residual = False
        """Whether somebody reads `residual` after each forward."""
        self.residual: Tensor | None = None
        """The last maps that were added to the shortcut."""
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
        x = pooled(x, self.pool)
        if self.opens_block:
            skip = x
        if not self.is_map:
            x = x.flatten(1)
        z = self.norm(self.weight(x))
        if self.adds_shortcut:
            assert skip is not None
            if self.keeps_residual:
                self.residual = z
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


def build_block(block: Block, draw: local.Draw) -> list[LayerModule]:
    """A block that is part of a head; its random numbers are named by its place beneath a role."""
    layers: list[LayerModule] = []
    for number in range(len(block.layers)):
        own = draw.under(f"{block.stage}.{block.index}.{number + 1}")
        layers.append(block.build(number, own) or LayerModule(block, number, own))
    return layers


def pooled(x: Tensor, pool: Pool | None) -> Tensor:
    """Maps of half the side, if there is a pooling layer."""
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
    """Makes modules with torch's default weights, from a generator named by position and role."""

    seed: int
    position: Position | None
    prefix: str = ""

    def under(self, role: str) -> "Draw":
        """A place beneath this one for layers whose roles are words of their own."""
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
