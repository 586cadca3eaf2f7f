"""Prediction: the cross-entropy of the unit's head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dsaccel.losses import LocalLoss
from dsaccel.spec.local import LossPlan, UnitShape

if TYPE_CHECKING:
    from torch import Tensor

    from dsaccel.nn.labels import Labels
    from dsaccel.spec.local import Ends, Logits


class Pred(LocalLoss):
    """The cross-entropy of the unit's head."""

    def plan(self, unit: UnitShape) -> PredPlan:
        return PredPlan(unit.label_smoothing)


@dataclass(frozen=True)
class PredPlan(LossPlan):
    label_smoothing: float = 0.0

    def loss(self, h: Tensor, logits: Logits, y_B: Tensor, layers: Any, **read: Any) -> Tensor:
        from torch.nn import functional as F

        return F.cross_entropy(logits(h), y_B, label_smoothing=self.label_smoothing)

    def gradients(
        self, h: Tensor, logits: Logits, labels: Labels, layers: Any, **read: Any
    ) -> Ends:
        from dsaccel.nn.labels import cross_entropy_gradient

        return [cross_entropy_gradient(logits(h), labels, self.label_smoothing)]
