"""VGG: a convolution a block, max-pools between stages, fully connected units at the end."""

from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar

from dsaccel.families import Downsampling, Family, halving
from dsaccel.spec.blocks import Block, Layer, Output, Pool
from dsaccel.spec.hierarchy import Hierarchy

NUM_HIDDEN_FEATURES = 1024


class VGG(Family):
    """VGG16 at 2-2-3-3-3, without its large fully connected units."""

    standard: ClassVar = Hierarchy((2, 2, 3, 3, 3))
    widths: ClassVar[tuple[tuple[int, ...], ...]] = ((64,), (128,), (256,), (512,), (512,))
    """Channels at width 1 of each stage's first, second, ... block; the last one repeats."""
    num_hidden: int
    hidden_widths: tuple[int, ...] | None
    downsampling: Downsampling

    def block(self, stage: int, index: int, channels: int, side: int) -> Block:
        widths, stride, pool = self.widths[stage - 1], 1, None
        width = self.scaled(widths[min(index, len(widths)) - 1])
        if stage > 1 and index == 1 and side > 1:
            stride, pool = halving(self._downsampling)
            side = side // 2 if pool else -(-side // 2)
        layer = Layer(
            *("conv", channels, width, side),
            kernel=3,
            stride=stride,
            bias=True,
            dropout=self.dropout,
        )
        return Block(stage, index, (layer,), pool=pool)

    def end(self, stage: int, last: Block) -> tuple[Block, ...]:
        """The first unit flattens the maps, after a last pool."""
        num_features, pool = self._flattened(last)
        blocks: list[Block] = []
        for index, width in enumerate(self._hidden, 1):
            layer = Layer("linear", num_features, width, 1, bias=True, dropout=self.dropout)
            blocks.append(Block(stage, index, (layer,), pool=pool))
            num_features, pool = width, None
        return tuple(blocks)

    def output(self, last: Block, num_classes: int) -> Output:
        if self._hidden:
            return Output(self._hidden[-1], num_classes, average=False)
        num_features, pool = self._flattened(last)
        return Output(num_features, num_classes, average=False, pool=pool)

    @property
    def _downsampling(self) -> Downsampling:
        return "max-pool" if self.downsampling == "family" else self.downsampling

    @property
    def _hidden(self) -> tuple[int, ...]:
        if self.hidden_widths is not None:
            return self.hidden_widths
        return (NUM_HIDDEN_FEATURES,) * self.num_hidden

    def _flattened(self, last: Block) -> tuple[int, Pool | None]:
        """Features of the flattened maps, and what comes before, where a stride has no place."""
        side = last.layers[-1].side
        pool = halving(self._downsampling)[1] or "max"
        return last.out_channels * max(1, side // 2) ** 2, pool if side > 1 else None

    def names(self, blocks: Sequence[Block]) -> Iterator[Callable[[str], str]]:
        """Places in torchvision's `Sequential`s: max-pool, convolution, normalisation, ReLU.

        A fully connected unit is linear map, normalisation, ReLU, dropout.
        """
        feature = hidden = 0
        for block in blocks:
            if block.layers[0].kind == "conv":
                feature += block.pool is not None
                names = {"weight": f"features.{feature}", "norm": f"features.{feature + 1}"}
                feature += 3
            else:
                names = {"weight": f"classifier.{hidden}", "norm": f"classifier.{hidden + 1}"}
                hidden += 4
            yield names.__getitem__

    def output_name(self) -> str:
        return f"classifier.{4 * len(self._hidden)}"


class VGG8b(VGG):
    """The reference code's VGG8b at 2-2-1-1: it widens before the first two max-pools."""

    standard: ClassVar = Hierarchy((2, 2, 1, 1))
    widths: ClassVar = ((128, 256), (256, 512), (512,), (512,))
