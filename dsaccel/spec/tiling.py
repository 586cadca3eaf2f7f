"""Which convolutions run by tiles on a CPU (`winograd.py`), and how much of one at a time.

Decided by the layer and its input's shape alone, so that a segment computes the same wherever it is
trained, and without tensors, so that memory can be estimated from a plan.
"""

# B batch, C input channels, D output channels, H = W side

from collections.abc import Iterator

TILE, WINDOW = 4, 6
"""Sides of an output tile, and of the input that it depends on."""

MIN_CHANNELS = 256
"""Narrower layers gain nothing: their transforms take longer than the products they save."""

PART = 2**18
"""Numbers at each of a window's 36 positions that are made at a time, of the input, of the products
and of the kernels: 36 MiB each in fp32. Half of it takes a tenth longer at 512 channels, where
kernels are made again and added up more often; the double is not faster."""


def suits(in_channels: int, out_channels: int, height: int, width: int) -> bool:
    """Whether a 3x3 convolution that keeps the side goes by tiles."""
    is_wide = min(in_channels, out_channels) >= MIN_CHANNELS
    return is_wide and height % TILE == width % TILE == 0


def parts(shape: tuple[int, ...], num_outputs: int) -> tuple[list[slice], list[slice]]:
    """Runs of images and of output channels that are convolved at a time, each about equal.

    Args:
        shape: (B, C, H, W), of the input.
        num_outputs: D.
    """
    batch, channels, height, width = shape
    outputs = list(_cut(num_outputs, PART // channels))
    widest = max(channels, outputs[0].stop)
    num_tiles = (height // TILE) * (width // TILE)
    return list(_cut(batch, PART // (num_tiles * widest))), outputs


def _cut(total: int, most: int) -> Iterator[slice]:
    num = -(-total // max(1, most))
    size = -(-total // num)
    for start in range(0, total, size):
        yield slice(start, min(start + size, total))
