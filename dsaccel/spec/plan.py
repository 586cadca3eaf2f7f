"""A network as data: the segments between two detached borders, each made of blocks and heads.

Two networks whose first segments are equal train identically there: this is the prefix law. It
holds because whatever can change how a segment trains is one of its fields (or a study-wide
setting), and nothing looks ahead.
"""

import hashlib
import itertools
from dataclasses import dataclass, replace
from functools import cached_property

from dsaccel.spec.blocks import Block, Layer, Output
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.local import Head, HeadPlan
from dsaccel.spec.rung import Exit, num_in_ensemble

FLOPS_A_VALUE = 500
"""Of ResNet18 at width 1/8 a step's time is told best with so many (one core, batch 128): within a
fifth, where FLOPs alone are wrong by a factor of two between the first stage and the last."""


@dataclass(frozen=True)
class Segment:
    """The smallest run of whole blocks between two detached borders; what the trie shares."""

    blocks: tuple[Block, ...]
    output: Output | None = None
    learning_rate: float | None = None
    """The rate before the first decay; None: the study's."""

    @property
    def layers(self) -> tuple[Layer, ...]:
        return tuple(layer for block in self.blocks for layer in block.layers)

    @property
    def heads(self) -> tuple[Head, ...]:
        return tuple(layer.head for layer in self.layers if layer.head is not None)

    @property
    def num_units(self) -> int:
        """What is trained by one loss each: an output layer's is the last."""
        return len(self.heads) + (self.output is not None)

    @property
    def is_joined(self) -> bool:
        """Whether gradients pass the heads within it: each unit learns from those above, too."""
        below = self.blocks if self.output is not None else self.blocks[:-1]
        return any(block.has_head for block in below)

    @property
    def gradient_paths(self) -> tuple[int, ...]:
        """The layers with weights that each unit's gradient passes, its classifier's counted."""
        units = self._unit_layers
        if not self.is_joined:
            return tuple(map(sum, units))
        below = itertools.accumulate(num_layers for num_layers, _ in units)
        return (max(num + depth for num, (_, depth) in zip(below, units, strict=True)),)

    @property
    def num_read(self) -> int:
        """Heads of units that have layers; an output layer on detached features is none of them."""
        return len(self._unit_layers)

    @property
    def _unit_layers(self) -> list[tuple[int, int]]:
        """The layers with weights of each unit that has some, and those of its classifier."""
        found, num_layers = [], 0
        for layer in self.layers:
            num_layers += 1
            if layer.head is not None:
                found.append((num_layers, layer.head.depth))
                num_layers = 0
        return [*found, (num_layers, 1)] if num_layers else found

    @cached_property
    def flops(self) -> int:
        """Forward FLOPs an image, local heads and output layer counted."""
        parts = [*self.blocks, *self.heads, *([self.output] if self.output else [])]
        return sum(part.flops for part in parts)

    @cached_property
    def work(self) -> int:
        """What training takes, roughly: FLOPs, and the values of its maps, which are read and
        written many times, as `FLOPS_A_VALUE` each.
        """
        return self.flops + FLOPS_A_VALUE * sum(layer.num_values for layer in self.layers)


@dataclass(frozen=True)
class Plan:
    """A whole network for one hierarchy, cut into segments."""

    family: str
    hierarchy: Hierarchy
    side: int
    """Side of the input images in pixels."""
    shallow_convs: int
    """How many first convolutions `shallow_scale` looks at."""
    segments: tuple[Segment, ...]
    exit: Exit = "layer"
    """The exit where it is read."""

    @property
    def blocks(self) -> tuple[Block, ...]:
        return tuple(block for segment in self.segments for block in segment.blocks)

    @property
    def output(self) -> Output | None:
        """None: the network ends at its last block, for it is read at its heads."""
        return self.segments[-1].output

    @property
    def exit_heads(self) -> tuple[HeadPlan | Output, ...]:
        """The output layer or the classifiers that its exit reads."""
        last = self.segments[-1]
        if self.exit == "layer":
            assert last.output is not None
            return (last.output,)
        heads: list[HeadPlan | Output] = [h.classifier for s in self.segments for h in s.heads]
        if last.output is not None:  # which trains the blocks below it
            heads.append(last.output)
        return tuple(heads[-(1 if self.exit == "head" else num_in_ensemble(len(heads))) :])

    @property
    def num_local_losses(self) -> int:
        return sum(len(segment.heads) for segment in self.segments)

    @property
    def num_units(self) -> int:
        """Parts between which no gradient passes (K of the literature); 1 is back-propagation."""
        return sum(len(segment.gradient_paths) for segment in self.segments)

    @property
    def gradient_path(self) -> float:
        """Layers with weights on the longest gradient path, heads counted, over all layers."""
        longest = max(path for segment in self.segments for path in segment.gradient_paths)
        return longest / (sum(len(block.layers) for block in self.blocks) + 1)

    @property
    def head_stages(self) -> tuple[int, ...]:
        """The stage of each local head in order of depth; 0: the stem or a fully connected unit."""
        last = self.hierarchy.num_stages
        stages = (b.stage for b in self.blocks for layer in b.layers if layer.head is not None)
        return tuple(stage if stage <= last else 0 for stage in stages)

    def num_heads(self, stage: int) -> int:
        """Local heads up to the end of a stage, the stem's counted."""
        layers = (layer for block in self.blocks if block.stage <= stage for layer in block.layers)
        return sum(layer.head is not None for layer in layers)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of what is trained: equal for two plans if and only if their segments are."""
        return hashlib.sha256(repr(self.segments).encode()).hexdigest()

    @cached_property
    def num_parameters(self) -> int:
        """Weights of the network itself: what its exit reads is counted, and no other head."""
        return sum(part.num_parameters for part in (*self.blocks, *self.exit_heads))

    @cached_property
    def num_parameters_training(self) -> int:
        """Weights that training holds: all heads counted."""
        heads: list[Head | Output] = [head for s in self.segments for head in s.heads]
        heads += [] if self.output is None else [self.output]
        return sum(part.num_parameters for part in (*self.blocks, *heads))

    @cached_property
    def flops(self) -> int:
        """Forward FLOPs an image (2 a multiply-add); heads as in `num_parameters`."""
        return sum(part.flops for part in (*self.blocks, *self.exit_heads))

    @cached_property
    def step_flops(self) -> int:
        """FLOPs of a training step an image: about three forward passes, all heads counted."""
        return 3 * sum(segment.flops for segment in self.segments)

    @cached_property
    def shallow_scale(self) -> float:
        """Mean side of the first convolutions' feature maps over the input's side (eq. 8)."""
        sides = [
            layer.side for block in self.blocks for layer in block.layers if layer.kind == "conv"
        ]
        first = sides[: self.shallow_convs]
        return sum(first) / (len(first) * self.side)


def split(
    blocks: tuple[Block, ...],
    output: Output,
    learning_rate: float | None = None,
    *,
    exit: Exit = "layer",
) -> tuple[Segment, ...]:
    """Cut a network after every block that ends in a local loss.

    The output layer is a segment of its own after such a block, if it is the exit; otherwise it
    trains what is left below it: the whole network, where nothing carries a local loss (the global
    baseline).
    """
    segments: list[Segment] = []
    run: list[Block] = []
    for block in blocks:
        run.append(block)
        if block.has_head:
            segments.append(Segment(tuple(run), None, learning_rate))
            run = []
    if exit != "layer" and not run:
        return tuple(segments)
    return (*segments, Segment(tuple(run), output, learning_rate))


def joined(plan: Plan) -> Plan:
    """A layer-wise network with all its losses and no cuts: one segment."""
    rate = plan.segments[0].learning_rate
    return replace(plan, segments=(Segment(plan.blocks, plan.output, rate),))
