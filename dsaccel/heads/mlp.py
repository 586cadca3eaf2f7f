"""1x1 convolutions on a pooled map, then two linear maps: after DGL's `MLP-SR` head."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dsaccel.heads import Head
from dsaccel.spec.local import Draw, HeadPlan, UnitShape

if TYPE_CHECKING:
    from torch import Tensor, nn

NUM_CONVS = 3
READ = 2
"""Side of the map that the linear maps read."""


class Mlp(Head):
    """Average-pool to a quarter of the side, three 1x1 convolutions with normalisation and ReLU,
    average-pool to 2x2, a linear map with ReLU, and one that begins at zero.
    """

    def plan(self, unit: UnitShape) -> "MlpPlan":
        assert unit.side is not None
        return MlpPlan(unit.channels, unit.num_classes, max(1, unit.side // 4))


@dataclass(frozen=True)
class MlpPlan(HeadPlan):
    channels: int
    num_classes: int
    pooled: int
    """Side of the pooled map."""

    @property
    def num_parameters(self) -> int:
        convs = NUM_CONVS * (self.channels**2 + 2 * self.channels)
        hidden = (READ**2 * self.channels + 1) * self.channels
        return convs + hidden + (self.channels + 1) * self.num_classes

    @property
    def flops(self) -> int:
        convs = NUM_CONVS * self.channels**2 * self.pooled**2
        return 2 * (convs + (READ**2 * self.channels + self.num_classes) * self.channels)

    @property
    def depth(self) -> int:
        return NUM_CONVS + 2

    def build(self, draw: Draw) -> "dict[str, nn.Module]":
        from torch import nn

        convs = nn.Sequential()
        for number in range(NUM_CONVS):
            convs.append(
                draw(f"conv{number}", nn.Conv2d, self.channels, self.channels, 1, bias=False)
            )
            convs.append(nn.BatchNorm2d(self.channels))
            convs.append(nn.ReLU())
        classifier = draw("classifier", nn.Linear, self.channels, self.num_classes)
        nn.init.zeros_(classifier.weight)
        hidden = draw("hidden", nn.Linear, READ**2 * self.channels, self.channels)
        return {"convs": convs, "hidden": hidden, "classifier": classifier}

    def logits(self, h: "Tensor", layers: Any) -> "Tensor":
        from torch.nn import functional as F

        z = layers.convs(F.adaptive_avg_pool2d(h, self.pooled))
        z = F.adaptive_avg_pool2d(z, READ).flatten(1)
        return layers.classifier(layers.hidden(z).relu())
