"""Average over the feature map, then a linear map: the output layer of a ResNet on every unit."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dsaccel.heads import Head
from dsaccel.spec.local import Draw, HeadPlan, UnitShape

if TYPE_CHECKING:
    from torch import Tensor, nn


class Gap(Head):
    """Average over the feature map, then a linear map that begins at zero."""

    def plan(self, unit: UnitShape) -> "GapPlan":
        return GapPlan(unit.channels, unit.num_classes)


@dataclass(frozen=True)
class GapPlan(HeadPlan):
    channels: int
    num_classes: int

    @property
    def num_parameters(self) -> int:
        return (self.channels + 1) * self.num_classes

    @property
    def flops(self) -> int:
        return 2 * self.channels * self.num_classes

    def build(self, draw: Draw) -> "dict[str, nn.Module]":
        from torch import nn

        classifier = draw("classifier", nn.Linear, self.channels, self.num_classes)
        nn.init.zeros_(classifier.weight)
        return {"classifier": classifier}

    def logits(self, h: "Tensor", layers: Any) -> "Tensor":
        return layers.classifier(h.mean(dim=(2, 3)))
