"""Convolution by tiles against the direct one."""

import pytest
import torch
from helpers import CPU, TRAINING, plan
from torch.nn import functional as F

from dsaccel.config.study import NetworkConfig
from dsaccel.nn.units import build_units
from dsaccel.nn.winograd import Conv2d, Convolve, pays
from dsaccel.spec import tiling
from dsaccel.spec.plan import Segment
from dsaccel.spec.tiling import PART, parts
from dsaccel.training.learner import Learner
from dsaccel.training.meter import peak_bytes


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=dtype)


@pytest.mark.parametrize("sides", [(4, 4), (8, 8), (12, 12), (4, 8), (12, 4)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("part", [PART, 20])
def test_tiles_give_the_direct_convolution_and_its_gradients(
    monkeypatch, sides, memory_format, part
):
    """`part`: all at once, or four outputs and some of the images at a time."""
    monkeypatch.setattr(tiling, "PART", part)
    x = normal(3, 5, *sides).contiguous(memory_format=memory_format).requires_grad_()
    weight = normal(7, 5, 3, 3, seed=1).contiguous(memory_format=memory_format).requires_grad_()
    gradient = normal(3, 7, *sides, seed=2)
    direct, tiled = F.conv2d(x, weight, padding=1), Convolve.apply(x, weight)
    torch.testing.assert_close(tiled, direct, rtol=0, atol=1e-12)
    torch.testing.assert_close(
        torch.autograd.grad(tiled, (x, weight), gradient),
        torch.autograd.grad(direct, (x, weight), gradient),
        rtol=0,
        atol=1e-11,
    )


def test_the_gradient_of_tiles_is_that_of_small_differences():
    x, weight = normal(1, 2, 8, 4).requires_grad_(), normal(2, 2, 3, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(Convolve.apply, (x, weight))


def test_in_single_precision_tiles_are_off_by_rounding():
    x, weight = normal(16, 256, 4, 4), normal(256, 256, 3, 3, seed=1) / 48
    exact = F.conv2d(x, weight, padding=1)
    tiled = Convolve.apply(x.float(), weight.float())
    assert (tiled - exact).abs().max() < 1e-4 * exact.std()


def test_only_the_input_and_the_weights_are_kept_for_the_backward_pass():
    x, weight = normal(2, 4, 8, 8).requires_grad_(), normal(4, 4, 3, 3, seed=1).requires_grad_()
    kept: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(kept.append, lambda _: x):
        Convolve.apply(x, weight)
    assert [tensor.data_ptr() for tensor in kept] == [x.data_ptr(), weight.data_ptr()]


def test_beside_maps_the_memory_of_tiles_does_not_grow_with_the_batch(monkeypatch):
    monkeypatch.setattr(tiling, "PART", 256)
    weight = normal(16, 16, 3, 3).requires_grad_()

    def peak(batch: int) -> int:
        """Of both passes."""
        x, gradient = normal(batch, 16, 8, 8).requires_grad_(), normal(batch, 16, 8, 8, seed=1)
        return peak_bytes(lambda: torch.autograd.grad(convolved(x), (x, weight), gradient), CPU)

    def convolved(x: torch.Tensor) -> torch.Tensor:
        y = Convolve.apply(x, weight)
        assert isinstance(y, torch.Tensor)
        return y

    maps = 8 * 16 * 8 * 8  # of an image
    assert peak(24) - peak(16) <= 2 * 8 * maps  # its output and the gradient of its input


@pytest.mark.parametrize("shape", [(128, 512, 8, 8), (7, 256, 32, 32), (1, 2048, 4, 4)])
@pytest.mark.parametrize("num_outputs", [256, 2048])
def test_parts_are_equal_and_cover_everything_once(shape, num_outputs):
    batch, channels, height, width = shape
    images, outputs = parts(shape, num_outputs)
    for runs, total in ((images, batch), (outputs, num_outputs)):
        assert [i for run in runs for i in range(total)[run]] == list(range(total))
        assert len({run.stop - run.start for run in runs[:-1]}) <= 1
    num_outputs, num_images = outputs[0].stop, images[0].stop
    assert channels * num_outputs <= PART
    num_tiles = num_images * height * width // 16
    assert num_images == 1 or num_tiles * max(channels, num_outputs) <= PART


def test_memory_stays_channels_last():
    x = normal(2, 4, 8, 8).contiguous(memory_format=torch.channels_last).requires_grad_()
    weight = normal(4, 4, 3, 3, seed=1).contiguous(memory_format=torch.channels_last)
    weight.requires_grad_()
    y = Convolve.apply(x, weight)
    assert isinstance(y, torch.Tensor)
    # not `x.grad`, which takes the memory format of `x` whatever it is made of
    for tensor in (y, *torch.autograd.grad(y.square().sum(), (x, weight))):
        assert tensor.is_contiguous(memory_format=torch.channels_last)


def test_every_3x3_convolution_may_go_by_tiles():
    network = NetworkConfig(width=1 / 16, pred_conv=True)
    kernels = [
        module
        for segment in plan("1-1-1", network=network).segments
        for unit in build_units(segment, seed=1)
        for module in unit.modules()
        if isinstance(module, torch.nn.Conv2d) and module.kernel_size == (3, 3)
    ]
    assert len(kernels) == 3 * 7  # the stem and 2 a block, each with its head's two
    assert all(isinstance(kernel, Conv2d) for kernel in kernels)


def test_frozen_inputs_and_weights_get_no_gradient():
    x, weight = normal(1, 2, 4, 4), normal(2, 2, 3, 3, seed=1)
    Convolve.apply(x, weight.requires_grad_()).sum().backward()
    assert x.grad is None
    weight = weight.detach()
    Convolve.apply(x.requires_grad_(), weight).sum().backward()
    assert weight.grad is None


@pytest.mark.parametrize(
    ("changes", "shape", "expected"),
    [
        ({}, (2, 256, 4, 4), True),
        ({}, (2, 256, 8, 8), True),
        ({}, (2, 256, 6, 8), False),
        ({}, (2, 256, 8, 6), False),
        ({"stride": 2}, (2, 256, 8, 8), False),
        ({"padding": 0}, (2, 256, 8, 8), False),
        ({"dilation": 2}, (2, 256, 8, 8), False),
        ({"groups": 2}, (2, 256, 8, 8), False),
        ({"kernel_size": 1, "padding": 0}, (2, 256, 4, 4), False),
        ({"out_channels": 128}, (2, 256, 4, 4), False),
        ({"in_channels": 128}, (2, 128, 4, 4), False),
    ],
)
def test_only_wide_plain_convolutions_go_by_tiles(changes, shape, expected):
    settings = {"in_channels": 256, "out_channels": 256, "kernel_size": 3, "padding": 1} | changes
    with torch.device("meta"):
        conv = Conv2d(**settings)
    assert pays(conv, torch.empty(shape)) is expected


def test_half_precision_convolves_directly():
    with torch.device("meta"):
        conv = Conv2d(256, 256, 3, padding=1)
    assert not pays(conv, torch.empty(2, 256, 4, 4, dtype=torch.bfloat16))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not pays(conv, torch.empty(2, 256, 4, 4))


@pytest.mark.parametrize("bias", [False, True])
def test_a_layer_is_the_same_function_either_way(monkeypatch, bias):
    conv = Conv2d(3, 4, 3, padding=1, bias=bias).double()
    x = normal(2, 3, 8, 8)
    direct = conv(x)
    monkeypatch.setattr(tiling, "MIN_CHANNELS", 1)
    assert pays(conv, x)
    torch.testing.assert_close(conv(x), direct, rtol=0, atol=1e-12)
    assert not torch.equal(conv(x), direct)  # it did go by tiles


def test_segments_learn_the_same_by_tiles_and_directly(monkeypatch):
    network = NetworkConfig(width=1 / 16, dropout=0.2)

    def learned(segments: tuple[Segment, ...]) -> list[torch.Tensor]:
        x, y = normal(8, 3, 8, 8), torch.arange(8) % 4
        weights: list[torch.Tensor] = []
        for segment in segments:
            learner = Learner(segment, TRAINING, seed=1, device=CPU, dtype=torch.float64)
            learner.start_epoch(1)
            x = learner.step(x, y)
            weights += [p.detach() for unit in learner.units for p in unit.parameters()]
        return weights

    segments = plan("1-1-1", network=network).segments
    direct = learned(segments)
    monkeypatch.setattr(tiling, "MIN_CHANNELS", 1)
    by_tiles = learned(segments)
    torch.testing.assert_close(by_tiles, direct, rtol=0, atol=1e-9)
    assert any(not torch.equal(a, b) for a, b in zip(by_tiles, direct, strict=True))
