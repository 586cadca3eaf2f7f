"""Measure memory: the most tensor bytes that live at once while something runs."""

import gc
import os
from collections.abc import Callable, Iterator
from itertools import islice

import torch
from torch import Tensor
from torch.autograd.profiler import profile

from dsaccel.config import TrainingConfig
from dsaccel.networks.plan import Plan
from dsaccel.training.cohort import Cohort
from dsaccel.training.schedules import Batches


def peak_bytes(run: Callable[[], object], device: torch.device) -> int:
    """The highest level of allocated tensor bytes during `run`, above the level before it.

    On CUDA as the allocator counts; on a CPU from the profiler's record of each allocation and
    release, which slows `run` down but is exact. Libraries' own buffers are not counted.
    """
    gc.collect()  # what is garbage already must not be released, and subtracted, in between
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        return torch.cuda.max_memory_allocated(device) - before
    # its library writes to stderr when it starts and stops, whatever its level is, up to this one
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    # not torch.profiler's, which makes a tree of all that ran: many times the time of the run
    record = profile(profile_memory=True)
    with record:
        run()
    assert record.kineto_results is not None
    events = [e for e in record.kineto_results.events() if e.name() == "[memory]"]
    level = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        level += event.nbytes()  # pyright: ignore[reportAttributeAccessIssue]
        peak = max(peak, level)
    return peak


class FirstBatches:
    """A pair of training batches and one of validation: enough to reach the peak of training."""

    def __init__(self, data: Batches) -> None:
        self.data = data

    def train_batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        return islice(self.data.train_batches(epoch), 2)

    def val_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        return islice(self.data.val_batches(), 1)


def training_peak_bytes(
    plan: Plan, training: TrainingConfig, data: Batches, *, device: torch.device
) -> int:
    """The measured peak of training one network alone: two batches of its schedule, then read.

    Weights and Adam's averages are in it, images are not; nor are the feature caches of a
    sequential schedule, beyond what two batches fill of them.
    """
    short = training.model_copy(update={"epochs": 1})
    batches = FirstBatches(data)
    return peak_bytes(
        lambda: list(Cohort({"": plan}, short, batches, seed=0, device=device).rungs()), device
    )
