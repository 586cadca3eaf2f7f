"""Families against golden numbers and against torchvision's networks of the same shape."""

import math
from typing import Any

import pytest
import torch
from helpers import leaky
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import resnet, vgg

from dsaccel.config.study import NetworkConfig, RunConfig, TrainingConfig
from dsaccel.errors import ConfigError
from dsaccel.families import build_plan, find_family
from dsaccel.nn.units import build_units
from dsaccel.nn.weights import named_tensors
from dsaccel.parts import BUILTIN
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.plan import Plan

NETWORK = NetworkConfig()


def plan(family: str, name: str, network: NetworkConfig = NETWORK, **kwargs: Any) -> Plan:
    kwargs = {"channels": 3, "side": 32, "num_classes": 10, **kwargs}
    return build_plan(family, Hierarchy.parse(name), network, **kwargs)


def classifiers(network: Plan) -> list[Any]:
    return [head.classifier for segment in network.segments for head in segment.heads]


# family, hierarchy, parameters in millions (10 classes, 3x32x32, without heads), local losses
GOLDEN = [
    ("resnet18", "2-2-2-2", 11.17, 17),
    ("resnet18", "1-1-1-1", 4.90, 9),
    ("resnet18", "2-2-1-1", 5.27, 13),
    ("resnet18", "2-1-1-1", 4.98, 11),
    ("resnet18", "1-1-2-2", 10.80, 13),
    ("resnet18", "1-1-2-4", 20.25, 17),
    ("resnet50", "3-4-6-3", 23.52, 49),
    ("resnet50", "2-3-6-3", 23.17, 43),
    ("resnet50", "1-2-6-3", 22.82, 37),
    ("resnet50", "2-3-7-4", 28.75, 49),
    ("resnet50", "1-2-8-5", 33.98, 49),
]


@pytest.mark.parametrize(("family", "name", "millions", "num_losses"), GOLDEN)
def test_parameters_and_local_losses_are_the_golden_ones(family, name, millions, num_losses):
    network = plan(family, name)
    assert round(network.num_parameters / 1e6, 2) == millions
    assert network.num_local_losses == num_losses


def test_resnet18_has_11_173_962_parameters():
    assert plan("resnet18", "2-2-2-2").num_parameters == 11_173_962


def test_vgg8b_has_seven_local_losses():
    assert plan("vgg8b", "2-2-1-1").num_local_losses == 7


def test_a_3x3_similarity_convolution_takes_resnet50_from_23_5_to_229_million():
    network = plan("resnet50", "3-4-6-3")
    assert round(network.num_parameters_training / 1e6) == 229
    # 9 C^2 for the branch; 10 classes of at most 4096 pooled features
    heads = classifiers(network)
    expected = sum(9 * head.channels**2 + 10 * (head.num_features + 1) for head in heads)
    assert network.num_parameters_training - network.num_parameters == expected
    small = plan("resnet50", "3-4-6-3", NetworkConfig(sim_kernel=1))
    saved = sum(8 * head.channels**2 for head in heads)
    assert network.num_parameters_training - small.num_parameters_training == saved


def torchvision_resnet(block: Any, hierarchy: tuple[int, ...], **groups: Any) -> nn.Module:
    """Torchvision's, with the stem for small images."""
    network = resnet.ResNet(block, list(hierarchy), num_classes=10, **groups)
    network.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    network.maxpool = nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
    return network


def torchvision_vgg(config: list[int | str], num_features: int) -> nn.Module:
    """Torchvision's convolutions, with one normalised hidden layer of 1024."""
    hidden = [nn.Linear(num_features, 1024), nn.BatchNorm1d(1024), nn.LeakyReLU()]
    layers = vgg.make_layers(config, batch_norm=True)  # pyright: ignore[reportArgumentType]
    return nn.Sequential(layers, nn.Flatten(), *hidden, nn.Linear(1024, 10))


M = "M"
OTHERS = {
    ("resnet18", "1-1-2-4"): lambda: torchvision_resnet(resnet.BasicBlock, (1, 1, 2, 4)),
    ("resnet34", "3-4-6-3"): lambda: torchvision_resnet(resnet.BasicBlock, (3, 4, 6, 3)),
    ("resnet50", "1-2-8-5"): lambda: torchvision_resnet(resnet.Bottleneck, (1, 2, 8, 5)),
    ("resnet101", "3-4-23-3"): lambda: torchvision_resnet(resnet.Bottleneck, (3, 4, 23, 3)),
    ("resnext50", "3-4-6-3"): lambda: torchvision_resnet(
        resnet.Bottleneck, (3, 4, 6, 3), groups=32, width_per_group=4
    ),
    ("vgg", "1-1-1-1-1"): lambda: torchvision_vgg(
        [64, M, 128, M, 256, M, 512, M, 512, M], num_features=512
    ),
    ("vgg", "2-2-3-3-3"): lambda: torchvision_vgg(
        [64, 64, M, 128, 128, M, 256, 256, 256, M, 512, 512, 512, M, 512, 512, 512, M],
        num_features=512,
    ),
    # research: the reference's VGG8b is 128, 256, M, 256, 512, M, 512, M, 512, M
    ("vgg8b", "2-2-1-1"): lambda: torchvision_vgg(
        [128, 256, M, 256, 512, M, 512, M, 512, M], num_features=512 * 2 * 2
    ),
}


@pytest.mark.parametrize(("family", "name"), OTHERS)
def test_parameters_and_flops_are_those_of_torchvisions_network(family, name):
    with torch.device("meta"):
        other = OTHERS[family, name]().eval()
        x = torch.zeros(1, 3, 32, 32)
    network = plan(family, name)
    assert network.num_parameters == sum(p.numel() for p in other.parameters())
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        other(x)
    assert network.flops == counter.get_total_flops()


IMAGENET = NetworkConfig(stem="imagenet", hidden_widths=(4096, 4096), granularity="none")


@pytest.mark.parametrize(
    ("family", "name", "make", "parameters", "norms"),
    [
        ("resnet18", "2-2-2-2", resnet.resnet18, 11_689_512, 0),
        ("resnet50", "3-4-6-3", resnet.resnet50, 25_557_032, 0),
        # whose fully connected units have no normalisation
        ("vgg", "2-2-3-3-3", vgg.vgg16_bn, 138_365_992, 4 * 4096),
    ],
)
def test_networks_for_imagenet_are_torchvisions(family, name, make, parameters, norms):
    network = plan(family, name, IMAGENET, side=224, num_classes=1000)
    assert network.num_parameters - norms == parameters
    with torch.device("meta"), FlopCounterMode(display=False) as counter, torch.no_grad():
        make().eval()(torch.zeros(1, 3, 224, 224))
    assert network.flops == counter.get_total_flops()


def test_the_imagenet_stem_computes_what_torchvisions_does():
    network = NetworkConfig(stem="imagenet")
    run = RunConfig(family="resnet18", hierarchy="1-1-2-1", network=network)
    planned = plan("resnet18", "1-1-2-1", network, side=33)
    units = [unit for segment in planned.segments for unit in build_units(segment, seed=1)]
    tensors = {n: t for n, t in named_tensors(units, run).items() if not n.startswith("heads.")}
    other = resnet.ResNet(resnet.BasicBlock, [1, 1, 2, 1], num_classes=10)
    other.load_state_dict(tensors)
    x, skip = torch.randn(2, 3, 33, 33, generator=torch.Generator().manual_seed(0)), None
    h, expected = x, leaky(other.eval())
    with torch.no_grad():
        nn.init.normal_(other.fc.weight)
        units[-1].head.classifier.weight.copy_(other.fc.weight)
        for unit in units:
            _, h, skip = unit.eval()(h, skip, None)
        torch.testing.assert_close(units[-1].head.logits(h), expected(x))


@pytest.mark.parametrize(
    ("family", "downsampling", "sides"),
    [
        ("resnet18", "family", [29, 29, 15, 8]),
        ("resnet18", "stride", [29, 29, 15, 8]),
        ("resnet18", "max-pool", [29, 29, 14, 7]),
        ("resnet50", "average-pool", [29, 29, 14, 7]),
        ("vgg", "family", [29, 14, 7]),
        ("vgg", "average-pool", [29, 14, 7]),
        ("vgg", "stride", [29, 15, 8]),
    ],
)
def test_stages_halve_the_side_by_stride_or_pool(family, downsampling, sides):
    network = NetworkConfig(downsampling=downsampling, num_hidden=0)
    planned = plan(family, "1-1-1", network, side=29)
    assert [block.layers[-1].side for block in planned.blocks] == sides
    kinds = {"max-pool": "max", "average-pool": "average", "stride": None}
    own = "max" if family == "vgg" else None
    pool = kinds.get(downsampling, own)
    assert [b.pool for b in planned.blocks[-2:]] == [pool, pool]
    assert [b.stride for b in planned.blocks[-2:]] == ([1, 1] if pool else [2, 2])
    standard = plan(family, "1-1-1", NetworkConfig(num_hidden=0), side=29)
    if family != "vgg":  # whose output layer reads the flattened maps
        assert planned.num_parameters == standard.num_parameters


def test_vgg8b_pools_each_map_to_2048_features_as_the_reference_does():
    network = plan("vgg8b", "2-2-1-1", NetworkConfig(decoder_size=2048))
    heads = classifiers(network)
    kernels = [(8, 8), (16, 8), (8, 4), (8, 8), (4, 4), (2, 2)]
    assert [head.pool for head in heads[:-1]] == kernels
    assert {head.num_features for head in heads[:-1]} == {2048}
    # the fully connected unit is not pooled
    assert (heads[-1].side, heads[-1].num_features) == (None, 1024)


@pytest.mark.parametrize("family", BUILTIN["family"])
def test_the_decoder_size_follows_the_width_so_that_pooling_does_not_change(family):
    name = "-".join("1" * find_family(family).standard.num_stages)

    def kernels(width: float) -> list[tuple[int, int]]:
        network = plan(family, name, NetworkConfig(width=width))
        return [head.pool for head in classifiers(network)]

    assert kernels(1) == kernels(1 / 4) == kernels(1 / 16) == kernels(2)


def test_the_width_multiplies_the_channels_of_every_convolution_and_nothing_else():
    wide, narrow = plan("vgg", "1-2-1"), plan("vgg", "1-2-1", NetworkConfig(width=1 / 8))
    for a, b in zip(wide.blocks, narrow.blocks, strict=True):
        assert b.out_channels == (a.out_channels // 8 if a.stage <= 3 else 1024)
    tiny = plan("resnet50", "1-1-1", NetworkConfig(width=1 / 1000))
    assert [block.out_channels for block in tiny.blocks] == [1, 4, 4, 4]


def test_a_blocks_width_depends_on_its_stage_and_index_only():
    short, long = plan("vgg8b", "1-1-1"), plan("vgg8b", "4-3-1")
    widths = {(block.stage, block.index): block.out_channels for block in long.blocks}
    assert [widths[1, i] for i in (1, 2, 3, 4)] == [128, 256, 256, 256]
    assert [widths[2, i] for i in (1, 2, 3)] == [256, 512, 512]
    for block in short.blocks:
        assert widths[block.stage, block.index] == block.out_channels


def test_each_stage_halves_the_side_and_one_pixel_is_left_alone():
    sides = {
        ("resnet18", 32): [32, 32, 16, 8, 4],
        ("resnet50", 9): [9, 9, 5, 3, 2],  # a strided convolution rounds up
        ("vgg", 32): [32, 16, 8, 4, 2, 1],
        ("vgg", 28): [28, 14, 7, 3, 1, 1],  # a max-pool rounds down
        ("vgg8b", 8): [8, 4, 2, 1, 1],
    }
    for (family, side), expected in sides.items():
        stages = find_family(family).standard.num_stages
        network = plan(family, "-".join("1" * stages), side=side)
        assert [block.layers[-1].side for block in network.blocks] == expected


def test_a_max_pool_belongs_to_the_block_that_it_feeds():
    network = plan("vgg", "2-1-2", num_classes=10)
    pools = {(block.stage, block.index): block.pool for block in network.blocks}
    assert [position for position, pool in pools.items() if pool] == [(2, 1), (3, 1), (4, 1)]
    assert network.output
    assert not network.output.pool  # the hidden unit (stage 4) has it
    bare = plan("vgg", "2-1-2", NetworkConfig(num_hidden=0))
    assert bare.output
    assert bare.output.pool
    assert bare.output.num_features == 256 * 4 * 4


def test_the_first_block_of_a_stage_projects_and_the_others_add_their_input():
    network = plan("resnet18", "2-2-2")
    assert [block.shortcut for block in network.blocks] == [
        *("none", "identity", "identity"),
        *("projection", "identity") * 2,
    ]
    # a bottleneck is four times wider at its end, so that the first one projects too
    network = plan("resnet50", "2-1-1")
    assert [block.shortcut for block in network.blocks] == [
        *("none", "projection", "identity", "projection", "projection")
    ]
    # one channel everywhere: a stride alone asks for a projection
    network = plan("resnet18", "1-1-1", NetworkConfig(width=1 / 1000))
    assert [block.shortcut for block in network.blocks] == [
        *("none", "identity", "projection", "projection")
    ]


def test_a_bottleneck_strides_on_its_3x3_convolution():
    network = plan("resnet50", "1-1-1")
    block = network.blocks[2]
    assert [(layer.kernel, layer.stride, layer.side) for layer in block.layers] == [
        (1, 1, 32),
        (3, 2, 16),
        (1, 1, 16),
    ]
    assert block.stride == 2


def test_the_output_weight_reaches_the_output_layer_alone():
    training = TrainingConfig(output_weight=0.01)
    network, usual = plan("resnet18", "1-1-1", training=training), plan("resnet18", "1-1-1")
    assert network.output
    assert math.isclose(network.output.weight, 0.01)
    assert network.segments[:-1] == usual.segments[:-1]


@pytest.mark.parametrize(
    ("family", "name", "granularity", "message"),
    [
        ("resnet19", "1-1-1-1", "conv", "family must be one of resnet18, .*, but got 'resnet19'"),
        ("resnet18", "1-1", "conv", "resnet18 must have 3 to 4 stages, but got 1-1; .* 2-2-2-2"),
        ("resnet50", "1-1-1-1-1", "conv", "must have 3 to 4 stages, but got 1-1-1-1-1"),
        ("vgg", "1-1-1-1-1-1", "conv", "must have 3 to 5 stages, but got 1-1-1-1-1-1"),
        ("resnet18", "1-0-1", "conv", "at least 1 block, but got 1-0-1"),
        (
            "resnet18",
            "1-1-1",
            ("conv", "block"),
            "each of the 3 stages, or 4 with the stem's first, but got 2: conv, block",
        ),
    ],
)
def test_what_no_family_can_build_is_refused(family, name, granularity, message):
    hierarchy = Hierarchy(tuple(int(part) for part in name.split("-")))
    network = NetworkConfig(granularity=granularity)
    with pytest.raises(ConfigError, match=message) as error:
        build_plan(family, hierarchy, network, channels=3, side=32, num_classes=10)
    assert error.value.exit_code == 2


@pytest.mark.parametrize("text", ["1-x-2", "", "1--2", "1-0-2", "-1-2", "1.5-1", "²-1"])
def test_a_hierarchy_is_whole_numbers_joined_by_a_dash(text):
    with pytest.raises(ConfigError, match="whole numbers of at least 1") as error:
        Hierarchy.parse(text)
    assert repr(text) in str(error.value)


def test_a_hierarchy_reads_back_as_it_is_written():
    for hierarchy in map(Hierarchy, ((1, 1, 2, 4), (3, 4, 23, 3), (1, 1, 1))):
        assert Hierarchy.parse(str(hierarchy)) == hierarchy


def test_a_first_loss_beyond_the_last_unit_is_refused():
    # otherwise a "local" network would silently be one globally trained segment
    with pytest.raises(ConfigError, match="first_loss"):
        plan("resnet18", "1-1-1", NetworkConfig(first_loss=8))
