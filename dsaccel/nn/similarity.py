"""How similar the samples of a batch are. B batch, K classes, F features."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from dsaccel.nn.placement import is_on_gpu

EPSILON = 1e-8
TINY = 1e-30
"""Stands for a norm of 0, whose vector is 0 too."""


def similarity_features(h: Tensor) -> Tensor:
    """What the similarity loss compares of each sample: (B, C, H, W) or (B, F) -> (B, F), in fp32.

    The standard deviation over space of each channel; maps of one pixel or of at most 3 channels
    are flattened instead.
    """
    if h.ndim == 4 and h.shape[1] > 3 and h.shape[2] > 1:
        kind = SpatialStdOnGpu if is_on_gpu(h) else SpatialStd
        return kind.apply(h if is_on_gpu(h) else exact(h))  # pyright: ignore[reportReturnType]
    return exact(h.flatten(1))


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


class SpatialStdOnGpu(torch.autograd.Function):
    """The same in few passes over the map, which may be bf16; what is computed is fp32."""

    @staticmethod
    def forward(ctx: Any, h: Tensor) -> Tensor:
        freedom = h.shape[2] * h.shape[3] - 1
        over = {"dim": (2, 3), "keepdim": True}
        if h.dtype == torch.bfloat16:
            # read as it is: the cast that `var_mean` needs moves more, and the map was rounded
            # far more coarsely than what cancels here
            mean_BC11 = h.mean(**over, dtype=torch.float32)
            norm_BC11 = torch.linalg.vector_norm(h, **over, dtype=torch.float32)
            squares_BC11 = norm_BC11.square_().addcmul_(mean_BC11, mean_BC11, value=-1 - freedom)
            var_BC11 = squares_BC11.clamp_(min=0).div_(freedom)
        else:
            var_BC11, mean_BC11 = torch.var_mean(h, **over)
        std_BC = var_BC11.sqrt_().flatten(1)
        ctx.save_for_backward(h, mean_BC11, std_BC)
        return std_BC

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        h, mean_BC11, std_BC = ctx.saved_tensors
        freedom = h.shape[2] * h.shape[3] - 1
        less_BC = (gradients[0] / (std_BC * -freedom)).masked_fill_(std_BC == 0, 0)
        less_BC11 = less_BC[:, :, None, None]
        if torch.compiler.is_compiling():  # which makes one kernel of it, but knows no such `out`
            return torch.addcmul(mean_BC11 * less_BC11, h, less_BC11, value=-1).to(h.dtype)
        # rounded to the map's type as it is written
        return torch.addcmul(mean_BC11 * less_BC11, h, less_BC11, value=-1, out=torch.empty_like(h))


def similarity_matrix(x_BF: Tensor) -> Tensor:
    """Pearson correlation between the samples of a batch: (B, F) -> (B, B)."""
    unit_BF, _ = _unit_vectors(x_BF)
    return (unit_BF @ unit_BF.T).clamp(-1, 1)


def _unit_vectors(x_BF: Tensor) -> tuple[Tensor, Tensor]:
    """Centred features, divided by their norm; and that norm, (B, 1)."""
    centred_BF = x_BF - x_BF.mean(dim=1, keepdim=True)
    norm_B1 = centred_BF.norm(dim=1, keepdim=True)
    return centred_BF / (norm_B1 + EPSILON), norm_B1


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
    return SimilarityLoss.apply(similarity_features(h), target_BB)  # pyright: ignore[reportReturnType]


class SimilarityLoss(torch.autograd.Function):
    """(B, F), target (B, B) -> scalar."""

    @staticmethod
    def forward(ctx: Any, x_BF: Tensor, target_BB: Tensor) -> Tensor:
        difference_BB = similarity_matrix(x_BF).sub_(target_BB)
        ctx.save_for_backward(x_BF, target_BB)
        return difference_BB.square().mean()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        x_BF, target_BB = ctx.saved_tensors
        return _feature_gradient(x_BF, target_BB, gradients[0]), None


def similarity_gradient(s: Tensor, target_BB: Tensor, weight: float = 1.0) -> tuple[Tensor, Tensor]:
    """What depends on `s`, and the gradient of `weight` times its similarity loss with respect to
    that, in fewer and smaller operations than autograd's: there are many units, and to a GPU these
    are all too small.
    """
    x_BF = similarity_features(s)
    if not is_on_gpu(s):
        with torch.no_grad():
            return x_BF, _feature_gradient(x_BF, target_BB, x_BF.new_tensor(weight))
    batch, num_features = x_BF.shape
    # centred, and of a norm of sqrt(F)
    vector_BF = F.layer_norm(x_BF, (num_features,), eps=EPSILON**2 / num_features)
    with torch.no_grad():
        difference_BB = torch.addmm(
            target_BB, vector_BF, vector_BF.T, beta=-1, alpha=1 / num_features
        )
        scale = 4 * weight / (batch**2 * num_features)
        return vector_BF, torch.addmm(vector_BF, difference_BB, vector_BF, beta=0, alpha=scale)


def _feature_gradient(x_BF: Tensor, target_BB: Tensor, weight: Tensor) -> Tensor:
    unit_BF, norm_B1 = _unit_vectors(x_BF)
    difference_BB = (unit_BF @ unit_BF.T).clamp_(-1, 1).sub_(target_BB)
    # both factors of the product are the same vectors, and the difference is symmetric
    to_unit_BF = (difference_BB @ unit_BF).mul_(weight * (4 / len(unit_BF) ** 2))
    # what would only lengthen a vector is lost in the division by its norm
    longer_B1 = norm_B1 + EPSILON
    along_B1 = (to_unit_BF * unit_BF).sum(dim=1, keepdim=True)
    along_B1.mul_(longer_B1).div_(norm_B1.clamp(min=TINY))
    # unit vectors are centred, and so is any sum of them: centring changes nothing of it
    return to_unit_BF.addcmul_(unit_BF, along_B1, value=-1).div_(longer_B1)


def exact(x: Tensor) -> Tensor:
    """Losses and statistics are computed in fp32 (or fp64), whatever autocast says."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
