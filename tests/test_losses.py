"""Losses against numpy and formulas written out here.

B batch, C channels, F features, K classes.
"""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from dsaccel.config.study import NetworkConfig
from dsaccel.losses.mse import MsePlan
from dsaccel.losses.pred import PredPlan
from dsaccel.nn.labels import Labels, SimilarLabels
from dsaccel.nn.layers import Position
from dsaccel.nn.placement import as_on_gpu
from dsaccel.nn.similarity import (
    SpatialStd,
    label_similarity,
    similarity_features,
    similarity_gradient,
    similarity_loss,
    similarity_matrix,
)
from dsaccel.nn.units import LocalHead
from dsaccel.parts import part_of
from dsaccel.spec.local import Head, UnitShape

K = 5
BETA = 0.9


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=dtype)


def labels(num_images: int) -> Tensor:
    return torch.arange(num_images) * 3 % K


def test_the_similarity_matrix_is_pearsons_correlation_between_samples():
    x_BF = normal(7, 20)
    torch.testing.assert_close(
        similarity_matrix(x_BF), torch.from_numpy(np.corrcoef(x_BF.numpy())), rtol=0, atol=1e-7
    )


def test_correlations_stay_within_one_in_single_precision():
    x_BF = normal(1, 64, dtype=torch.float32).repeat(40, 1) * torch.linspace(1, 9, 40)[:, None]
    matrix_BB = similarity_matrix(x_BF)
    assert matrix_BB.max() <= 1
    torch.testing.assert_close(matrix_BB, torch.ones(40, 40), rtol=0, atol=1e-6)


def test_a_sample_without_variation_is_like_no_other():
    matrix_BB = similarity_matrix(torch.stack([torch.ones(6), torch.arange(6.0)]))
    torch.testing.assert_close(matrix_BB, torch.tensor([[0.0, 0], [0, 1]]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("num_classes", [2, 3, 10, 100])
def test_label_similarity_is_the_similarity_matrix_of_one_hot_labels(num_classes):
    y_B = torch.arange(150) * 7 % num_classes
    one_hot_BK = F.one_hot(y_B, num_classes).double()
    target_BB = label_similarity(y_B, num_classes, torch.float64)
    torch.testing.assert_close(target_BB, similarity_matrix(one_hot_BK), rtol=0, atol=1e-12)
    correlation_BB = torch.from_numpy(np.corrcoef(one_hot_BK.numpy()))
    torch.testing.assert_close(target_BB, correlation_BB, rtol=0, atol=1e-7)
    same, other = target_BB[0, num_classes], target_BB[0, 1]
    assert math.isclose(same, 1, abs_tol=1e-7)
    assert math.isclose(other, -1 / (num_classes - 1), abs_tol=1e-7)


def test_the_spatial_standard_deviation_is_torchs_with_its_gradient():
    h = normal(3, 4, 5, 5).requires_grad_()
    torch.testing.assert_close(similarity_features(h), torch.std(h, dim=(2, 3)))
    weights_BC = normal(3, 4, seed=1)
    (ours,) = torch.autograd.grad((similarity_features(h) * weights_BC).sum(), h)
    (theirs,) = torch.autograd.grad((torch.std(h, dim=(2, 3)) * weights_BC).sum(), h)
    torch.testing.assert_close(ours, theirs)
    assert torch.autograd.gradcheck(SpatialStd.apply, normal(2, 4, 3, 3).requires_grad_())


def test_a_constant_channel_has_the_gradient_0():
    h = normal(2, 4, 3, 3)
    h[0, 1] = 2.0
    h.requires_grad_()
    std_BC = similarity_features(h)
    assert std_BC[0, 1] == 0
    std_BC.sum().backward()
    assert h.grad is not None
    assert torch.equal(h.grad[0, 1], torch.zeros(3, 3, dtype=torch.float64))
    assert torch.isfinite(h.grad).all()
    assert (h.grad[0, 0] != 0).all()


@pytest.mark.parametrize(
    ("shape", "is_flat"),
    [
        ((2, 4, 2, 2), False),
        ((2, 4, 1, 1), True),
        ((2, 3, 5, 5), True),
        ((2, 1, 5, 5), True),
        ((2, 9), True),
    ],
)
def test_one_pixel_and_at_most_three_channels_are_flattened(shape, is_flat):
    h = normal(*shape)
    features_BF = similarity_features(h)
    expected = h.reshape(2, -1) if is_flat else torch.std(h, dim=(2, 3))
    torch.testing.assert_close(features_BF, expected)


def test_the_similarity_loss_is_the_mean_squared_difference_of_all_pairs():
    h, y_B = normal(6, 4, 3, 3), labels(6)
    spread_BC = h.numpy().std(axis=(2, 3), ddof=1)
    same_BB = np.equal.outer(y_B.numpy(), y_B.numpy())
    target_BB = np.where(same_BB, 1, -1 / (K - 1))
    expected = np.square(np.corrcoef(spread_BC) - target_BB).mean()
    loss = similarity_loss(h, label_similarity(y_B, K, torch.float64))
    assert math.isclose(loss.item(), expected, rel_tol=1e-6)


def test_the_gradient_of_the_similarity_loss_is_autograds():
    target_BB = label_similarity(labels(9), K, torch.float64)
    for x_BF in (normal(9, 6), normal(9, 2), 1e-6 * normal(9, 6), 3 + normal(9, 40)):
        x_BF.requires_grad_()
        by_hand = F.mse_loss(similarity_matrix(x_BF), target_BB)
        loss = similarity_loss(x_BF, target_BB)
        assert torch.equal(loss, by_hand)
        (ours,), (theirs,) = (torch.autograd.grad(7 * f, x_BF) for f in (loss, by_hand))
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-12)
    assert torch.autograd.gradcheck(
        lambda x_BF: similarity_loss(x_BF, target_BB), normal(9, 6).requires_grad_()
    )


def test_a_sample_without_variation_has_a_finite_gradient():
    """And the one that autograd finds."""
    x_BF = normal(4, 6)
    x_BF[1] = 2.0
    x_BF.requires_grad_()
    target_BB = label_similarity(labels(4), K, torch.float64)
    by_hand = F.mse_loss(similarity_matrix(x_BF), target_BB)
    (ours,) = torch.autograd.grad(similarity_loss(x_BF, target_BB), x_BF)
    (theirs,) = torch.autograd.grad(by_hand, x_BF)
    assert torch.isfinite(ours).all()
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=0)


def test_the_one_hot_loss_is_the_squared_frobenius_distance_of_eq_6_a_sample():
    logits_BK, y_B = normal(6, K), labels(6)
    distance = np.linalg.norm(logits_BK.numpy() - np.eye(K)[y_B.numpy()], ord="fro") ** 2
    loss = MsePlan().loss(logits_BK, lambda h: h, y_B, None)
    assert math.isclose(loss.item(), distance / 6)


def head(loss: str, *, side: int | None = 5, **settings: Any) -> LocalHead:
    """A local head with a classifier that is not zero, in double precision; it pools by (4, 2)."""
    network = NetworkConfig(loss=loss, beta=BETA, decoder_size=40, **settings)
    unit = UnitShape(1, 1, 6, side, K, only_reads=loss == "sim")
    parts = (part_of(network, kind).plan(unit) for kind in ("head", "loss"))
    spec = Head(*parts)
    module = LocalHead(spec, Position(1, 1, 1), seed=1).double()
    torch.nn.init.normal_(module.classifier.weight, generator=torch.Generator().manual_seed(2))
    return module


def pooled_by_hand(h: Tensor) -> Tensor:
    """(B, 6, 5, 5) -> (B, 6 * 2 * 3): means over windows of 4 x 2, smaller at the far edges."""
    rows, columns = [(0, 4), (4, 5)], [(0, 2), (2, 4), (4, 5)]
    means = [h[:, :, a:b, c:d].mean(dim=(2, 3)) for a, b in rows for c, d in columns]
    return torch.stack(means, dim=2).flatten(1)


def cross_entropy_by_hand(logits_BK: Tensor, y_B: Tensor) -> Tensor:
    log_probability_BK = logits_BK - logits_BK.exp().sum(dim=1, keepdim=True).log()
    return -log_probability_BK[torch.arange(len(y_B)), y_B].mean()


def similarity_by_hand(h: Tensor, y_B: Tensor) -> Tensor:
    spread = torch.std(h, dim=(2, 3)) if h.ndim == 4 else h
    target_BB = (y_B[:, None] == y_B).double() * (1 + 1 / (K - 1)) - 1 / (K - 1)
    return (torch.corrcoef(spread) - target_BB).square().mean()


@pytest.mark.parametrize("pred_conv", [False, True])
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("loss", ["pred", "sim", "predsim", "mse"])
def test_local_losses_are_their_formulas(loss, kernel, pred_conv):
    module = head(loss, sim_kernel=kernel, pred_conv=pred_conv)
    h, y_B = normal(8, 6, 5, 5), labels(8)
    seen = h
    if pred_conv and loss != "sim":
        assert module.pred_conv.bias is None
        seen = F.conv2d(h, module.pred_conv.weight, padding=1)
    else:
        assert not hasattr(module, "pred_conv")
    logits_BK = pooled_by_hand(seen) @ module.classifier.weight.T + module.classifier.bias
    prediction = cross_entropy_by_hand(logits_BK, y_B)
    similarity = torch.tensor(0.0)
    if hasattr(module, "similarity"):
        assert module.similarity.bias is None
        weight = module.similarity.weight
        assert weight.shape == (6, 6, kernel, kernel)
        similarity = similarity_by_hand(F.conv2d(h, weight, padding=kernel // 2), y_B)
    expected = {
        "pred": prediction,
        "sim": prediction + similarity,  # the classifier alone learns from the first term
        "predsim": (1 - BETA) * prediction + BETA * similarity,
        "mse": (logits_BK - F.one_hot(y_B, K)).square().sum() / 8,
    }[loss]
    assert hasattr(module, "similarity") == (loss in ("sim", "predsim"))
    torch.testing.assert_close(module.logits(h), logits_BK)
    torch.testing.assert_close(module.loss(h, y_B), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("loss", ["pred", "sim", "predsim", "mse"])
def test_local_losses_of_a_vector_are_their_formulas(loss):
    module = head(loss, side=None, pred_conv=True)
    assert not hasattr(module, "pred_conv")  # nothing to convolve
    h, y_B = normal(8, 6), labels(8)
    logits_BK = h @ module.classifier.weight.T + module.classifier.bias
    prediction = cross_entropy_by_hand(logits_BK, y_B)
    similarity = torch.tensor(0.0)
    if hasattr(module, "similarity"):
        similarity = similarity_by_hand(h @ module.similarity.weight.T, y_B)
    expected = {
        "pred": prediction,
        "sim": prediction + similarity,
        "predsim": (1 - BETA) * prediction + BETA * similarity,
        "mse": (logits_BK - F.one_hot(y_B, K)).square().sum() / 8,
    }[loss]
    torch.testing.assert_close(module.loss(h, y_B), expected, rtol=1e-6, atol=0)


def gradient_of_features(module: LocalHead, h: Tensor, y_B: Tensor) -> Tensor:
    h = h.clone().requires_grad_()
    module.loss(h, y_B).backward()
    assert h.grad is not None
    return h.grad


def test_the_read_out_under_sim_learns_but_sends_no_gradient_to_the_features():
    h, y_B = normal(8, 6, 5, 5), labels(8)
    module = head("sim")
    gradient = gradient_of_features(module, h, y_B)
    assert module.classifier.weight.grad is not None
    assert module.classifier.weight.grad.abs().max() > 0
    alone = h.clone().requires_grad_()
    similarity_by_hand(module.similarity(alone), y_B).backward()
    torch.testing.assert_close(gradient, alone.grad, rtol=1e-4, atol=1e-8)
    # under predsim the classifier does teach the features
    module = head("predsim")
    before = gradient_of_features(module, h, y_B)
    torch.nn.init.zeros_(module.classifier.weight)
    assert not torch.allclose(before, gradient_of_features(module, h, y_B))


def test_losses_are_computed_in_single_precision_under_autocast():
    module = head("predsim").float()
    h, y_B = normal(8, 6, 5, 5).float(), labels(8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits_BK, similar, loss = module.logits(h), module.similarity(h), module.loss(h, y_B)
    assert logits_BK.dtype == similar.dtype == torch.bfloat16
    assert loss.dtype == torch.float32
    prediction = cross_entropy_by_hand(logits_BK.double(), y_B)
    similarity = similarity_by_hand(similar.double(), y_B)
    expected = (1 - BETA) * prediction + BETA * similarity
    assert math.isclose(loss.item(), expected.item(), rel_tol=1e-6)


@pytest.mark.parametrize("loss", ["pred", "sim", "predsim"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_gradients_without_a_value_are_those_of_the_value_bit_for_bit(loss, smoothing):
    network = NetworkConfig(loss=loss, beta=BETA, decoder_size=40)
    unit = UnitShape(1, 1, 6, 5, K, label_smoothing=smoothing, only_reads=loss == "sim")
    parts = (part_of(network, kind).plan(unit) for kind in ("head", "loss"))
    module = LocalHead(Head(*parts), Position(1, 1, 1), seed=1)
    torch.nn.init.normal_(module.classifier.weight, generator=torch.Generator().manual_seed(2))
    h, y_B = normal(6, 6, 5, 5, dtype=torch.float32).requires_grad_(), labels(6)
    read = (h, *module.parameters())
    expected = torch.autograd.grad(module.loss(h, y_B), read)
    tensors, gradients = zip(*module.gradients(h, Labels(y_B)), strict=True)
    found = torch.autograd.grad(tensors, read, gradients)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("shape", [(9, 6, 8, 8), (9, 5, 2, 2), (9, 6, 1, 1), (9, 3, 4, 4), (9, 7)])
def test_a_gpu_goes_another_way_to_the_same_gradient(shape):
    s = normal(*shape).add_(2).requires_grad_()
    target_BB = label_similarity(labels(9), K, torch.float64)
    expected = torch.autograd.grad(0.3 * similarity_loss(s, target_BB), s)
    with as_on_gpu():
        end, gradient = similarity_gradient(s, target_BB, 0.3)
        found = torch.autograd.grad(end, s, gradient)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-8)


def test_a_gpu_reads_bf16_maps_as_they_are():
    s = normal(9, 6, 8, 8, dtype=torch.float32).add_(1).bfloat16()
    s[0, 0] = 3.0  # a constant channel
    target_BB = label_similarity(labels(9), K, torch.float32)
    exact = s.double().requires_grad_()
    (expected,) = torch.autograd.grad(similarity_loss(exact, target_BB.double()), exact)
    with as_on_gpu():
        end, gradient = similarity_gradient(s.requires_grad_(), target_BB)
        assert end.dtype == torch.float32
        (found,) = torch.autograd.grad(end, s, gradient)
    assert found.dtype == torch.bfloat16
    assert not found[0, 0].any()
    torch.testing.assert_close(found.double(), expected, rtol=0.005, atol=1e-6)


def test_a_loss_derived_from_another_does_not_inherit_its_gradients():
    class Own(PredPlan):
        def loss(self, h, logits, y_B, layers, **read):
            return 2 * super().loss(h, logits, y_B, layers)

    h, y_B = normal(6, K).requires_grad_(), labels(6)
    ((loss, gradient),) = Own().gradients(h, lambda h: h, Labels(y_B), None)
    assert gradient is None
    assert torch.equal(loss, 2 * F.cross_entropy(h, y_B))


def test_what_is_made_of_labels_is_made_anew_of_the_next_batch():
    made = Labels(labels(6))
    first = made[SimilarLabels(K)]
    assert made[SimilarLabels(K)] is first
    made.follow(labels(6).flip(0))
    assert torch.equal(made[SimilarLabels(K)], first.flip(0, 1))
