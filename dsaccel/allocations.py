"""Measure memory: the most tensor bytes that live at once while something runs."""

import gc
from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile


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
    # acc_events: of all that the profiler saw, without a warning
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as record:
        run()
    assert record.profiler is not None
    assert record.profiler.kineto_results is not None
    events = [e for e in record.profiler.kineto_results.events() if e.name() == "[memory]"]
    level = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        level += event.nbytes()  # pyright: ignore[reportAttributeAccessIssue]
        peak = max(peak, level)
    return peak
