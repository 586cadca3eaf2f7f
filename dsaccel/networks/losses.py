"""Local losses. B batch, K classes, F features."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

EPSILON = 1e-8


def similarity_features(h: Tensor) -> Tensor:
    """What the similarity loss compares of each sample: (B, C, H, W) or (B, F) -> (B, F).

    The standard deviation over space of each channel; maps of one pixel or of at most 3 channels
    are flattened instead.
    """
    if h.ndim == 4 and h.shape[1] > 3 and h.shape[2] > 1:
        return SpatialStd.apply(h)  # pyright: ignore[reportReturnType]
    return h.flatten(1)


class SpatialStd(torch.autograd.Function):
    """Unbiased standard deviation of each channel over space: (B, C, H, W) -> (B, C).

    What `torch.std` computes, faster on a CPU; a constant channel has the gradient 0.
    """

    @staticmethod
    def forward(ctx: Any, h: Tensor) -> Tensor:
        freedom = h.shape[2] * h.shape[3] - 1
        mean_BC11 = h.mean(dim=(2, 3), keepdim=True)
        std_BC = ((h - mean_BC11).square_().sum(dim=(2, 3)) / freedom).sqrt()
        # not the centred features: a map less at the peak, for a subtraction more
        ctx.save_for_backward(h, mean_BC11, std_BC)
        return std_BC

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        h, mean_BC11, std_BC = ctx.saved_tensors
        freedom = h.shape[2] * h.shape[3] - 1
        factor_BC = (gradients[0] / (std_BC * freedom)).masked_fill(std_BC == 0, 0)
        return (h - mean_BC11).mul_(factor_BC[:, :, None, None])


def similarity_matrix(x_BF: Tensor) -> Tensor:
    """Pearson correlation between the samples of a batch: (B, F) -> (B, B)."""
    x_BF = x_BF - x_BF.mean(dim=1, keepdim=True)
    x_BF = x_BF / (x_BF.norm(dim=1, keepdim=True) + EPSILON)
    return (x_BF @ x_BF.T).clamp(-1, 1)


def label_similarity(y_B: Tensor, num_classes: int, dtype: torch.dtype) -> Tensor:
    """The similarity matrix of the one-hot labels, in closed form: (B,) -> (B, B).

    A centred one-hot vector has the norm sqrt((K - 1) / K), two of different classes have the
    correlation -1 / (K - 1).
    """
    norm = math.sqrt((num_classes - 1) / num_classes)
    same = (norm / (norm + EPSILON)) ** 2
    equal_BB = y_B[:, None] == y_B[None, :]
    # not `where` of two numbers: its result is fp32, whatever `dtype` says
    different = torch.full_like(equal_BB, -same / (num_classes - 1), dtype=dtype)
    return different.masked_fill_(equal_BB, same)


def similarity_loss(h: Tensor, target_BB: Tensor) -> Tensor:
    """Mean squared difference between the samples' similarities and their labels' (`sim`)."""
    return F.mse_loss(similarity_matrix(similarity_features(h)), target_BB)


def one_hot_loss(logits_BK: Tensor, y_B: Tensor) -> Tensor:
    """Squared Frobenius distance between predictions and one-hot labels, a sample (eq. 6)."""
    one_hot_BK = F.one_hot(y_B, logits_BK.shape[1]).to(logits_BK.dtype)
    return (logits_BK - one_hot_BK).square().sum(dim=1).mean()
