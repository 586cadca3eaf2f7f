"""Count the bytes of the tensors that live at the same time.

The same count is taken of real tensors, which measures, and of hollow ones, which tells beforehand.
What a library takes for itself is not seen.
"""

import gc
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from dsaccel.nn.hollow import run_hollow
from dsaccel.training.device import unfolds_bf16


@dataclass(frozen=True)
class Machine:
    """The properties of a device that decide how much memory training takes."""

    device: str = "cpu"
    """The device's type; on a CPU wide convolutions run by tiles."""
    unfolds_bf16: bool = False
    """It has no convolution of bf16 of its own."""

    @classmethod
    def of(cls, device: torch.device) -> "Machine":
        return cls(device.type, unfolds_bf16(device))


class Counter:
    """Bytes of the storages that operations have made and nobody has let go.

    Args:
        machine: what it makes within an operation and lets go at its end is counted too.
    """

    def __init__(self, machine: Machine) -> None:
        self.level = 0
        self.peak = 0
        self._machine = machine
        self._live: dict[int, tuple[weakref.ref[Any], int]] = {}

    def see(self, operation: Any, read: Any, written: Any) -> None:
        """Take note of an operation that has read and written these."""
        for tensor in tensors_in(written):
            storage = tensor.untyped_storage()
            place = storage._cdata
            # a view of what was there before makes nothing
            if place in self._live or any(place == _place(x) for x in tensors_in(read)):
                continue
            gone = partial(self._forget, place)
            self._live[place] = weakref.ref(storage, gone), storage.nbytes()
            self.level += storage.nbytes()
        within = _WITHIN.get(operation.overloadpacket, _nothing)
        self.peak = max(self.peak, self.level + within(self._machine, read, written))

    def restart(self) -> int:
        """Look for a new peak from here; returns the level."""
        self.peak = self.level
        return self.level

    def _forget(self, place: int, _: weakref.ref[Any]) -> None:
        self.level -= self._live.pop(place)[1]


class Meter(TorchDispatchMode):
    """Counts what runs inside."""

    def __init__(self, counter: Counter) -> None:
        super().__init__()
        self._counter = counter

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count what it makes."""
        written = func(*args, **(kwargs or {}))
        self._counter.see(func, args, written)
        return written


class HollowMeter(Meter):
    """Counts what would be there if what runs inside had numbers."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Find the shapes that an operation makes and count them."""
        written = run_hollow(func, args, kwargs or {})
        self._counter.see(func, args, written)
        return written

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: to skip torch's compiler would be to load it."""
        return False


def peak_bytes(run: Callable[[], object], device: torch.device) -> int:
    """The highest level of tensor bytes during `run`, above the level before it.

    On CUDA as the allocator counts. On a CPU of what operations return, which slows `run` down; the
    release of what was there before does not lower that level.
    """
    gc.collect()  # what is garbage already must not be released in between
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        return torch.cuda.max_memory_allocated(device) - before
    counter = Counter(Machine.of(device))
    with Meter(counter):
        run()
    return counter.peak


def tensors_in(values: Any) -> Iterator[Tensor]:
    """The tensors in lists, tuples and dicts, however deep."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, (list, tuple, dict)):
        for value in values.values() if isinstance(values, dict) else values:
            yield from tensors_in(value)


def _place(x: Tensor) -> int:
    return x.untyped_storage()._cdata


# ---------------------------------------------------------------------- within an operation


def _nothing(*_: Any) -> int:
    return 0


def _convolved(machine: Machine, read: Any, output: Tensor) -> int:
    _, weight = read[:2]
    return _unfolded(machine, weight, output)


def _convolved_back(machine: Machine, read: Any, _: Any) -> int:
    output, _, weight = read[:3]
    # on a CPU the weights' gradient is laid out anew
    copied = weight.nbytes if machine.device == "cpu" else 0
    return max(copied, _unfolded(machine, weight, output))


def _unfolded(machine: Machine, weight: Tensor, output: Tensor) -> int:
    """The bytes of a bf16 convolution's input where it is laid out for each output."""
    is_unfolded = machine.unfolds_bf16 and weight.dtype == torch.bfloat16
    if not is_unfolded or weight.shape[2:].numel() == 1:
        return 0
    return output.numel() // output.shape[1] * weight.shape[1:].numel() * weight.element_size()


def _normalised_back(machine: Machine, read: Any, _: Any) -> int:
    """On a CPU there are two of the gradient for a while."""
    return read[1].nbytes if machine.device == "cpu" else 0


def _averaged(machine: Machine, read: Any, _: Any) -> int:
    """On a CPU Adam copies the weights that are channels-last, one after another."""
    copied = (x.nbytes for x in read[0] if not x.is_contiguous())
    return max(copied, default=0) if machine.device == "cpu" else 0


_WITHIN: dict[Any, Callable[[Machine, Any, Any], int]] = {
    torch.ops.aten.convolution: _convolved,
    torch.ops.aten.convolution_backward: _convolved_back,
    torch.ops.aten.native_batch_norm_backward: _normalised_back,
    torch.ops.aten._fused_adam_: _averaged,
}
"""Bytes that an operation makes for itself and lets go, by its name."""
