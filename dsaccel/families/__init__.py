"""Network families: from a hierarchy to a plan. The engine never learns which family it trains.

A family says of each place which block stands there, a file each (`resnet.py`, `vgg.py`). A block
is decided by its stage and index and by what it is fed: one that depended on what comes later would
break the prefix law.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import zip_longest
from typing import TYPE_CHECKING, ClassVar, Literal

from dsaccel.config.own_settings import learning_rate_of, network_of
from dsaccel.config.section import Section
from dsaccel.config.study import NetworkConfig, TrainingConfig
from dsaccel.errors import ConfigError
from dsaccel.parts import load_class, load_part, part_of
from dsaccel.spec.blocks import Block, Layer, Output, Pool
from dsaccel.spec.hierarchy import Blocks, Hierarchy
from dsaccel.spec.local import Head, LossPlan, UnitShape
from dsaccel.spec.plan import Plan, joined, split
from dsaccel.spec.rung import Exit

if TYPE_CHECKING:
    from dsaccel.heads import Head as HeadPart
    from dsaccel.losses import LocalLoss

Mode = Literal["local", "global"]
Downsampling = Literal["family", "stride", "max-pool", "average-pool"]
MODES: tuple[Mode, Mode] = ("local", "global")


class Family(Section, ABC):
    """What the networks of a family have in common; its fields are its options.

    An option that `[network]` has too is taken from there.
    """

    standard: ClassVar[Hierarchy]
    """The hierarchy that the family is named for; a network has no more stages."""
    min_stages: ClassVar[int] = 3
    width: float
    dropout: float

    @abstractmethod
    def block(self, stage: int, index: int, channels: int, side: int) -> Block:
        """The block at a place.

        Args:
            stage: 1-based; its first block halves the side, but for the first stage's.
            index: 1-based, within the stage.
            channels: of the feature maps that it is fed.
            side: of these maps in pixels.
        """

    @abstractmethod
    def output(self, last: Block, num_classes: int) -> Output:
        """The output layer after the last block."""

    def begin(self, channels: int, side: int) -> tuple[Block, ...]:
        """The block before the first stage: block 1 of stage 0."""
        return ()

    def end(self, stage: int, last: Block) -> tuple[Block, ...]:
        """Fully connected units after the last block, as blocks of this stage."""
        return ()

    def names(self, blocks: Sequence[Block]) -> Iterator[Callable[[str], str]]:
        """What other programs call the layers of a whole network, which saved weights are named
        after: of each layer a function from its modules' own names.
        """
        for block in blocks:
            for number in range(1, len(block.layers) + 1):
                yield f"stage{block.stage}.{block.index}.{number}.{{}}".format

    def output_name(self) -> str:
        """The name of the output layer in other programs."""
        return "fc"

    def scaled(self, width: int) -> int:
        """Channels where there are so many at width 1."""
        return max(1, round(width * self.width))


def halving(by: Downsampling) -> tuple[int, Pool | None]:
    """How a first block halves the side: stride of its first 3x3, and what comes before it."""
    pools: dict[Downsampling, Pool] = {"max-pool": "max", "average-pool": "average"}
    return (1, pools[by]) if by in pools else (2, None)


def find_family(name: str) -> type[Family]:
    """Look a family up by name.

    Raises:
        ConfigError: if there is none of that name.
    """
    return load_class("family", name)


def check_hierarchy(name: str, hierarchy: Hierarchy) -> None:
    """Refuse a hierarchy that the family has no network for.

    Raises:
        ConfigError: if it has too few or too many stages, or a stage without a block.
    """
    family = find_family(name)
    most = family.standard.num_stages
    if not family.min_stages <= hierarchy.num_stages <= most:
        raise ConfigError(
            f"a hierarchy of {name} must have {family.min_stages} to {most} stages, "
            f"but got {hierarchy}; {name} itself is {family.standard}"
        )
    if min(hierarchy.blocks) < 1:
        raise ConfigError(f"every stage must have at least 1 block, but got {hierarchy}")


def build_plan(
    name: str,
    hierarchy: Hierarchy,
    network: NetworkConfig,
    training: TrainingConfig | None = None,
    *,
    channels: int,
    side: int,
    num_classes: int,
    mode: Mode = "local",
) -> Plan:
    """Plan a family's network for images of `channels` x `side` x `side` and `num_classes` classes.

    `mode="global"` is the same network cut nowhere: the baseline of back-propagation. Settings that
    the hierarchy brings along replace those of `network`, and the study's learning rate.

    Raises:
        ConfigError: unknown family, a hierarchy of the wrong length, a granularity list of the
            wrong length, settings that no network can have.
    """
    check_hierarchy(name, hierarchy)
    network, training = network_of(hierarchy, network), training or TrainingConfig()
    family: Family = part_of(network, "family", name)
    blocks = _blocks(family, hierarchy.blocks, channels, side)
    last = blocks[-1]
    blocks += family.end(hierarchy.num_stages + 1, last)
    unit = UnitShape(0, 0, 0, None, num_classes, training.label_smoothing, channels)
    output = replace(
        family.output(last, num_classes),
        weight=training.output_weight,
        label_smoothing=training.label_smoothing,
        loss=None if training.output_loss == "pred" else _output_loss(training, unit),
    )
    exit: Exit = network.output if mode == "local" else "layer"
    if mode == "local":
        blocks = _with_heads(blocks, family, hierarchy.num_stages, network, unit)
    num_convs = _num_convs(_blocks(family, (1,) * hierarchy.num_stages, channels, side))
    segments = split(tuple(blocks), output, learning_rate_of(hierarchy), exit=exit)
    plan = Plan(name, hierarchy, side, num_convs, segments, exit)
    return plan if network.cuts or mode == "global" else joined(plan)


def _num_convs(blocks: list[Block]) -> int:
    return sum(len(block.layers) for block in blocks)


def _output_loss(training: TrainingConfig, unit: UnitShape) -> LossPlan:
    loss: LocalLoss = load_part("loss", training.output_loss)
    return loss.plan(unit)


def _blocks(family: Family, num_blocks: Blocks, channels: int, side: int) -> list[Block]:
    """Stem and stages, without heads."""
    blocks = list(family.begin(channels, side))
    for stage, num in enumerate(num_blocks, 1):
        for index in range(1, num + 1):
            if blocks:
                channels, side = blocks[-1].out_channels, blocks[-1].layers[-1].side
            block = family.block(stage, index, channels, side)
            blocks.append(replace(block, stage=stage, index=index))
    return blocks


def _with_heads(
    blocks: list[Block], family: Family, num_stages: int, network: NetworkConfig, unit: UnitShape
) -> list[Block]:
    """Put a local loss on the last layer of every unit, from the first that carries one on."""
    cuts = _cuts(network.granularity, num_stages)
    num_units = 0
    with_heads: list[Block] = []
    for block, following in zip_longest(blocks, blocks[1:]):
        cut = cuts[block.stage]
        ends_stage = following is None or following.stage != block.stage
        layers = list(block.layers)
        for i, layer in enumerate(layers):
            ends_block = i == len(layers) - 1
            ends_unit = cut == "block" or (cut == "stage" and ends_stage)
            if cut == "conv" or (ends_block and ends_unit):
                num_units += 1
                if num_units >= network.first_loss:
                    later = partial(_later, family, num_stages, block.stage, layer)
                    of_layer = replace(unit, later=later)
                    layers[i] = replace(layer, head=_head(block, layer, network, of_layer))
        with_heads.append(replace(block, layers=tuple(layers)))
    if network.first_loss > max(1, num_units):
        raise ConfigError(
            f"first_loss must be within 1..{max(1, num_units)}, the local losses of this network, "
            f"but got {network.first_loss}; for back-propagation use mode global"
        )
    return with_heads


def _later(
    family: Family, num_stages: int, stage: int, layer: Layer, ratio: float
) -> tuple[Block, ...]:
    """Block 1 of each stage after one, each fed by the one before; the stem counts to stage 1."""
    narrow = family.model_copy(update={"width": family.width * ratio, "dropout": 0.0})
    blocks: list[Block] = []
    for later in range(max(stage, 1) + 1, num_stages + 1):
        blocks.append(narrow.block(later, 1, layer.out_channels, layer.side))
        layer = blocks[-1].layers[-1]
    return tuple(blocks)


def _cuts(granularity: str | Sequence[str], num_stages: int) -> list[str]:
    """The granularity of the stem, of each stage, and of the fully connected units.

    A stem without a word of its own belongs to the first stage. Fully connected units have losses
    of their own, but for those of a segment that the output layer trains.
    """
    words = (granularity,) * num_stages if isinstance(granularity, str) else tuple(granularity)
    if len(words) not in (num_stages, num_stages + 1):
        raise ConfigError(
            f"granularity must be one word, or one for each of the {num_stages} stages, or "
            f"{num_stages + 1} with the stem's first, but got {len(words)}: {', '.join(words)}"
        )
    if len(words) == num_stages:
        words = ("none" if words[0] == "stage" else words[0], *words)
    return [*words, "none" if words[-1] == "none" else "conv"]


def _head(block: Block, layer: Layer, network: NetworkConfig, unit: UnitShape) -> Head:
    """The local head after a layer."""
    side = layer.side if layer.kind == "conv" else None
    if side is None:  # a vector has nothing to pool or to convolve
        network = network.model_copy(update={"head": "linear", "head_options": {}})
    head: HeadPart = part_of(network, "head")
    loss: LocalLoss = part_of(network, "loss")
    place = {"stage": block.stage, "index": block.index}
    unit = replace(unit, **place, channels=layer.out_channels, side=side)
    return Head(head.plan(replace(unit, only_reads=not loss.trains_head)), loss.plan(unit))
