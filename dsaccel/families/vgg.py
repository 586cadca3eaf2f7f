"""VGG: a convolution a block, max-pools between stages, fully connected units at the end."""

from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar

from dsaccel.families import Family
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.plan import Block, Layer, Output

NUM_HIDDEN_FEATURES = 1024


class VGG(Family):
    """VGG16 at 2-2-3-3-3, without its large fully connected units."""

    standard: ClassVar = Hierarchy((2, 2, 3, 3, 3))
    widths: ClassVar[tuple[tuple[int, ...], ...]] = ((64,), (128,), (256,), (512,), (512,))
    """Channels at width 1 of each stage's first, second, ... block; the last one repeats."""
    num_hidden: int

    def block(self, stage: int, index: int, channels: int, side: int) -> Block:
        pool = stage > 1 and index == 1 and side > 1
        widths = self.widths[stage - 1]
        width = self.scaled(widths[min(index, len(widths)) - 1])
        side = side // 2 if pool else side  # a 2x2 max-pool rounds down
        layer = Layer("conv", channels, width, side, kernel=3, bias=True, dropout=self.dropout)
        return Block(stage, index, (layer,), pool=pool)

    def end(self, stage: int, last: Block) -> tuple[Block, ...]:
        """Units of 1024; the first flattens the maps, after a last max-pool."""
        num_features, pool = _flattened(last)
        blocks: list[Block] = []
        for index in range(1, self.num_hidden + 1):
            layer = Layer(
                "linear", num_features, NUM_HIDDEN_FEATURES, 1, bias=True, dropout=self.dropout
            )
            blocks.append(Block(stage, index, (layer,), pool=pool and index == 1))
            num_features = NUM_HIDDEN_FEATURES
        return tuple(blocks)

    def output(self, last: Block, num_classes: int) -> Output:
        if self.num_hidden:
            return Output(NUM_HIDDEN_FEATURES, num_classes, average=False)
        num_features, pool = _flattened(last)
        return Output(num_features, num_classes, average=False, pool=pool)

    def names(self, blocks: Sequence[Block]) -> Iterator[Callable[[str], str]]:
        """Places in torchvision's `Sequential`s: max-pool, convolution, normalisation, ReLU.

        A fully connected unit is linear map, normalisation, ReLU, dropout.
        """
        feature = hidden = 0
        for block in blocks:
            if block.layers[0].kind == "conv":
                feature += block.pool
                names = {"weight": f"features.{feature}", "norm": f"features.{feature + 1}"}
                feature += 3
            else:
                names = {"weight": f"classifier.{hidden}", "norm": f"classifier.{hidden + 1}"}
                hidden += 4
            yield names.__getitem__

    def output_name(self) -> str:
        return f"classifier.{4 * self.num_hidden}"


class VGG8b(VGG):
    """The reference code's VGG8b at 2-2-1-1: it widens before the first two max-pools."""

    standard: ClassVar = Hierarchy((2, 2, 1, 1))
    widths: ClassVar = ((128, 256), (256, 512), (512,), (512,))


def _flattened(last: Block) -> tuple[int, bool]:
    """Features of the flattened maps, and whether a max-pool comes before."""
    side = last.layers[-1].side
    return last.out_channels * max(1, side // 2) ** 2, side > 1
