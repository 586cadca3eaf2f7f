"""A training step as one CUDA graph: recorded once, launched as a whole.

Run as it is, a step launches some hundred kernels for each unit, one by one from Python, and a GPU
waits for most of them. Every call trains on its batch exactly once, whether it is recorded or not.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import torch
from torch import Tensor

from dsaccel.training.device_memory import is_out_of_memory

log = logging.getLogger(__name__)
Step = Callable[[Tensor, Tensor], object]
"""Trains on images (B, C, H, W) and labels (B,)."""
NUM_EAGER = 3
"""Steps before one is recorded, in which Adam, cuDNN and cuBLAS set themselves up."""


class Recorder(Protocol):
    """Records and replays steps: CUDA, or a stand-in in a test."""

    def beside(self) -> AbstractContextManager[None]:
        """Run what is inside where it could be recorded."""
        ...

    def record(
        self, run: Callable[[], object], generators: Iterable[torch.Generator]
    ) -> Callable[[], None]:
        """Returns a function that repeats `run` on the tensors it reads now; does not run it.

        Raises:
            RecordingError: if it cannot be recorded; it can still be run.
        """
        ...


class RecordingError(RuntimeError):
    """A step that runs cannot be recorded."""


class RecordedStep:
    """A step whose batches all have the shape of the first one.

    One that cannot be recorded runs as it is, which gives the same results and takes longer.

    Args:
        step: must ask the device for no figure, and read all that changes from tensors.
        generators: of the random numbers that it draws.
        recorder: records it.
    """

    def __init__(
        self, step: Step, generators: Iterable[torch.Generator], recorder: Recorder
    ) -> None:
        self._step = step
        self._generators = list(generators)
        self._recorder: Recorder | None = recorder
        self._num_eager = 0
        self._replay: Callable[[], None] | None = None
        self._batch: tuple[Tensor, Tensor] | None = None

    @property
    def is_recorded(self) -> bool:
        """Whether steps are replayed."""
        return self._replay is not None

    def __call__(self, x: Tensor, y: Tensor) -> None:
        """Train on a batch."""
        if self._recorder is None:
            self._step(x, y)
            return
        if self._num_eager < NUM_EAGER:
            self._num_eager += 1
            with self._recorder.beside():
                self._step(x, y)
            return
        if self._batch is None:
            self._batch = x.clone(), y.clone()
        else:
            for place, new in zip(self._batch, (x, y), strict=True):
                place.copy_(new)
        if self._replay is None:
            batch = self._batch
            try:
                self._replay = self._recorder.record(lambda: self._step(*batch), self._generators)
            except RecordingError as error:
                log.warning("training goes on without a CUDA graph, more slowly: %s", error)
                self._recorder = self._batch = None
                self._step(x, y)
                return
        self._replay()


class CudaGraphs:
    """Records on a stream of its own, which is where CUDA can.

    No two graphs that are alive may have been recorded on one stream, nor on one that is a lane:
    cuBLAS' memory there is let go with the first of them. So each of these makes one graph at a
    time, on a stream of high priority, which lanes are not.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device, priority=-1)

    @contextmanager
    def beside(self) -> Iterator[None]:
        """Run on the stream; before and after, the streams wait for each other."""
        current = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(current)
        try:
            with torch.cuda.stream(self._stream):
                yield
        finally:
            current.wait_stream(self._stream)

    def record(
        self, run: Callable[[], object], generators: Iterable[torch.Generator]
    ) -> Callable[[], None]:
        """Its memory is the graph's own and lives as long."""
        graph, pool = torch.cuda.CUDAGraph(), torch.cuda.graph_pool_handle()
        for generator in generators:
            graph.register_generator_state(generator)
        device = self._stream.device
        current = torch.cuda.current_stream(device)
        try:
            with torch.cuda.graph(graph, pool=pool, stream=self._stream):
                run()
        except RuntimeError as error:
            # where its end fails, torch leaves its stream current and its pool in use
            torch.cuda.set_stream(current)
            torch._C._cuda_endAllocateToPool(device.index, pool)
            if is_out_of_memory(error, device):
                raise
            raise RecordingError(str(error).partition("\n")[0]) from error
        return graph.replay
