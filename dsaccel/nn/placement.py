"""Whether operations are launched on a GPU, where few and large ones are fast, or run on a CPU."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

_as_on_gpu = False


def is_on_gpu(x: Tensor) -> bool:
    """Whether a module goes a GPU's way with this: what it computes is the same up to rounding."""
    return _as_on_gpu or x.device.type == "cuda"


@contextmanager
def as_on_gpu(wanted: bool = True) -> Iterator[None]:
    """Go a GPU's way on any device: its memory and its kernels are counted where there is none."""
    global _as_on_gpu
    before, _as_on_gpu = _as_on_gpu, wanted
    try:
        yield
    finally:
        _as_on_gpu = before
