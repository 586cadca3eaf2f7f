"""Units that learn at the same time.

A unit needs nothing of the one below but its features. Once those are there it can begin, while
the one below still computes its loss, gradients and step; so along a network as between siblings.
Units take turns on a few CUDA streams, the lanes, each waiting for what it reads and nothing else.
It pays in a recorded step: launched from Python, a unit is mostly done before the next is launched.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from itertools import cycle
from typing import Protocol

import torch
from torch.utils.weak import WeakIdKeyDictionary

from dsaccel.config.recipe import MAX_CUDA_LANES
from dsaccel.nn.units import Features


class Lanes(Protocol):
    """Where the units of a step learn."""

    def step(self) -> AbstractContextManager[object]:
        """Around all units; what is launched after it finds them finished."""
        ...

    def unit(self, features: Features) -> AbstractContextManager[object]:
        """Around a unit that reads these."""
        ...

    def ready(self, features: Features) -> None:
        """Said by a unit as soon as it has computed what it passes on."""
        ...


class OneLane:
    """One unit after another, where the caller is."""

    def step(self) -> AbstractContextManager[object]:
        """Nothing to wait for."""
        return nullcontext()

    def unit(self, features: Features) -> AbstractContextManager[object]:
        """Nothing to wait for."""
        return nullcontext()

    def ready(self, features: Features) -> None:
        """Nothing: with one lane nobody waits."""


ONE_LANE = OneLane()


@cache
def _streams(device: torch.device) -> list[torch.cuda.Stream]:
    """Always the same: libraries keep memory for each stream that they were used on."""
    return [torch.cuda.Stream(device) for _ in range(MAX_CUDA_LANES)]


class CudaLanes:
    """Streams that units take in turn, the same ones in each step."""

    def __init__(self, device: torch.device, num: int) -> None:
        self._device = device
        self._streams = _streams(device)[:num]
        self._turns = cycle(self._streams)
        # by what is passed on, for as long as somebody may read it
        self._events = WeakIdKeyDictionary()

    @contextmanager
    def step(self) -> Iterator[None]:
        """The lanes wait for all that was launched before; the caller's stream for the lanes."""
        outside = torch.cuda.current_stream(self._device)
        self._turns = cycle(self._streams)
        for stream in self._streams:
            stream.wait_stream(outside)
        try:
            yield
        finally:
            for stream in self._streams:
                outside.wait_stream(stream)

    @contextmanager
    def unit(self, features: Features) -> Iterator[None]:
        """Run in the next lane, once what it reads is ready."""
        stream = next(self._turns)
        event = self._events.get(features.x)  # none for images: those were there before the step
        if event is not None:
            stream.wait_event(event)
            for tensor in features:
                if tensor is not None:
                    # its memory must not go to another before this lane, too, is done with it
                    tensor.record_stream(stream)
        with torch.cuda.stream(stream):
            yield

    def ready(self, features: Features) -> None:
        """Marks the point in this lane."""
        event = torch.cuda.Event()
        event.record(torch.cuda.current_stream(self._device))
        self._events[features.x] = event
