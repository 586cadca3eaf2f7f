"""Where training runs: the device, the CPU threads, and what they cost in memory."""

import ctypes
import os
import platform
import resource
import sys

import torch

from dsaccel.config import RuntimeConfig
from dsaccel.errors import ConfigError

# of malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def resolve_runtime(runtime: RuntimeConfig) -> RuntimeConfig:
    """Put a device and a thread count in the place of `auto` and None.

    Raises:
        ConfigError: if the device does not exist here.
    """
    device = runtime.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    _check_device(device)
    return RuntimeConfig(device=device, threads=runtime.threads or _num_cores())


def start_runtime(runtime: RuntimeConfig) -> torch.device:
    """Set this process up as a resolved runtime says; results depend on the thread count."""
    assert runtime.threads is not None
    torch.set_num_threads(runtime.threads)
    device = torch.device(runtime.device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        keep_freed_memory()
    return device


def keep_freed_memory() -> None:
    """Let the C library keep what was freed for the next feature map, where it is glibc.

    It returns blocks of more than 32 MiB to the system at once, and a step of batch 128 makes
    hundreds of thousands of page faults to get them back: a sixth of its time.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, 2**30)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def peak_memory_bytes(device: torch.device) -> int:
    """The most memory held so far: the device's allocator's, on CPU the whole process's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _num_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _check_device(name: str) -> None:
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"device must be auto, cpu, cuda or cuda:N, but got {name!r}") from None
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device must be auto, cpu, cuda or cuda:N, but got {name!r}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device {name} must exist, but {torch.cuda.device_count()} CUDA devices were found; "
            "use --device cpu"
        )
