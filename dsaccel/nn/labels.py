"""What is known of a batch: its labels, what losses make of them once a batch, and its images."""

# B batch, K classes

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dsaccel.nn.similarity import label_similarity


class Target(Hashable, Protocol):
    """Makes a tensor of labels; equal targets make the same."""

    def __call__(self, y_B: Tensor) -> Tensor: ...


class Labels(dict[Target, Tensor]):
    """The labels of a batch, and what has been made of them; beside them the images."""

    def __init__(self, y_B: Tensor, images: Tensor | None = None) -> None:
        super().__init__()
        self.y_B, self.images = y_B, images

    def __missing__(self, target: Target) -> Tensor:
        self[target] = made = target(self.y_B)
        return made

    def follow(self, y_B: Tensor, images: Tensor | None = None) -> None:
        """Go over to the next batch: all that was made of the last one's is made of these."""
        self.y_B, self.images = y_B, images
        for target in self:
            self[target] = target(y_B)


@dataclass(frozen=True)
class SimilarLabels:
    """How similar the labels are, (B, B), for `similarity_loss`."""

    num_classes: int
    dtype: torch.dtype = torch.float32

    def __call__(self, y_B: Tensor) -> Tensor:
        return label_similarity(y_B, self.num_classes, self.dtype)


@dataclass(frozen=True)
class CrossEntropyGradient:
    """The gradient of a weighted cross-entropy with respect to the log-probabilities, (B, K)."""

    num_classes: int
    label_smoothing: float = 0.0
    weight: float = 1.0
    dtype: torch.dtype = torch.float32

    def __call__(self, y_B: Tensor) -> Tensor:
        # rounded step by step as autograd does it
        number = np.float64 if self.dtype == torch.float64 else np.float32
        weight, size, smoothing = number(self.weight), number(len(y_B)), self.label_smoothing
        right = -weight * number(1 - smoothing) / size
        other = -weight * number(smoothing / self.num_classes) / size
        shape = len(y_B), self.num_classes
        gradient_BK = torch.full(shape, float(other), dtype=self.dtype, device=y_B.device)
        return gradient_BK.scatter_(1, y_B[:, None], float(right + other))


def cross_entropy_gradient(
    logits_BK: Tensor, labels: Labels, label_smoothing: float = 0.0, weight: float = 1.0
) -> tuple[Tensor, Tensor]:
    """The logarithms of the probabilities, and the gradient of `weight` times the cross-entropy."""
    log_BK = F.log_softmax(logits_BK, dim=1)
    num_classes = logits_BK.shape[1]
    target = CrossEntropyGradient(num_classes, label_smoothing, weight, log_BK.dtype)
    return log_BK, labels[target]
