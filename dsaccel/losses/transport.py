"""Prediction, and as little movement as possible: after TRGL (Karkar et al. 2023)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import Field

from dsaccel.losses import LocalLoss
from dsaccel.losses.pred import PredPlan
from dsaccel.spec.local import Read, UnitShape

if TYPE_CHECKING:
    from torch import Tensor

    from dsaccel.spec.local import Logits


class Transport(LocalLoss):
    """Cross-entropy + the mean square of what each residual branch adds, over 2 tau."""

    tau: float = Field(default=1.0, gt=0)
    """How far features may move: the smaller, the nearer is each block to the identity."""

    def plan(self, unit: UnitShape) -> TransportPlan:
        return TransportPlan(unit.label_smoothing, self.tau)


@dataclass(frozen=True)
class TransportPlan(PredPlan):
    tau: float = 1.0

    reads = frozenset[Read]({"residuals"})

    def loss(self, h: Tensor, logits: Logits, y_B: Tensor, layers: Any, **read: Any) -> Tensor:
        from dsaccel.nn.similarity import exact

        prediction = super().loss(h, logits, y_B, layers)
        moved = sum(exact(residual).square().mean() for residual in read["residuals"])
        return prediction + moved / (2 * self.tau)
