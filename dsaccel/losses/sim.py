"""Similarity: images of a class shall have similar features, those of different ones others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from dsaccel.losses import LocalLoss
from dsaccel.spec.local import Draw, LossPlan, UnitShape

if TYPE_CHECKING:
    from torch import Tensor, nn

    from dsaccel.nn.labels import Labels
    from dsaccel.spec.local import Ends, Logits


class Sim(LocalLoss):
    """Similarity alone. The head only reads the features, so that the unit has an accuracy."""

    trains_head: ClassVar = False
    sim_kernel: int

    def plan(self, unit: UnitShape) -> SimPlan:
        return SimPlan.of(unit, self.sim_kernel)


@dataclass(frozen=True)
class SimPlan(LossPlan):
    """A convolution (or linear map) to as many features, and the similarity of these."""

    channels: int
    side: int | None
    num_classes: int
    kernel: int
    label_smoothing: float = 0.0

    @classmethod
    def of(cls, unit: UnitShape, kernel: int, **others: Any) -> SimPlan:
        kernel = 1 if unit.side is None else kernel
        shape = unit.channels, unit.side, unit.num_classes
        return cls(*shape, kernel, unit.label_smoothing, **others)

    @property
    def num_parameters(self) -> int:
        return self.kernel**2 * self.channels**2

    @property
    def flops(self) -> int:
        return 2 * self.num_parameters * (self.side or 1) ** 2

    def build(self, draw: Draw) -> dict[str, nn.Module]:
        from torch import nn

        from dsaccel.nn.winograd import Conv2d

        shape = self.channels, self.channels
        if self.side is None:
            return {"similarity": draw("sim", nn.Linear, *shape, bias=False)}
        padding = self.kernel // 2
        conv = draw("sim", Conv2d, *shape, self.kernel, padding=padding, bias=False)
        return {"similarity": conv}

    def loss(self, h: Tensor, logits: Logits, y_B: Tensor, layers: Any, **read: Any) -> Tensor:
        from torch.nn import functional as F

        # the head learns to read, the features learn nothing from it
        smoothing = self.label_smoothing
        reading = F.cross_entropy(logits(h.detach()), y_B, label_smoothing=smoothing)
        return reading + self.similarity(h, y_B, layers)

    def similarity(self, h: Tensor, y_B: Tensor, layers: Any) -> Tensor:
        import torch

        from dsaccel.nn.similarity import exact, label_similarity, similarity_loss

        s = exact(layers.similarity(h))
        with torch.autocast(h.device.type, enabled=False):
            return similarity_loss(s, label_similarity(y_B, self.num_classes, s.dtype))

    def gradients(
        self, h: Tensor, logits: Logits, labels: Labels, layers: Any, **read: Any
    ) -> Ends:
        reading = self.reading(logits(h.detach()), labels)
        return [reading, self.similar(h, labels, layers)]

    def reading(
        self, logits_BK: Tensor, labels: Labels, weight: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """The gradient of the weighted cross-entropy."""
        from dsaccel.nn.labels import cross_entropy_gradient

        return cross_entropy_gradient(logits_BK, labels, self.label_smoothing, weight)

    def similar(
        self, h: Tensor, labels: Labels, layers: Any, weight: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """The gradient of the weighted similarity."""
        import torch

        from dsaccel.nn.labels import SimilarLabels
        from dsaccel.nn.similarity import similarity_gradient

        s = layers.similarity(h)
        dtype = torch.float64 if s.dtype == torch.float64 else torch.float32
        with torch.autocast(h.device.type, enabled=False):
            return similarity_gradient(s, labels[SimilarLabels(self.num_classes, dtype)], weight)
