"""The memory of the machine, within a container's limit, and how the C library keeps it."""

import ctypes
import math
import os
import platform
import resource
import sys
from pathlib import Path

_CONTROL_GROUP = Path("/sys/fs/cgroup")

# of malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def keep_freed_memory() -> None:
    """Let the C library keep what was freed for the next feature map, where it is glibc.

    It returns blocks of more than 32 MiB to the system at once, and a step of batch 128 makes
    hundreds of thousands of page faults to get them back: a sixth of its time.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, 2**30)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def peak_bytes_of_process() -> int:
    """The most memory that this process has held so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def free_host_bytes() -> int:
    """The physical memory that could still be allocated within the container's limit."""
    return int(min(_available_bytes(), _container_bytes()))


def _available_bytes() -> int:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            name, _, value = line.partition(":")
            if name == "MemAvailable":
                return int(value.split()[0]) * 1024
    except OSError:  # not Linux: all that the machine has
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _container_bytes() -> float:
    """The bytes that the control group has left; infinite if it sets no limit.

    Cached files count as used there, but those not in use give way to what is allocated.
    """
    try:
        limit = (_CONTROL_GROUP / "memory.max").read_text(encoding="ascii").strip()
        used = int((_CONTROL_GROUP / "memory.current").read_text(encoding="ascii"))
        counts = (_CONTROL_GROUP / "memory.stat").read_text(encoding="ascii").splitlines()
    except OSError:
        return math.inf
    if limit == "max":
        return math.inf
    cached = next((int(line.split()[1]) for line in counts if line.startswith("inactive_file ")), 0)
    return max(0, int(limit) - max(0, used - cached))
