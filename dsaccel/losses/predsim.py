"""Prediction and similarity: the paper's local loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dsaccel.losses import LocalLoss
from dsaccel.losses.sim import SimPlan
from dsaccel.spec.local import UnitShape

if TYPE_CHECKING:
    from torch import Tensor

    from dsaccel.nn.labels import Labels
    from dsaccel.spec.local import Ends, Logits


class PredSim(LocalLoss):
    """(1 - beta) times the cross-entropy of the head + beta times the similarity."""

    beta: float
    sim_kernel: int

    def plan(self, unit: UnitShape) -> PredSimPlan:
        return PredSimPlan.of(unit, self.sim_kernel, beta=self.beta)  # pyright: ignore[reportReturnType]


@dataclass(frozen=True)
class PredSimPlan(SimPlan):
    beta: float = 0.99

    def loss(self, h: Tensor, logits: Logits, y_B: Tensor, layers: Any, **read: Any) -> Tensor:
        from torch.nn import functional as F

        prediction = F.cross_entropy(logits(h), y_B, label_smoothing=self.label_smoothing)
        return (1 - self.beta) * prediction + self.beta * self.similarity(h, y_B, layers)

    def gradients(
        self, h: Tensor, logits: Logits, labels: Labels, layers: Any, **read: Any
    ) -> Ends:
        prediction = self.reading(logits(h), labels, 1 - self.beta)
        return [prediction, self.similar(h, labels, layers, self.beta)]
