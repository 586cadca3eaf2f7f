"""Network families: from a hierarchy to a plan. The engine never learns which family it trains.

A block's width is a function of its family, stage and index alone: a width that depended on what
comes later would break the prefix law.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from dsaccel.config.own_settings import head_settings, learning_rate_of, network_of
from dsaccel.config.study import NetworkConfig
from dsaccel.errors import ConfigError
from dsaccel.spec.hierarchy import Blocks, Hierarchy
from dsaccel.spec.plan import Block, Head, Layer, Output, Plan, Shortcut, pool_kernel, split

Mode = Literal["local", "global"]
MODES: tuple[Mode, Mode] = ("local", "global")
NUM_HIDDEN_FEATURES = 1024


@dataclass(frozen=True)
class Family:
    """What a family's networks have in common."""

    block: Literal["basic", "bottleneck", "conv"]
    widths: tuple[tuple[int, ...], ...]
    """Base channels of each stage's first, second, ... block; the last one repeats."""
    standard: Hierarchy
    """The hierarchy the family is named for."""
    min_stages: int = 3

    @property
    def is_residual(self) -> bool:
        return self.block != "conv"

    def width(self, stage: int, index: int) -> int:
        """Base channels of a block; stage and index are 1-based."""
        widths = self.widths[stage - 1]
        return widths[min(index, len(widths)) - 1]


_RESNET = ((64,), (128,), (256,), (512,))
_VGG = ((64,), (128,), (256,), (512,), (512,))

FAMILIES: dict[str, Family] = {
    "resnet18": Family("basic", _RESNET, Hierarchy((2, 2, 2, 2))),
    "resnet34": Family("basic", _RESNET, Hierarchy((3, 4, 6, 3))),
    "resnet50": Family("bottleneck", _RESNET, Hierarchy((3, 4, 6, 3))),
    "resnet101": Family("bottleneck", _RESNET, Hierarchy((3, 4, 23, 3))),
    "vgg": Family("conv", _VGG, Hierarchy((2, 2, 3, 3, 3))),
    # the reference code's: 128 and 256 before the first pooling, 256 and 512 before the second
    "vgg8b": Family("conv", ((128, 256), (256, 512), (512,), (512,)), Hierarchy((2, 2, 1, 1))),
}


def find_family(name: str) -> Family:
    """Look a family up by name.

    Raises:
        ConfigError: if there is none of that name.
    """
    if name not in FAMILIES:
        raise ConfigError(f"family must be one of {', '.join(FAMILIES)}, but got {name!r}")
    return FAMILIES[name]


def check_hierarchy(name: str, hierarchy: Hierarchy) -> None:
    """Refuse a hierarchy that the family has no network for.

    Raises:
        ConfigError: if it has too few or too many stages, or a stage without a block.
    """
    family = find_family(name)
    most = len(family.widths)
    if not family.min_stages <= hierarchy.num_stages <= most:
        raise ConfigError(
            f"a hierarchy of {name} must have {family.min_stages} to {most} stages, "
            f"but got {hierarchy}; "
            f"{name} itself is {family.standard}"
        )
    if min(hierarchy.blocks) < 1:
        raise ConfigError(f"every stage must have at least 1 block, but got {hierarchy}")


def build_plan(
    name: str,
    hierarchy: Hierarchy,
    network: NetworkConfig,
    *,
    channels: int,
    side: int,
    num_classes: int,
    mode: Mode = "local",
    output_weight: float = 1.0,
) -> Plan:
    """Plan a family's network for images of `channels` x `side` x `side` and `num_classes` classes.

    `mode="global"` is the same network cut nowhere: the baseline of back-propagation. Settings that
    the hierarchy brings along replace those of `network`, and the study's learning rate.

    Raises:
        ConfigError: unknown family, a hierarchy of the wrong length, a granularity list of the
            wrong length, settings that no network can have.
    """
    family = find_family(name)
    check_hierarchy(name, hierarchy)
    network = network_of(hierarchy, network)
    blocks = _blocks(family, hierarchy.blocks, network, channels, side)
    last = blocks[-1].layers[-1]
    if family.is_residual:
        output = Output(last.out_channels, num_classes, average=True, weight=output_weight)
    else:
        side_out = max(1, last.side // 2)
        hidden = _hidden(hierarchy.num_stages + 1, last, side_out, network)
        num_features = NUM_HIDDEN_FEATURES if hidden else last.out_channels * side_out**2
        pool = not hidden and last.side > 1
        output = Output(num_features, num_classes, average=False, pool=pool, weight=output_weight)
        blocks += hidden
    if mode == "local":
        blocks = _with_heads(blocks, hierarchy.num_stages, network, num_classes)
    smallest = _blocks(family, (1,) * hierarchy.num_stages, network, channels, side)
    num_convs = sum(len(block.layers) for block in smallest)
    segments = split(tuple(blocks), output, learning_rate_of(hierarchy))
    return Plan(name, hierarchy, side, num_convs, segments)


def _blocks(
    family: Family, num_blocks: Blocks, network: NetworkConfig, channels: int, side: int
) -> list[Block]:
    """Stem and stages, without heads."""

    def scaled(width: int) -> int:
        return max(1, round(width * network.width))

    blocks: list[Block] = []
    if family.is_residual:
        stem = scaled(family.width(1, 1))
        layer = Layer("conv", channels, stem, side, kernel=3, dropout=network.dropout)
        blocks.append(Block(0, 1, (layer,)))
        channels = stem
    make = {"basic": _basic, "bottleneck": _bottleneck, "conv": _conv}[family.block]
    for stage, num in enumerate(num_blocks, 1):
        for index in range(1, num + 1):
            downsamples = stage > 1 and index == 1 and side > 1
            in_side, side = side, _halved(side, family) if downsamples else side
            width = scaled(family.width(stage, index))
            block = make(channels, width, in_side, side, network.dropout)
            blocks.append(replace(block, stage=stage, index=index))
            channels = block.out_channels
    return blocks


def _halved(side: int, family: Family) -> int:
    """A strided 3x3 convolution rounds up, a 2x2 max-pool down."""
    return (side + 1) // 2 if family.is_residual else side // 2


def _basic(channels: int, width: int, in_side: int, side: int, dropout: float) -> Block:
    stride = 1 if in_side == side else 2
    layers = (
        Layer("conv", channels, width, side, kernel=3, stride=stride, dropout=dropout),
        Layer("conv", width, width, side, kernel=3, dropout=dropout),
    )
    return Block(0, 0, layers, shortcut=_shortcut(channels, width, stride))


def _bottleneck(channels: int, width: int, in_side: int, side: int, dropout: float) -> Block:
    stride = 1 if in_side == side else 2
    layers = (
        Layer("conv", channels, width, in_side, dropout=dropout),
        Layer("conv", width, width, side, kernel=3, stride=stride, dropout=dropout),
        Layer("conv", width, 4 * width, side, dropout=dropout),
    )
    return Block(0, 0, layers, shortcut=_shortcut(channels, 4 * width, stride))


def _conv(channels: int, width: int, in_side: int, side: int, dropout: float) -> Block:
    layer = Layer("conv", channels, width, side, kernel=3, bias=True, dropout=dropout)
    return Block(0, 0, (layer,), pool=in_side != side)


def _shortcut(in_channels: int, out_channels: int, stride: int) -> Shortcut:
    return "identity" if in_channels == out_channels and stride == 1 else "projection"


def _hidden(stage: int, last: Layer, side: int, network: NetworkConfig) -> list[Block]:
    """VGG's fully connected units: they flatten `side` x `side` maps, after a last max-pool."""
    num_features = last.out_channels * side**2
    blocks: list[Block] = []
    for index in range(1, network.num_hidden + 1):
        layer = Layer(
            "linear", num_features, NUM_HIDDEN_FEATURES, 1, bias=True, dropout=network.dropout
        )
        blocks.append(Block(stage, index, (layer,), pool=index == 1 and last.side > 1))
        num_features = NUM_HIDDEN_FEATURES
    return blocks


def _with_heads(
    blocks: list[Block], num_stages: int, network: NetworkConfig, num_classes: int
) -> list[Block]:
    """Put a local loss on the last layer of every unit, from the first that carries one on."""
    granularity = _granularity(network.granularity, num_stages)
    num_units = 0
    with_heads: list[Block] = []
    for position, block in enumerate(blocks):
        per = granularity[block.stage]
        following = blocks[position + 1] if position + 1 < len(blocks) else None
        ends_unit = per != "stage" or following is None or _stage_ends(block, following)
        layers = list(block.layers)
        for i, layer in enumerate(layers):
            is_last = i == len(layers) - 1
            if (is_last and ends_unit) or per == "conv":
                num_units += 1
                if num_units >= network.first_loss:
                    layers[i] = replace(layer, head=_head(layer, network, num_classes))
        with_heads.append(replace(block, layers=tuple(layers)))
    if num_units < network.first_loss:
        raise ConfigError(
            f"first_loss must be within 1..{num_units}, the units of this network, "
            f"but got {network.first_loss}; for back-propagation use mode global"
        )
    return with_heads


def _stage_ends(block: Block, following: Block) -> bool:
    """Whether a stage ends between two blocks; the stem counts to the first stage."""
    return max(block.stage, 1) != max(following.stage, 1)


def _granularity(setting: str | Sequence[str], num_stages: int) -> list[str]:
    """The granularity of the stem, each stage, and the fully connected units."""
    if isinstance(setting, str):
        return [setting] * (num_stages + 1) + ["conv"]
    if len(setting) != num_stages:
        raise ConfigError(
            f"granularity must be one word or one for each of the {num_stages} stages, "
            f"but got {len(setting)}: {', '.join(setting)}"
        )
    return [setting[0], *setting, "conv"]


def _head(layer: Layer, network: NetworkConfig, num_classes: int) -> Head:
    is_map = layer.kind == "conv"
    pool = (1, 1)
    if is_map:
        # the decoder size follows the width, so that pooling is the same at every width
        max_features = max(1, round(network.decoder_size * network.width))
        pool = pool_kernel(layer.out_channels, layer.side, max_features)
    # what a head has no use for stays at its default: it is the same head
    used = {name: getattr(network, name) for name in head_settings(network.loss, is_map=is_map)}
    side = layer.side if is_map else None
    return Head(network.loss, num_classes, layer.out_channels, side, pool, **used)
