"""Where training runs: the device, the CPU threads, and what they cost in memory."""

import ctypes
import gc
import math
import os
import platform
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from dsaccel.config.study import RuntimeConfig
from dsaccel.errors import ConfigError

_CONTROL_GROUP = Path("/sys/fs/cgroup")

_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"

# of malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3

_OUT_OF_MEMORY = (
    "DefaultCPUAllocator",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "unable to find an engine",  # cuDNN, when each one's workspace was refused
)
"""What a RuntimeError says when it is this."""


def resolve_runtime(runtime: RuntimeConfig) -> RuntimeConfig:
    """Put a device and a thread count in the place of `auto` and None.

    Raises:
        ConfigError: if the device does not exist here.
    """
    device = runtime.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    _check_device(device)
    return runtime.model_copy(update={"device": device, "threads": runtime.threads or _num_cores()})


def start_runtime(runtime: RuntimeConfig) -> torch.device:
    """Set this process up as a resolved runtime says; results depend on the thread count."""
    assert runtime.threads is not None
    torch.set_num_threads(runtime.threads)
    device = torch.device(runtime.device)
    if device.type == "cuda":
        repeat_bits()
        torch.cuda.init()
        torch.cuda.set_device(device.index or 0)
        torch.cuda.reset_peak_memory_stats(device)
    else:
        keep_freed_memory()
    return device


@contextmanager
def running(runtime: RuntimeConfig) -> Iterator[torch.device]:
    """Set this process up as `start_runtime` does, and at the end as it was before."""
    threads, workspace = torch.get_num_threads(), os.environ.get(_WORKSPACE)
    exact = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark, filled = torch.backends.cudnn.benchmark, torch.utils.deterministic
    fill = filled.fill_uninitialized_memory  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield start_runtime(runtime)
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(exact, warn_only=warn_only)
        torch.backends.cudnn.benchmark = benchmark
        filled.fill_uninitialized_memory = fill  # pyright: ignore[reportAttributeAccessIssue]
        if workspace is None:
            os.environ.pop(_WORKSPACE, None)


def repeat_bits() -> None:
    """Have CUDA compute the same bits each time, as a CPU does: the prefix law holds to the bit.

    To be called before anything is computed there. An operation that can't is a warning.
    """
    os.environ.setdefault(_WORKSPACE, ":4096:8")
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True, warn_only=True)
    # would fill each new tensor once more
    torch.utils.deterministic.fill_uninitialized_memory = False  # pyright: ignore[reportAttributeAccessIssue]


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


def free_memory_bytes(device: torch.device) -> int:
    """What could still be allocated: on a CPU in physical memory, within the container's limit."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return free + cached
    return int(min(_available_bytes(), _container_bytes()))


def unfolds_bf16(device: torch.device) -> bool:
    """Whether torch convolves bf16 the long way there: oneDNN does it on some CPUs only, as x86
    from AVX-512 on.
    """
    if device.type != "cpu":
        return False
    has_onednn = torch.backends.mkldnn.is_available()
    return not (has_onednn and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocator, the device's or the CPU's, had nothing left to give."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    if isinstance(error, RuntimeError) and any(text in str(error) for text in _OUT_OF_MEMORY):
        return True
    # the end of a recording that has failed fails as well
    return error.__context__ is not None and is_out_of_memory(error.__context__)


def release_memory(device: torch.device) -> None:
    """Hand back what an allocator keeps for later."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


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
    """What the control group has left; infinite if it sets no limit.

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
