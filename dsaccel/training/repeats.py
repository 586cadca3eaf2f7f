"""Count a run of equal blocks by four of them.

What the second of equal blocks does, forward and backward, each further one does too but for the
last two: the gradient that the last reads and the one that it writes may be of another kind. So it
is counted once and taken as often as there are such. The level of memory is followed block by
block, therefore the peak is exact wherever it is.
"""

from collections.abc import Mapping
from dataclasses import replace
from itertools import groupby
from typing import Any

from torch import Tensor

from dsaccel.nn.layers import LayerModule
from dsaccel.nn.units import Unit
from dsaccel.spec.blocks import Block
from dsaccel.spec.plan import Segment
from dsaccel.training.meter import Counter

KEPT = 4

Times = Mapping[int, int]
"""How many blocks one stands for, by its index; 1 if it is left out."""


def shorten(segment: Segment) -> tuple[Segment, Times]:
    """A segment without the equal blocks that others stand for; blocks are numbered through."""
    blocks: list[Block] = []
    times: dict[int, int] = {}
    for block, run in groupby(segment.blocks, lambda block: replace(block, stage=1, index=0)):
        num = len(list(run))
        kept = num if any(layer.head for layer in block.layers) else min(num, KEPT)
        if kept < num:
            times[len(blocks) + 1] = num - KEPT + 1
        first = len(blocks)
        blocks += [replace(block, index=first + number) for number in range(kept)]
    return replace(segment, blocks=tuple(blocks)), times


class Watch:
    """Follows the level of memory while a unit takes a step, one section after another.

    A section is what is done for one block: its forward pass from its start to the next block's,
    or its backward pass from the gradient above it to the one below.
    """

    def __init__(self, unit: Unit, counter: Counter, times: Times) -> None:
        self._counter, self._times = counter, times
        self._level = 0
        self._start = counter.restart()
        self._block = 0
        self.peak = 0
        """Bytes above the level at the start."""
        for layer in _layers(unit):
            if layer.opens_block:
                layer.register_forward_pre_hook(self._enter)

    def end(self) -> None:
        """The step is done."""
        times, added = self._times.get(self._block, 1), self._counter.level - self._start
        highest = self._level + self._counter.peak - self._start
        self.peak = max(self.peak, highest, highest + (times - 1) * added)
        self._level += times * added
        self._start = self._counter.restart()

    def _enter(self, layer: LayerModule, given: tuple[Tensor, Any]) -> None:
        self.end()
        block = self._block = layer.position.block
        if given[0].requires_grad:
            given[0].register_hook(lambda _: self._leave(block))

    def _leave(self, block: int) -> None:
        """The gradient of a block's input is there."""
        self.end()
        self._block = block - 1


def weigh(unit: Unit, times: Times) -> Mapping[int, int]:
    """For how many of its kind each parameter and statistic of a unit stands, by identity."""
    weights = {id(x): 1 for x in (*unit.parameters(), *unit.buffers())}
    for layer in _layers(unit):
        num = times.get(layer.position.block, 1)
        weights |= {id(x): num for x in (*layer.parameters(), *layer.buffers())}
    return weights


def _layers(unit: Unit) -> list[LayerModule]:
    return [layer for layer in unit.layers if isinstance(layer, LayerModule)]
