"""Squared distance to the one-hot labels (eq. 6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dsaccel.losses import LocalLoss
from dsaccel.spec.local import LossPlan, UnitShape

if TYPE_CHECKING:
    from torch import Tensor

    from dsaccel.spec.local import Logits


class Mse(LocalLoss):
    """Squared Frobenius distance between predictions and one-hot labels, an image."""

    def plan(self, unit: UnitShape) -> MsePlan:
        return MsePlan()


@dataclass(frozen=True)
class MsePlan(LossPlan):
    def loss(self, h: Tensor, logits: Logits, y_B: Tensor, layers: Any, **read: Any) -> Tensor:
        from torch.nn import functional as F

        logits_BK = logits(h)
        one_hot_BK = F.one_hot(y_B, logits_BK.shape[1]).to(logits_BK.dtype)
        return (logits_BK - one_hot_BK).square().sum(dim=1).mean()
