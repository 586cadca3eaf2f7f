"""Measure memory: the most tensor bytes that live at once while something runs."""

import gc
import os
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch._C._profiler import _EventType
from torch.autograd.profiler import profile

from dsaccel.config.study import TrainingConfig
from dsaccel.spec.plan import Plan
from dsaccel.training.cohort import Cohort
from dsaccel.training.schedules import Batches


def peak_bytes(run: Callable[[], object], device: torch.device) -> int:
    """The highest level of allocated tensor bytes during `run`, above the level before it.

    On CUDA as the allocator counts; on a CPU from the profiler's record of each allocation and
    release, which slows `run` down but is exact, but for the release of what was there before:
    that does not lower the level. Libraries' own buffers are not counted.
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
    held: dict[int, int] = {}  # bytes by address
    level = peak = 0
    for event in memory_events(record):
        address, size = event.extra_fields.ptr, event.extra_fields.alloc_size
        if size > 0:
            held[address] = size
            level += size
        else:
            # not `size`: for what it did not see allocated, torch gives the size of what it last
            # saw there, in an earlier record
            level -= held.pop(address, 0)
        peak = max(peak, level)
    return peak


def memory_events(record: profile) -> list[Any]:
    """Allocations and releases, in the order of time; on a coarse clock in that of the record."""
    assert record.kineto_results is not None
    found = []
    todo = list(reversed(record.kineto_results.experimental_event_tree()))
    while todo:
        event = todo.pop()
        if event.tag == _EventType.Allocation:
            found.append(event)
        todo.extend(reversed(event.children))
    return sorted(found, key=lambda event: event.start_time_ns)


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
        lambda: list(Cohort({plan.hierarchy: plan}, short, batches, seed=0, device=device).rungs()),
        device,
    )
