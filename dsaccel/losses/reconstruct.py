"""Prediction and reconstruction: features keep what is in the image; after InfoPro (Wang 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import Field

from dsaccel.losses import LocalLoss
from dsaccel.losses.pred import PredPlan
from dsaccel.spec.local import Draw, Read, UnitShape

if TYPE_CHECKING:
    from torch import Tensor, nn

    from dsaccel.spec.local import Logits

WIDTH = 12
"""Channels between the decoder's two convolutions."""


class Reconstruct(LocalLoss):
    """Cross-entropy + the squared error of the image as a decoder draws it from the features.

    The error counts less from stage to stage, and not at all in the last one and for vectors.
    """

    weight: float = Field(default=1.0, gt=0)
    """The error's weight in the stem and stage 1; it falls evenly to 0 in the last stage."""

    def plan(self, unit: UnitShape) -> PredPlan:
        num_later = len(unit.later(1.0)) if unit.later is not None else 0
        if unit.side is None or not num_later:
            return PredPlan(unit.label_smoothing)
        weight = self.weight * num_later / (max(unit.stage, 1) + num_later - 1)
        shape = unit.channels, unit.side, unit.image_channels
        return ReconstructPlan(unit.label_smoothing, *shape, weight)


@dataclass(frozen=True)
class ReconstructPlan(PredPlan):
    channels: int = 1
    side: int = 1
    image_channels: int = 3
    weight: float = 1.0

    reads = frozenset[Read]({"image"})

    @property
    def num_parameters(self) -> int:
        return 9 * WIDTH * (self.channels + self.image_channels) + self.image_channels

    @property
    def flops(self) -> int:
        return 2 * 9 * WIDTH * (self.channels + self.image_channels) * self.side**2

    @property
    def depth(self) -> int:
        return 2

    def build(self, draw: Draw) -> dict[str, nn.Module]:
        from torch import nn

        narrow = draw("narrow", nn.Conv2d, self.channels, WIDTH, 3, padding=1, bias=False)
        drawn = draw("image", nn.Conv2d, WIDTH, self.image_channels, 3, padding=1)
        return {"narrow": narrow, "image": drawn}

    def loss(self, h: Tensor, logits: Logits, y_B: Tensor, layers: Any, **read: Any) -> Tensor:
        from torch.nn import functional as F

        from dsaccel.nn.similarity import exact

        prediction = super().loss(h, logits, y_B, layers)
        small = F.adaptive_avg_pool2d(read["image"], self.side)
        drawn = layers.image(layers.narrow(h).relu())
        return prediction + self.weight * F.mse_loss(exact(drawn), exact(small))
