"""Residual networks: a 3x3 stem, then blocks whose input is added to their output."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from dsaccel.families import Downsampling, Family, halving
from dsaccel.spec.blocks import Block, Layer, Output, Shortcut
from dsaccel.spec.hierarchy import Hierarchy

STEM_WIDTH = 64
"""Channels of the stem and of the first stage, at width 1."""


class ResNet(Family):
    """Residual blocks of two 3x3 convolutions."""

    expansion: ClassVar[int] = 1
    """Channels of a block's end over those of its stage."""
    stem: Literal["cifar", "imagenet"]
    downsampling: Downsampling
    widening: float = Field(default=2.0, ge=1)
    """Channels of a stage over those of the stage before; 1: hierarchies move the strides alone."""

    def begin(self, channels: int, side: int) -> tuple[Block, ...]:
        stem, kernel, stride = self.scaled(STEM_WIDTH), 3, 1
        if self.stem == "imagenet":
            kernel, stride, side = 7, 2, _half(side)
        layer = self.conv(channels, stem, side, kernel=kernel, stride=stride)
        return (Block(0, 1, (layer,)),)

    def block(self, stage: int, index: int, channels: int, side: int) -> Block:
        stride, pool = 1, None
        if stage > 1 and index == 1 and side > 1:
            stride, pool = halving(self.downsampling)
            side = side // 2 if pool else side
        elif (stage, index, self.stem) == (1, 1, "imagenet"):
            pool, side = "overlapping", _half(side)
        width = self.scaled(round(STEM_WIDTH * self.widening ** (stage - 1)))
        end = self.expansion * width
        layers = self.layers(channels, width, end, side, stride)
        shortcut: Shortcut = "identity" if channels == end and stride == 1 else "projection"
        return Block(stage, index, layers, shortcut, pool)

    def layers(
        self, channels: int, width: int, end: int, side: int, stride: int
    ) -> tuple[Layer, ...]:
        """The convolutions of a block, the last one of `end` channels."""
        out = -(-side // stride)  # a strided 3x3 convolution rounds up
        return (
            self.conv(channels, width, out, kernel=3, stride=stride),
            self.conv(width, end, out, kernel=3),
        )

    def conv(self, channels: int, width: int, side: int, **others: Any) -> Layer:
        return Layer("conv", channels, width, side, dropout=self.dropout, **others)

    def output(self, last: Block, num_classes: int) -> Output:
        return Output(last.out_channels, num_classes, average=True)

    def names(self, blocks: Sequence[Block]) -> Iterator[Callable[[str], str]]:
        """The names of torchvision's `ResNet`."""
        for block in blocks:
            for number in range(1, len(block.layers) + 1):
                place = f"layer{block.stage}.{block.index - 1}." if block.stage else ""
                yield {
                    "weight": f"{place}conv{number}",
                    "norm": f"{place}bn{number}",
                    "shortcut": f"{place}downsample",
                }.__getitem__


def _half(side: int) -> int:
    """The side that a stride, or a pool of overlapping windows, leaves."""
    return -(-side // 2)


class ResNet18(ResNet):
    """ResNet18 at 2-2-2-2."""

    standard: ClassVar = Hierarchy((2, 2, 2, 2))


class ResNet34(ResNet):
    """ResNet34 at 3-4-6-3; its blocks are those of ResNet18."""

    standard: ClassVar = Hierarchy((3, 4, 6, 3))


class Bottleneck(ResNet):
    """Residual blocks of a 1x1, a 3x3 and a 1x1 convolution."""

    expansion: ClassVar[int] = 4

    def layers(
        self, channels: int, width: int, end: int, side: int, stride: int
    ) -> tuple[Layer, ...]:
        out = -(-side // stride)
        return (
            self.conv(channels, width, side),
            self.conv(width, width, out, kernel=3, stride=stride),
            self.conv(width, end, out),
        )


class ResNet50(Bottleneck):
    """ResNet50 at 3-4-6-3."""

    standard: ClassVar = Hierarchy((3, 4, 6, 3))


class ResNet101(Bottleneck):
    """ResNet101 at 3-4-23-3; its blocks are those of ResNet50."""

    standard: ClassVar = Hierarchy((3, 4, 23, 3))
