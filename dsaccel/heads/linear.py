"""Average-pool, then a linear map: the reference's head."""

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from dsaccel.heads import Head
from dsaccel.spec.local import Draw, HeadPlan, UnitShape

if TYPE_CHECKING:
    from torch import Tensor, nn


class Linear(Head):
    """Average-pool to at most `decoder_size` features, then a linear map that begins at zero."""

    of_training: ClassVar = frozenset({"pred_conv"})
    width: float
    decoder_size: int
    pred_conv: bool

    def plan(self, unit: UnitShape) -> "LinearPlan":
        if unit.side is None:
            return LinearPlan(unit.channels, None, unit.num_classes)
        # the decoder size follows the width, so that pooling is the same at every width
        max_features = max(1, round(self.decoder_size * self.width))
        pool = pool_kernel(unit.channels, unit.side, max_features)
        conv = self.pred_conv and not unit.only_reads
        return LinearPlan(unit.channels, unit.side, unit.num_classes, pool, conv)


@dataclass(frozen=True)
class LinearPlan(HeadPlan):
    channels: int
    side: int | None
    num_classes: int
    pool: tuple[int, int] = (1, 1)
    """Kernel of the average pooling."""
    conv: bool = False
    """A 3x3 convolution comes first (eq. 2 read literally)."""

    @property
    def num_features(self) -> int:
        """The number of features that the linear map sees."""
        if self.side is None:
            return self.channels
        rows, columns = (_ceil_div(self.side, kernel) for kernel in self.pool)
        return self.channels * rows * columns

    @property
    def num_parameters(self) -> int:
        return (self.num_features + 1) * self.num_classes + self.conv * 9 * self.channels**2

    @property
    def flops(self) -> int:
        conv = 9 * self.channels**2 * (self.side or 1) ** 2
        return 2 * (self.num_features * self.num_classes + self.conv * conv)

    @property
    def depth(self) -> int:
        return 1 + self.conv

    def build(self, draw: Draw) -> "dict[str, nn.Module]":
        from torch import nn

        from dsaccel.nn.winograd import Conv2d

        layers = {"classifier": draw("pred", nn.Linear, self.num_features, self.num_classes)}
        nn.init.zeros_(layers["classifier"].weight)
        if self.conv:
            shape = self.channels, self.channels
            layers["pred_conv"] = draw("pred_conv", Conv2d, *shape, 3, padding=1, bias=False)
        return layers

    def logits(self, h: "Tensor", layers: Any) -> "Tensor":
        from dsaccel.nn.pooling import average_pool

        if self.conv:
            h = layers.pred_conv(h)
        if self.pool != (1, 1):
            h = average_pool(h, self.pool)
        return layers.classifier(h.flatten(1))


def pool_kernel(channels: int, side: int, max_features: int) -> tuple[int, int]:
    """The average-pooling kernel that leaves at most `max_features` of a feature map.

    Height and width are doubled in turn (so kernels may be rectangular), as in the reference code,
    until channels times pooled height times width fits or the map is one pixel.
    """
    height, width = 1, 1
    for step in itertools.count():
        rows, columns = _ceil_div(side, height), _ceil_div(side, width)
        if channels * rows * columns <= max_features or (height >= side and step % 2 == 0):
            return height, width
        if step % 2 == 0:
            height *= 2
        else:
            width *= 2
    raise AssertionError("unreachable")


def _ceil_div(a: int, b: int) -> int:
    return -(-a // b)
