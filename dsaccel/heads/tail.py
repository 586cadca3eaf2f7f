"""The rest of the network in small: block 1 of each later stage, narrower, then average and linear.

It is made of the family's blocks at places that every hierarchy has, so it is the same whatever
blocks follow, and the prefix law holds. In the last stage it is the average and the linear map.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from dsaccel.heads import Head
from dsaccel.heads.gap import GapPlan
from dsaccel.spec.blocks import Block
from dsaccel.spec.local import Draw, UnitShape

if TYPE_CHECKING:
    from torch import Tensor, nn


class Tail(Head):
    """Block 1 of each later stage at a share of its width, average over the map, a linear map."""

    ratio: float = Field(default=0.5, gt=0, le=1)
    """Width of the blocks over that of the network's."""
    depth: Literal[1, 2, "all"] = "all"
    """How many of the later stages are there, the next one first."""

    def plan(self, unit: UnitShape) -> "TailPlan":
        assert unit.later is not None
        blocks = unit.later(self.ratio)
        blocks = blocks if self.depth == "all" else blocks[: self.depth]
        channels = blocks[-1].out_channels if blocks else unit.channels
        return TailPlan(channels, unit.num_classes, blocks)


@dataclass(frozen=True)
class TailPlan(GapPlan):
    blocks: tuple[Block, ...]

    @property
    def num_parameters(self) -> int:
        return sum(block.num_parameters for block in self.blocks) + super().num_parameters

    @property
    def flops(self) -> int:
        return sum(block.flops for block in self.blocks) + super().flops

    @property
    def depth(self) -> int:
        return sum(len(block.layers) for block in self.blocks) + super().depth

    def build(self, draw: Draw) -> "dict[str, nn.Module]":
        from torch import nn

        from dsaccel.nn.layers import build_block

        tail = [layer for b in self.blocks for layer in build_block(b, draw.under("tail"))]
        return {"tail": nn.ModuleList(tail), **super().build(draw)}

    def logits(self, h: "Tensor", layers: Any) -> "Tensor":
        skip = None
        for layer in layers.tail:
            h, skip = layer(h, skip)
        return super().logits(h, layers)
