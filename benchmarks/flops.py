"""How much arithmetic training is, from the plan: what a rate or a share of a peak is taken of.

A linear map costs its forward FLOPs three times: forward, gradient of its weights, gradient of its
input. The last is left out where nobody asks for it: the input of a unit is detached (the images,
the first unit's input, as well), so that a unit's first layer and its block's shortcut cost twice
their forward FLOPs. Heads, and all further layers of a unit, cost three times.
"""

from collections.abc import Iterator

from dsaccel.spec.blocks import Block, Layer
from dsaccel.spec.plan import Segment
from dsaccel.spec.trie import Trie


def training_flops(segment: Segment) -> int:
    """Of a training step, an image."""
    total = 3 * sum(head.flops for head in segment.heads)
    for block, layer, is_first in _layers(segment):
        total += (2 if is_first else 3) * layer.flops
        if layer is block.layers[-1]:
            shortcut = block.flops - sum(layer.flops for layer in block.layers)
            total += (2 if _starts_unit(segment, block) else 3) * shortcut
    if segment.output:
        total += (3 if segment.blocks else 2) * segment.output.flops
    return total


def trie_flops(trie: Trie) -> int:
    """Of a training step of all living nodes, an image."""
    return sum(training_flops(node.segment) for node in trie.nodes())


def share_of_peak(flops: float, seconds: float, peak: float) -> float:
    """Fraction (0..1) of a peak in FLOP/s at which work was done."""
    return flops / seconds / peak


def extrapolate(seconds: float, *, batches: int, epoch_batches: int) -> float:
    """Seconds of an epoch, from those of some of its batches."""
    return seconds * epoch_batches / batches


def _layers(segment: Segment) -> Iterator[tuple[Block, Layer, bool]]:
    """Each layer, and whether its input is detached."""
    is_first = True
    for block in segment.blocks:
        for layer in block.layers:
            yield block, layer, is_first
            is_first = layer.head is not None


def _starts_unit(segment: Segment, block: Block) -> bool:
    """Whether a block's input is detached."""
    index = segment.blocks.index(block)
    return index == 0 or segment.blocks[index - 1].has_head
