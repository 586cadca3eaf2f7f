"""A 3x3 convolution before the average: features are mixed once more before they are read."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dsaccel.heads import Head
from dsaccel.heads.gap import GapPlan
from dsaccel.spec.local import Draw, UnitShape

if TYPE_CHECKING:
    from torch import Tensor, nn


class Conv(Head):
    """A 3x3 convolution, ReLU, average over the map, then a linear map that begins at zero."""

    def plan(self, unit: UnitShape) -> "ConvPlan":
        assert unit.side is not None
        return ConvPlan(unit.channels, unit.num_classes, unit.side)


@dataclass(frozen=True)
class ConvPlan(GapPlan):
    side: int

    @property
    def num_parameters(self) -> int:
        return 9 * self.channels**2 + super().num_parameters

    @property
    def flops(self) -> int:
        return 2 * 9 * self.channels**2 * self.side**2 + super().flops

    @property
    def depth(self) -> int:
        return 1 + super().depth

    def build(self, draw: Draw) -> "dict[str, nn.Module]":
        from dsaccel.nn.winograd import Conv2d

        conv = draw("conv", Conv2d, self.channels, self.channels, 3, padding=1, bias=False)
        return {"conv": conv, **super().build(draw)}

    def logits(self, h: "Tensor", layers: Any) -> "Tensor":
        return super().logits(layers.conv(h).relu(), layers)
