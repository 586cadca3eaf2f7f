"""Leads that a GPU has to decide before they are worth writing: sections of `gpu.py`.

Siblings are as many convolutions of one shape, each with an input and weights of its own. They can
be launched one after another, in lanes at the same time, or be one grouped convolution. A unit can
be compiled: its forward pass and loss, and their gradients, in fewer kernels.
"""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import measure
import torch
from guard import Guard, interleave
from torch import Tensor, nn

from dsaccel.nn.units import Features
from dsaccel.training.cuda_graphs import NUM_EAGER, CudaGraphs, Recorder
from dsaccel.training.cuda_streams import ONE_LANE, CudaLanes, Lanes
from dsaccel.training.learner import Learner

NUM_SIBLINGS = 8
REPEATS = 10
"""Of what is measured, in a round."""


def siblings(
    device: torch.device,
    guard: Guard,
    *,
    batch_size: int,
    shapes: list[tuple[int, int]],
    rounds: int,
) -> dict[str, Any]:
    """Forward and both gradients of 3x3 convolutions in bf16, by (channels, side)."""
    record: dict[str, Any] = {"siblings": NUM_SIBLINGS}
    for channels, side in shapes:
        part = guard.part(guard.left_s / 2)
        lanes = lanes_on(device, NUM_SIBLINGS)
        sides = {
            "one after another": _each(device, batch_size, channels, side, ONE_LANE),
            "in lanes": _each(device, batch_size, channels, side, lanes),
            "grouped": _grouped(device, batch_size, channels, side),
        }
        repeated = {name: _repeated(_recorded(run, device), device) for name, run in sides.items()}
        runs = interleave(repeated, part, most=rounds)
        base = runs["one after another"]
        record[f"{channels} channels, {side} pixels"] = {
            "ms": {name: 1e3 * measure.median(own) / REPEATS for name, own in runs.items()},
            "faster": {n: measure.ratio(base, own) for n, own in runs.items() if own is not base},
        }
    return record


def compiled(
    learner: Learner, other: Learner, x: Tensor, y: Tensor, guard: Guard, *, rounds: int
) -> dict[str, Any]:
    """A step of the same unit as it is and compiled, both recorded where CUDA can.

    Args:
        learner: of one unit without dropout, whose generators cannot be traced.
        other: the same, to be compiled.
        x: the unit's input (B, C, H, W).
        y: labels (B,).
        guard: of the section.
        rounds: at most.
    """
    device = learner.device
    backend = "inductor" if device.type == "cuda" else "eager"
    sides: dict[str, Callable[[], None]] = {}
    for name, used in (("as it is", learner), ("compiled", other)):
        loss = _loss(used)
        if name == "compiled":
            loss = torch.compile(loss, dynamic=False, backend=backend)
        sides[name] = _repeated(_recorded(_stepped(used, loss, x, y), device), device)
    guard.check()
    runs = interleave(sides, guard, most=rounds)
    return {
        "backend": backend,
        "ms": {name: 1e3 * measure.median(own) / REPEATS for name, own in runs.items()},
        "faster": measure.ratio(runs["as it is"], runs["compiled"]),
    }


class Rehearsed:
    """In the place of a graph where there are none: runs the step whenever it is replayed."""

    def beside(self) -> AbstractContextManager[None]:
        return nullcontext()

    def record(
        self, run: Callable[[], object], generators: Iterable[torch.Generator]
    ) -> Callable[[], None]:
        def replay() -> None:
            run()

        return replay


def recorder_on(device: torch.device) -> Recorder:
    return CudaGraphs(device) if device.type == "cuda" else Rehearsed()


def lanes_on(device: torch.device, num: int) -> Lanes:
    return CudaLanes(device, num) if device.type == "cuda" and num > 1 else ONE_LANE


def _each(
    device: torch.device, batch_size: int, channels: int, side: int, lanes: Lanes
) -> Callable[[], None]:
    pairs = [_convolution(device, batch_size, channels, side, 1) for _ in range(NUM_SIBLINGS)]

    def run() -> None:
        with lanes.step():
            for convolution, x in pairs:
                with lanes.unit(Features(x, None)):
                    _both_ways(convolution, x)

    return run


def _grouped(device: torch.device, batch_size: int, channels: int, side: int) -> Callable[[], None]:
    convolution, x = _convolution(device, batch_size, channels, side, NUM_SIBLINGS)
    return lambda: _both_ways(convolution, x)


def _convolution(
    device: torch.device, batch_size: int, channels: int, side: int, groups: int
) -> tuple[nn.Conv2d, Tensor]:
    wide = groups * channels
    made = nn.Conv2d(wide, wide, 3, padding=1, groups=groups, bias=False)
    made = made.to(device, torch.bfloat16).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    x = torch.randn(batch_size, wide, side, side, device=device, dtype=torch.bfloat16)
    return made, x.contiguous(memory_format=torch.channels_last).requires_grad_()


def _both_ways(convolution: nn.Conv2d, x: Tensor) -> None:
    y = convolution(x)
    torch.autograd.grad(y, (x, convolution.weight), torch.ones_like(y))


def _loss(learner: Learner) -> Callable[[Tensor, Tensor], Tensor]:
    (unit,) = learner.units
    is_bf16 = learner.training.precision == "bf16"

    def loss(x: Tensor, y: Tensor) -> Tensor:
        with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=is_bf16):
            h, _, _ = unit(x, None, None)
            return unit.head.loss(h, y)

    return loss


def _stepped(
    learner: Learner, loss: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor
) -> Callable[[], None]:
    (adam,) = learner.optimizers

    def run() -> None:
        loss(x, y).backward()
        adam.step()
        adam.zero_grad(set_to_none=True)

    return run


def _recorded(run: Callable[[], None], device: torch.device) -> Callable[[], None]:
    recorder = recorder_on(device)
    for _ in range(NUM_EAGER):
        with recorder.beside():
            run()
    return recorder.record(run, [])


def _repeated(run: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """Until the device has done them all."""

    def repeated() -> None:
        for _ in range(REPEATS):
            run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return repeated
