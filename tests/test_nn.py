"""Modules against torchvision's blocks with the same weights. B batch, C channels, H = W side."""

import math
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from helpers import NETWORK, leaky, plan
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet

from dsaccel.config.study import NetworkConfig
from dsaccel.heads.linear import LinearPlan
from dsaccel.losses.predsim import PredSimPlan
from dsaccel.nn.layers import Draw, LayerModule, Position, Projection
from dsaccel.nn.units import LocalHead, OutputLayer, Unit, build_units, positions
from dsaccel.spec.blocks import Block, Layer, Output
from dsaccel.spec.local import Head
from dsaccel.spec.plan import Plan

B = 6


def units(network: Plan, seed: int = 1) -> list[Unit]:
    return [unit for segment in network.segments for unit in build_units(segment, seed)]


def layers(built: list[Unit]) -> list[LayerModule]:
    return [layer for unit in built for layer in unit.layers if isinstance(layer, LayerModule)]


def images(side: int = 8, channels: int = 3, num: int = B) -> Tensor:
    return torch.randn(num, channels, side, side, generator=torch.Generator().manual_seed(0))


def features(built: list[Unit], x: Tensor) -> Tensor:
    """What goes forward from the last layer, nothing dropped."""
    skip = None
    for unit in built:
        _, x, skip = unit(x, skip, None)
    return x


def copy(layer: LayerModule, conv: nn.Module, norm: nn.Module) -> None:
    conv.load_state_dict(layer.weight.state_dict())
    norm.load_state_dict(layer.norm.state_dict())


def unusual_norms(built: list[Unit]) -> None:
    """Scales, shifts and running statistics that a mistake in their order would show."""
    generator = torch.Generator().manual_seed(3)
    for module in (module for unit in built for module in unit.modules()):
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            for values in (module.weight.data, module.running_var, module.running_mean):
                assert values is not None
                values.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.normal_(generator=generator)


def plain_stem(layer: LayerModule) -> nn.Sequential:
    stem = nn.Sequential(
        nn.Conv2d(3, layer.weight.weight.shape[0], 3, padding=1, bias=False),
        nn.BatchNorm2d(layer.weight.weight.shape[0]),
        nn.LeakyReLU(0.01),
    )
    copy(layer, stem[0], stem[1])
    return stem


def plain_residual(built: list[Unit], network: Plan) -> nn.Sequential:
    """Torchvision's blocks with the same weights."""
    modules = layers(built)
    plain = nn.Sequential(plain_stem(modules.pop(0)))
    for block in network.blocks[1:]:
        downsample = None
        if block.shortcut == "projection":
            downsample = nn.Sequential(
                nn.Conv2d(block.in_channels, block.out_channels, 1, block.stride, bias=False),
                nn.BatchNorm2d(block.out_channels),
            )
        kind = resnet.BasicBlock if len(block.layers) == 2 else resnet.Bottleneck
        width = block.layers[0].out_channels
        other = kind(block.in_channels, width, block.stride, downsample)
        for number in range(1, len(block.layers) + 1):
            layer = modules.pop(0)
            copy(layer, getattr(other, f"conv{number}"), getattr(other, f"bn{number}"))
            if layer.shortcut is not None:
                assert downsample is not None
                downsample.load_state_dict(layer.shortcut.state_dict())
        plain.append(other)
    return plain


def plain_vgg(built: list[Unit], network: Plan) -> nn.Sequential:
    """Convolution, normalisation, leaky ReLU, and max-pools where the sides say so."""
    plain, side = nn.Sequential(), network.side
    for block, layer in zip(network.blocks, layers(built), strict=True):
        if block.layers[0].side < side and side > 1:
            plain.append(nn.MaxPool2d(2))
            side = side // 2
        spec = block.layers[0]
        if spec.kind == "conv":
            modules = [
                nn.Conv2d(spec.in_channels, spec.out_channels, 3, padding=1),
                nn.BatchNorm2d(spec.out_channels),
            ]
        else:
            modules = [
                nn.Linear(spec.in_channels, spec.out_channels),
                nn.BatchNorm1d(spec.out_channels),
            ]
            plain.append(nn.Flatten())
        copy(layer, *modules)
        plain.extend([*modules, nn.LeakyReLU(0.01)])
    return plain


@pytest.mark.parametrize("granularity", ["conv", "block", "stage"])
@pytest.mark.parametrize(
    ("family", "name", "side", "make_plain"),
    [
        ("resnet18", "2-2-1", 8, plain_residual),
        ("resnet18", "1-2-1", 9, plain_residual),
        ("resnet50", "2-2-1", 8, plain_residual),
        ("resnet50", "1-1-2-1", 9, plain_residual),
        ("vgg", "2-1-1-1-1", 9, plain_vgg),
        ("vgg8b", "2-2-1-1", 16, plain_vgg),
    ],
)
def test_a_network_computes_what_plain_torch_computes(family, name, side, make_plain, granularity):
    config = NetworkConfig(width=1 / 32, granularity=granularity, loss="pred")
    network = plan(name, family, config, side=side)
    built = units(network)[:-1]  # the output layer, which changes nothing, left out
    unusual_norms(built)
    plain = leaky(make_plain(built, network))
    modules = nn.ModuleList(built)
    for training in (True, False):  # batch statistics, then the running ones that they moved
        modules.train(training)
        plain.train(training)
        torch.testing.assert_close(
            features(built, images(side)), plain(images(side)), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize(("family", "side"), [("resnet18", 8), ("vgg", 16), ("vgg", 8)])
def test_the_output_layer_is_a_linear_classifier_of_averaged_or_flattened_features(family, side):
    config = NetworkConfig(width=1 / 16, num_hidden=0)
    network = plan("1-1-1", family, config, side=side)
    built = units(network)
    output = built[-1].head
    assert isinstance(output, OutputLayer)
    nn.init.normal_(output.classifier.weight, generator=torch.Generator().manual_seed(0))
    x = features(built, images(side))
    assert x.ndim == 4
    pooled = x.mean(dim=(2, 3)) if family == "resnet18" else nn.MaxPool2d(2)(x).flatten(1)
    torch.testing.assert_close(output.logits(x), output.classifier(pooled))
    y_B = torch.arange(B) % 4
    loss = nn.functional.cross_entropy(output.classifier(pooled), y_B)
    torch.testing.assert_close(output.loss(x, y_B), loss)


def test_the_output_weight_multiplies_the_output_layers_loss():
    whole, tenth = (
        OutputLayer(Output(4, 3, average=True, weight=weight), zero=False, seed=1)
        for weight in (1.0, 0.1)
    )
    x, y_B = torch.randn(B, 4, 2, 2, generator=torch.Generator().manual_seed(0)), torch.arange(B)
    torch.testing.assert_close(0.1 * whole.loss(x, y_B % 3), tenth.loss(x, y_B % 3))


def layer_module(dropout: float, *, vector: bool = False) -> LayerModule:
    kind = "linear" if vector else "conv"
    layer = Layer(kind, 3, 64, 1 if vector else 8, kernel=1 if vector else 3, dropout=dropout)
    return LayerModule(Block(1, 1, (layer,)), 0, Draw(1, Position(1, 1, 1)))


@pytest.mark.parametrize("vector", [False, True])
@pytest.mark.parametrize("dropout", [0.1, 0.5])
def test_dropout_drops_whole_channels_and_scales_the_others_up(dropout, vector):
    layer = layer_module(dropout, vector=vector)
    h = torch.rand(50, 64, *(() if vector else (8, 8))) + 1
    dropped = layer.drop(h, torch.Generator().manual_seed(1))
    kept = (dropped != 0).reshape(50, 64, -1)
    assert torch.equal(kept.any(dim=2), kept.all(dim=2))
    keep_BC = kept.all(dim=2)
    scaled = h[keep_BC] / (1 - dropout)
    torch.testing.assert_close(dropped[keep_BC], scaled)
    # 3200 channels: within five standard deviations
    share, spread = keep_BC.float().mean().item(), math.sqrt(dropout * (1 - dropout) / 3200)
    assert abs(share - (1 - dropout)) < 5 * spread
    # by sample and by channel, not one choice for all
    assert 0 < keep_BC[:, 0].sum() < 50
    assert 0 < keep_BC[0].sum() < 64


def test_without_dropout_nothing_is_drawn():
    generator = torch.Generator().manual_seed(1)
    before, h = generator.get_state(), torch.rand(2, 64, 8, 8)
    assert layer_module(0.0).drop(h, generator) is h
    assert torch.equal(generator.get_state(), before)


def test_a_local_head_reads_features_before_dropout_and_the_output_layer_after():
    config = NetworkConfig(width=1 / 4, dropout=0.5)
    network = plan("1-1-1", network=config)
    generators = {
        position: torch.Generator().manual_seed(1) for position in positions(units(network))
    }
    stem = units(network)[0]
    h, x, _ = stem(images(), None, generators)
    whole, _, _ = units(network)[0](images(), None, None)
    assert torch.equal(h, whole)
    assert isinstance(stem.head, LocalHead)
    dropped_BC = (x == 0).all(dim=(2, 3))
    assert 0.3 < dropped_BC.float().mean() < 0.7
    torch.testing.assert_close(x[~dropped_BC], 2 * h[~dropped_BC])
    # one unit with an output layer: it reads what a next unit would
    (whole_network,) = units(plan("1-1-1", network=config, mode="global"))
    h, x, _ = whole_network(images(), None, generators)
    assert h is x
    assert (x == 0).all(dim=(2, 3)).any()


def test_dropout_acts_inside_a_unit_of_several_layers():
    config = NetworkConfig(width=1 / 4, dropout=0.5, granularity="block")
    block = units(plan("1-1-1", network=config))[1]
    generators = {position: torch.Generator().manual_seed(1) for position in positions([block])}
    x = images(channels=16)
    h, _, _ = block(x, None, generators)
    whole, _, _ = block(x, None, None)
    assert not torch.allclose(h, whole)


def test_local_classifiers_start_at_zero_so_that_every_class_is_as_likely():
    for family in ("resnet18", "resnet50", "vgg", "vgg8b"):
        for unit in units(plan("1-1-1", family)):
            assert torch.equal(
                unit.head.classifier.weight, torch.zeros_like(unit.head.classifier.weight)
            )
            assert unit.head.classifier.bias.abs().max() > 0


def test_a_globally_trained_output_layer_does_not_start_at_zero():
    # all gradients below would be zero in the first step
    (unit,) = units(plan("1-1-1", mode="global"))
    assert unit.head.classifier.weight.abs().min() > 0


def draws(unit: Unit) -> dict[str, nn.Conv2d | nn.Linear]:
    return {
        name: module
        for name, module in unit.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    }


def test_weights_are_uniform_within_one_over_the_root_of_the_fan_in():
    config = NetworkConfig(width=1 / 2, pred_conv=True)
    checked = 0
    for family in ("resnet50", "vgg"):
        for unit in units(plan("1-1-1", family, config)):
            for module in draws(unit).values():
                fan_in = math.prod(module.weight.shape[1:])
                for values in (module.weight, module.bias):
                    if values is None or values.numel() < 1000:
                        continue
                    if values is unit.head.classifier.weight:
                        continue
                    bound = 1 / math.sqrt(fan_in)
                    assert values.abs().max() <= bound
                    assert values.abs().max() > 0.99 * bound
                    # a uniform distribution's mean and variance, within 5 standard errors
                    error = bound / math.sqrt(values.numel())
                    assert abs(values.mean()) < 5 * error / math.sqrt(3)
                    assert abs(values.square().mean() - bound**2 / 3) < 5 * bound * error * 0.3
                    checked += 1
    assert checked > 20


@pytest.mark.parametrize(
    "make",
    [lambda: nn.Conv2d(16, 64, 3), lambda: nn.Conv2d(64, 256, 1), lambda: nn.Linear(100, 300)],
)
def test_torchs_own_initialisation_has_the_same_bound(make: Callable[[], nn.Conv2d | nn.Linear]):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = make()
    bound = 1 / math.sqrt(math.prod(module.weight.shape[1:]))
    assert module.bias is not None
    for values in (module.weight, module.bias):
        assert 0.95 * bound < values.abs().max() <= bound * (1 + 1e-6)
    assert math.isclose(module.weight.std().item(), bound / math.sqrt(3), rel_tol=0.05)


def test_a_weight_is_drawn_by_position_and_role():
    def drawn(position: Position, role: str, seed: int) -> Tensor:
        spec = Head(LinearPlan(6, 4, 4, conv=True), PredSimPlan(6, 4, 4, kernel=3))
        module = getattr(LocalHead(spec, position, seed), role)
        assert isinstance(module, nn.Conv2d)
        return module.weight

    usual = drawn(Position(1, 2, 1), "similarity", 1)
    assert torch.equal(usual, drawn(Position(1, 2, 1), "similarity", 1))
    for position, role, seed in (
        (Position(2, 2, 1), "similarity", 1),
        (Position(1, 1, 1), "similarity", 1),
        (Position(1, 2, 2), "similarity", 1),
        (Position(1, 2, 1), "pred_conv", 1),
        (Position(1, 2, 1), "similarity", 2),
    ):
        assert not torch.equal(usual, drawn(position, role, seed))


def test_every_drawn_weight_of_a_network_is_another():
    seen: set[tuple[float, ...]] = set()
    num_drawn = 0
    for family in ("resnet50", "vgg"):
        seen.clear()
        num_drawn = 0
        for unit in units(plan("2-2-2", family, NETWORK.model_copy(update={"pred_conv": True}))):
            for module in draws(unit).values():
                if module is not unit.head.classifier:
                    seen.add(tuple((module.weight.flatten()[:4] / module.weight.max()).tolist()))
                    num_drawn += 1
        assert len(seen) == num_drawn >= 20


def test_normalisation_starts_as_the_identity():
    for unit in units(plan("1-1-1")):
        for module in unit.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert (module.weight == 1).all()
                assert (module.bias == 0).all()
                assert (module.momentum, module.eps) == (0.1, 1e-5)


@pytest.mark.parametrize("num_channels", [3, 16])
@pytest.mark.parametrize("side", [7, 8])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_projection_is_the_strided_convolution(num_channels, side, stride):
    conv = Projection(num_channels, 5, 1, stride).double()
    x = images(side, num_channels).double().requires_grad_()
    plain, projected = F.conv2d(x, conv.weight, conv.bias, stride), conv(x)
    torch.testing.assert_close(projected, plain, rtol=0, atol=1e-12)
    parameters = (x, *conv.parameters())
    torch.testing.assert_close(
        torch.autograd.grad(projected.square().sum(), parameters),
        torch.autograd.grad(plain.square().sum(), parameters),
        rtol=0,
        atol=1e-11,
    )


@pytest.mark.long
def test_a_projection_of_few_channels_leaves_the_memory_of_others_alone():
    """In a process of its own: with oneDNN's strided gradient it would crash."""
    code = """
import torch
from dsaccel.nn.layers import Draw, LayerModule, Position
from dsaccel.spec.blocks import Block, Layer

torch.set_num_threads(1)
layer = Layer("conv", 4, 8, 32, kernel=3, stride=2)
block = Block(2, 1, (layer,), shortcut="projection")
projection = LayerModule(block, 0, Draw(1, Position(2, 1, 1))).shortcut
x = torch.ones(8, 4, 64, 64).contiguous(memory_format=torch.channels_last).requires_grad_()
for _ in range(8):
    projection[0](x).sum().backward()
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
