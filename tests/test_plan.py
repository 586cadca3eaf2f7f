"""A plan counts what torch builds: sides, parameters and FLOPs are held against real modules."""

import math
from itertools import product

import pytest
import torch
from helpers import NETWORK, plan
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from dsaccel.config.study import NetworkConfig
from dsaccel.families import find_family
from dsaccel.heads.linear import pool_kernel
from dsaccel.nn.units import LocalHead, Unit, build_units
from dsaccel.spec.beginnings import beginnings
from dsaccel.spec.plan import Plan
from dsaccel.spec.unit_names import head_names

SMALL = NetworkConfig(width=1 / 32)
HIERARCHIES = {
    "resnet18": ("1-2-1", "1-1-2-1"),
    "resnet34": ("1-1-2",),
    "resnet50": ("1-2-1", "1-1-2-1"),
    "resnet101": ("1-1-2",),
    "vgg": ("1-2-1", "1-1-2-1-1"),
    "vgg8b": ("1-2-1", "2-2-1-1"),
}
NETWORKS = [(family, name) for family, names in HIERARCHIES.items() for name in names]


def units(network: Plan) -> list[Unit]:
    return [unit for segment in network.segments for unit in build_units(segment, seed=1)]


def modules(network: Plan) -> nn.ModuleList:
    return nn.ModuleList(units(network)).eval()


def forward(built: nn.ModuleList, x: Tensor, *, heads: bool) -> Tensor:
    """Run all units; the features or logits of the last. `heads`: the local heads work too."""
    skip, out = None, x
    for unit in built:
        assert isinstance(unit, Unit)
        h, x, skip = unit(x, skip, None)
        if isinstance(unit.head, LocalHead):
            if heads:
                unit.head.logits(h)
                if hasattr(unit.head, "similarity"):
                    unit.head.similarity(h)
        else:
            out = unit.head.logits(h)
    return out


def sides_of_the_real_maps(network: Plan, channels: int) -> list[int]:
    built, seen = modules(network), []
    for unit in built:
        assert isinstance(unit, Unit)
        for layer in unit.layers:
            layer.register_forward_hook(
                lambda _module, _inputs, out: seen.append(
                    out[0].shape[2] if out[0].ndim == 4 else 1
                )
            )
    with torch.no_grad():
        x = torch.zeros(1, channels, network.side, network.side)
        logits = forward(built, x, heads=True)
    assert logits.shape == (1, 4)
    return seen


def num_trained(built: nn.Module) -> int:
    return sum(parameter.numel() for parameter in built.parameters())


@pytest.mark.parametrize(("side", "channels"), [(8, 1), (8, 3), (9, 3), (28, 1), (32, 3), (64, 3)])
def test_planned_sides_are_those_of_the_real_feature_maps(side, channels):
    for family, name in NETWORKS:
        for change in ({}, {"downsampling": "max-pool"}, {"stem": "imagenet", "width": 1 / 32}):
            config = SMALL.model_copy(update=change)
            network = plan(name, family, config, side=side, channels=channels)
            planned = [layer.side for segment in network.segments for layer in segment.layers]
            assert planned == sides_of_the_real_maps(network, channels), (family, name)


@pytest.mark.parametrize("family", ["resnet18", "resnet50", "vgg", "vgg8b"])
def test_planned_sides_are_those_of_the_real_feature_maps_at_224(family):
    standard = find_family(family).standard
    network = plan(
        "-".join("1" * standard.num_stages), family, NetworkConfig(width=1 / 64), side=224
    )
    planned = [layer.side for segment in network.segments for layer in segment.layers]
    assert planned == sides_of_the_real_maps(network, 3)
    assert network.blocks[-1].layers[-1].side == {"vgg": 1, "vgg8b": 1}.get(family, 28)


SETTINGS = {
    "predsim": {},
    "pred": {"loss": "pred"},
    "sim": {"loss": "sim"},
    "mse": {"loss": "mse"},
    "sim_kernel": {"sim_kernel": 1},
    "pred_conv": {"pred_conv": True},
    "pred_conv_sim": {"pred_conv": True, "loss": "sim"},
    "pred_conv_pred": {"pred_conv": True, "loss": "pred"},
    "block": {"granularity": "block"},
    "stage": {"granularity": "stage"},
    "first_loss": {"first_loss": 4},
    "no_hidden": {"num_hidden": 0},
    "two_hidden": {"num_hidden": 2},
    "hidden_widths": {"hidden_widths": (24, 16)},
    "imagenet": {"stem": "imagenet"},
    "by_pool": {"downsampling": "average-pool"},
    "by_stride": {"downsampling": "stride", "head": "tail"},
    "narrow_decoder": {"decoder_size": 300},
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_planned_parameters_are_those_of_the_built_modules(setting):
    network_config = SMALL.model_copy(update=SETTINGS[setting])
    for family, name in NETWORKS:
        network = plan(name, family, network_config, side=9)
        built = modules(network)
        heads = [unit.head for unit in built if isinstance(unit.head, LocalHead)]
        in_heads = sum(num_trained(head) for head in heads)
        assert network.num_local_losses == len(heads) > 0
        assert network.num_parameters_training == num_trained(built), (family, name)
        assert network.num_parameters == num_trained(built) - in_heads, (family, name)


def test_the_global_network_has_the_same_weights_without_heads():
    for family, name in NETWORKS:
        local, whole = plan(name, family, SMALL), plan(name, family, SMALL, mode="global")
        assert whole.num_parameters == whole.num_parameters_training == local.num_parameters
        assert whole.num_parameters == num_trained(modules(whole))
        assert (whole.flops, whole.shallow_scale) == (local.flops, local.shallow_scale)


@pytest.mark.parametrize(
    ("side", "update", "heads"),
    [
        (8, {"loss": "sim", "num_hidden": 0}, True),
        (15, {"pred_conv": True}, True),
        (9, {}, False),
        (32, {"sim_kernel": 1}, True),
    ],
)
def test_planned_flops_are_those_that_torch_counts(side, update, heads):
    network_config = SMALL.model_copy(update=update)
    for family, name in NETWORKS:
        network = plan(name, family, network_config, side=side)
        x = torch.zeros(1, 3, side, side, device="meta")
        built = modules(network).to("meta")
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            forward(built, x, heads=heads)
        with_heads = sum(segment.flops for segment in network.segments)
        assert (with_heads if heads else network.flops) == counter.get_total_flops()


@pytest.mark.parametrize("granularity", ["conv", "block", "stage"])
@pytest.mark.parametrize(("family", "name"), [("resnet18", "1-2-1"), ("vgg", "1-2-1")])
def test_each_beginning_of_a_network_is_counted_as_the_modules_below_its_head(
    family, name, granularity
):
    changes = {"granularity": granularity, "output": "head"}
    network = plan(name, family, SMALL.model_copy(update=changes))
    built = units(network)
    found = beginnings(network)
    assert [each.head for each in found] == list(head_names(network))
    for number, (each, unit) in enumerate(zip(found, built, strict=True), 1):
        assert isinstance(unit.head, LocalHead)
        below = sum(num_trained(layers) for layers in (u.layers for u in built[:number]))
        assert each.num_parameters == below + unit.head.spec.classifier.num_parameters
    # read at its last head it is the whole network
    assert (found[-1].num_parameters, found[-1].flops) == (network.num_parameters, network.flops)
    assert [each.flops for each in found] == sorted(each.flops for each in found)


def test_shallow_scale_is_the_mean_side_over_the_first_convolutions_of_the_family():
    for (family, name), side in product(NETWORKS, (9, 32)):
        network = plan(name, family, NETWORK, side=side)
        smallest = plan("-".join("1" * network.hierarchy.num_stages), family, NETWORK, side=side)
        num_convs = 0
        for block in smallest.blocks:
            for layer in block.layers:
                num_convs += layer.kind == "conv"
        total, seen = 0.0, 0
        for block in network.blocks:
            for layer in block.layers:
                if seen < num_convs:
                    total += layer.side / side
                    seen += 1
        assert seen == num_convs
        assert math.isclose(network.shallow_scale, total / num_convs)


def test_shallow_scale_is_smaller_where_the_downsamplings_come_earlier():
    # stem and 2, 2, 2, 2 convolutions at 32, 16, 8, 4: the first nine of each hierarchy
    expected = {
        "1-1-1-1": (3 * 32 + 2 * 16 + 2 * 8 + 2 * 4) / 9 / 32,
        "1-1-2-4": (3 * 32 + 2 * 16 + 4 * 8) / 9 / 32,
        "2-2-2-2": (5 * 32 + 4 * 16) / 9 / 32,
        "4-1-1-1": 1.0,
    }
    for name, scale in expected.items():
        assert math.isclose(plan(name, side=32).shallow_scale, scale)


def kernel_by_the_rule(channels: int, side: int, limit: int) -> tuple[int, int]:
    """The reference's rule, told in another way: (1, 1), (2, 1), (2, 2), (4, 2), (4, 4), ... up to
    the first that fits, or the first square one that spans the map.
    """
    ladder = [(2 ** ((i + 1) // 2), 2 ** (i // 2)) for i in range(40)]

    def num_features(kernel: tuple[int, int]) -> int:
        return channels * math.ceil(side / kernel[0]) * math.ceil(side / kernel[1])

    fits = next(i for i, k in enumerate(ladder) if num_features(k) <= limit or min(k) >= side)
    return ladder[fits]


def test_the_pooling_kernel_follows_the_references_rule():
    for side in [*range(1, 34), 56, 64, 112, 224]:
        for channels, limit in product([1, 3, 8, 64, 100, 512, 2048], [1, 64, 1024, 2048, 4096]):
            kernel = pool_kernel(channels, side, limit)
            assert kernel == kernel_by_the_rule(channels, side, limit), (channels, side, limit)


def test_pooled_features_fit_the_decoder_and_are_as_many_as_planned():
    for side, channels in product([1, 2, 3, 7, 8, 9, 15, 28], [4, 64]):
        for limit in (channels, 2 * channels, 500):
            kernel = pool_kernel(channels, side, limit)
            pooled = F.avg_pool2d(torch.ones(1, channels, side, side), kernel, ceil_mode=True)
            assert pooled.numel() <= max(limit, channels)
            assert pooled.shape[2:] == (-(-side // kernel[0]), -(-side // kernel[1]))
            # a window over the edge averages what is there
            assert torch.equal(pooled, torch.ones_like(pooled))


def test_a_network_is_cut_after_every_block_that_ends_in_a_local_loss():
    cuts = {
        "conv": [1, 1, 1, 1, 1, 0],
        "block": [1, 1, 1, 1, 1, 0],
        "stage": [2, 2, 1, 0],  # the stem belongs to the first stage's unit
    }
    for granularity, blocks in cuts.items():
        config = NETWORK.model_copy(update={"granularity": granularity})
        network = plan("1-2-1", network=config)
        assert [len(segment.blocks) for segment in network.segments] == blocks
        heads = {"conv": 1 + 2 * 4, "block": 1 + 4, "stage": 3}[granularity]
        assert network.num_local_losses == heads


def test_a_global_network_is_one_segment():
    for family, name in NETWORKS:
        (segment,) = plan(name, family, mode="global").segments
        assert segment.heads == ()
        assert segment.output is not None


def test_the_granularity_may_differ_by_stage():
    config = NETWORK.model_copy(update={"granularity": ("stage", "block", "conv")})
    network = plan("2-2-2", network=config)
    heads = [[layer.head is not None for layer in block.layers] for block in network.blocks]
    stem, deep = [[False]], [[True, True]] * 2
    assert heads == [*stem, [False, False], [False, True], [False, True], [False, True], *deep]
    assert [len(segment.blocks) for segment in network.segments] == [3, 1, 1, 1, 1, 0]


@pytest.mark.parametrize(
    ("words", "blocks", "num_units"),
    [
        # K2 and K4 of a network of three stages, the stem's word first
        ("none,none,stage,none", [4, 2], 2),
        ("stage,stage,none,none", [1, 2, 3], 3),
        ("none,stage,none", [4, 2], 2),
        ("stage,none,block", [3, 2, 1, 0], 3),
        ("stage,stage,none,block", [1, 2, 2, 1, 0], 4),
        ("none,block,none,conv", [2, 1, 2, 1, 0], 6),
        ("none,none,none,stage", [6, 0], 1),
    ],
)
def test_a_unit_of_none_is_joined_to_the_next(words, blocks, num_units):
    config = NETWORK.model_copy(update={"granularity": tuple(words.split(","))})
    network = plan("2-1-2", network=config)
    assert [len(segment.blocks) for segment in network.segments] == blocks
    assert network.num_units == num_units
    # only the last segment is trained by the output layer, and has no local head then
    assert [s.output is None for s in network.segments] == [True] * (len(blocks) - 1) + [False]
    assert not (network.segments[-1].heads and network.segments[-1].output)


def test_without_any_cut_a_network_is_that_of_back_propagation():
    for family, name in NETWORKS:
        config = NETWORK.model_copy(update={"granularity": "none"})
        local, whole = plan(name, family, config), plan(name, family, mode="global")
        assert local.segments == whole.segments
        assert local.fingerprint == whole.fingerprint
        assert (local.num_units, local.gradient_path) == (1, 1.0)
        words = ("none",) * (local.hierarchy.num_stages + 1)
        config = NETWORK.model_copy(update={"granularity": words})
        assert plan(name, family, config).segments == whole.segments


@pytest.mark.parametrize("exit", ["layer", "head", "ensemble"])
@pytest.mark.parametrize("granularity", ["conv", "block", ("none", "stage", "none")])
def test_without_cuts_a_network_has_the_same_parts_in_one_segment(granularity, exit):
    if exit == "head" and granularity not in ("conv", "block"):
        return
    changes = {"granularity": granularity, "output": exit}
    cut, whole = (
        plan("1-2-1", network=SMALL.model_copy(update={**changes, "cuts": cuts}))
        for cuts in (True, False)
    )
    assert len(cut.segments) > len(whole.segments) == whole.num_units == 1
    assert whole.segments[0].is_joined
    assert not any(segment.is_joined for segment in cut.segments)
    for name in ("blocks", "exit_heads", "head_stages", "num_parameters", "flops", "step_flops"):
        assert getattr(whole, name) == getattr(cut, name)
    assert whole.segments[0].num_read == sum(segment.num_read for segment in cut.segments)
    # from the last head down to the stem
    assert whole.gradient_path >= 1 > cut.gradient_path


def test_the_longest_gradient_path_counts_the_heads():
    def path(granularity, **settings):
        update = {"granularity": granularity, "loss": "pred", **settings}
        return plan("1-1-2", network=NETWORK.model_copy(update=update)).gradient_path

    # stem, four blocks of two convolutions, output layer
    assert path("conv") == 2 / 10
    assert path("block") == 3 / 10
    assert path("stage") == 5 / 10  # the last stage's two blocks
    assert path(("none", "none", "stage", "none")) == 6 / 10  # stem, two stages, a linear map
    assert path("block", head="conv") == 4 / 10
    assert path("conv", pred_conv=True) == 3 / 10
    assert path("conv", loss="predsim") == 2 / 10
    assert path("conv", head="mlp") == 6 / 10
    assert path("block", head="tail") == 7 / 10  # in stage 1: block, two later ones, linear
    assert path("block", head="tail", head_options={"depth": 1}) == 5 / 10


def test_fully_connected_units_keep_their_own_losses_at_every_granularity():
    for granularity, in_stages in (("conv", 5), ("block", 5), ("stage", 3)):
        config = NETWORK.model_copy(update={"granularity": granularity, "num_hidden": 2})
        network = plan("1-2-2", "vgg", config)
        assert network.num_local_losses == in_stages + 2
    # but for those that the output layer trains with the last stage
    config = NETWORK.model_copy(update={"granularity": ("conv", "conv", "none"), "num_hidden": 2})
    network = plan("1-2-2", "vgg", config)
    assert (network.num_local_losses, len(network.segments[-1].blocks)) == (3, 4)


@pytest.mark.parametrize("family", ["resnet18", "vgg"])
def test_units_below_the_first_loss_learn_from_it(family):
    every = plan("1-2-1", family)
    for first in range(1, every.num_local_losses + 1):
        config = NETWORK.model_copy(update={"first_loss": first})
        network = plan("1-2-1", family, config)
        assert network.num_local_losses == every.num_local_losses - first + 1
        layers = [layer.head for segment in network.segments for layer in segment.layers]
        assert [head is not None for head in layers] == [
            number >= first for number in range(1, every.num_local_losses + 1)
        ]


def test_two_networks_have_equal_blocks_until_their_hierarchies_differ():
    for family in HIERARCHIES:
        a, b = plan("1-2-1", family), plan("1-3-1", family)
        stem = family.startswith("resn")
        assert a.segments[: stem + 3] == b.segments[: stem + 3]
        assert a.segments[stem + 3] != b.segments[stem + 3]
