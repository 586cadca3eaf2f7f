"""The memory that runs take, from torch's own record of each allocation and release."""

import gc
import os
from collections.abc import Callable
from typing import Any

from torch._C._profiler import _EventType
from torch.autograd.profiler import profile


def profiled_peak_bytes(run: Callable[[], object]) -> int:
    """The most tensor bytes on a CPU during `run`, above those before it."""
    gc.collect()
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # writes to stderr otherwise
    record = profile(profile_memory=True)
    with record:
        run()
    held: dict[int, int] = {}  # bytes by address
    level = peak = 0
    for event in _memory_events(record):
        address, size = event.extra_fields.ptr, event.extra_fields.alloc_size
        if size > 0:
            held[address] = size
            level += size
        else:  # of what was there before the size may be wrong
            level -= held.pop(address, 0)
        peak = max(peak, level)
    return peak


def _memory_events(record: profile) -> list[Any]:
    """In the order of time; on a coarse clock in that of the record."""
    assert record.kineto_results is not None
    found = []
    todo = list(reversed(record.kineto_results.experimental_event_tree()))
    while todo:
        event = todo.pop()
        if event.tag == _EventType.Allocation:
            found.append(event)
        todo.extend(reversed(event.children))
    return sorted(found, key=lambda event: event.start_time_ns)
