"""Where training runs: the device that is chosen, and this process set up for it."""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch

from dsaccel.config.study import RuntimeConfig
from dsaccel.errors import ConfigError
from dsaccel.training.host_memory import keep_freed_memory

_CPUS = Path("/proc/cpuinfo")
_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


def resolve_runtime(runtime: RuntimeConfig, *, precision: str = "fp32") -> RuntimeConfig:
    """Put a device and a thread count in the place of `auto` and None.

    Args:
        runtime: as it was asked for.
        precision: that the device must be able to compute with.

    Raises:
        ConfigError: if torch cannot use the device.
    """
    if runtime.devices is not None:
        device = worker_devices(runtime)[0]
    else:
        device = _freest_device() if runtime.device == "auto" else runtime.device
    _check_device(device)
    if runtime.workers is not None and torch.device(device).type != "cpu":
        raise ConfigError(
            f"runtime.workers is for a CPU, but the device is {device}; name the GPUs with "
            "--devices, or use --device cpu"
        )
    if precision == "bf16":
        _check_bf16(torch.device(device))
    return runtime.model_copy(update={"device": device, "threads": runtime.threads or num_cores()})


def worker_devices(runtime: RuntimeConfig) -> list[str]:
    """The device of each worker process on this machine.

    Raises:
        ConfigError: if torch cannot use one of them, or one is named twice.
    """
    if runtime.devices is None:
        return ["cpu"] * (runtime.workers or 1)
    named = [name.strip() for name in runtime.devices.split(",")]
    if named == ["all"]:
        named = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
        if not named:
            raise ConfigError(
                "runtime.devices = all needs a GPU, but none was found; use --workers on a CPU"
            )
    whole = ["cuda:0" if name == "cuda" else name for name in named]
    for name in whole:
        _check_device(name)
        if whole.count(name) > 1:
            raise ConfigError(
                f"runtime.devices must name each device once, but got {runtime.devices}; for "
                "several processes on a CPU use --workers"
            )
    return whole


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


def device_words(device: torch.device, threads: int | None = None) -> str:
    """`cpu (AMD EPYC 7B13, 2 threads)`, `cuda:1 (NVIDIA H100)`."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    num = torch.get_num_threads() if threads is None else threads
    return f"{device} ({cpu_name()}, {num} {'thread' if num == 1 else 'threads'})"


@cache
def cpu_name() -> str:
    lines = _CPUS.read_text().splitlines() if _CPUS.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, None) or platform.processor() or platform.machine()


def device_note(device: torch.device, threads: int | None = None) -> str:
    """Which device trains, and why no GPU."""
    if device.type == "cuda":
        return f"device: {device_words(device)}"
    problems = {cuda_problem(index) for index in range(torch.cuda.device_count())} - {None}
    reasons = "; ".join(sorted(map(str, problems)))
    why = f" (a GPU is there, but torch cannot use it: {reasons})" if reasons else ""
    return f"device: {device_words(device, threads)}{why}"


@cache
def cuda_problem(index: int) -> str | None:
    """Why torch cannot use a GPU, found out with one small kernel; None if it can."""
    try:
        torch.cuda.init()
        torch.zeros(1, device=f"cuda:{index}").add_(1).item()
    except (RuntimeError, AssertionError) as error:
        return str(error).strip().partition("\n")[0] or type(error).__name__
    return None


def unfolds_bf16(device: torch.device) -> bool:
    """Whether torch convolves bf16 the long way here: oneDNN supports some CPUs only."""
    if device.type != "cpu":
        return False
    has_onednn = torch.backends.mkldnn.is_available()
    return not (has_onednn and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _freest_device() -> str:
    """The usable GPU with the most free memory; the CPU if there is none."""
    usable = [i for i in range(torch.cuda.device_count()) if cuda_problem(i) is None]
    if not usable:
        return "cpu"
    if torch.cuda.device_count() == 1:
        return "cuda"
    free = {index: torch.cuda.mem_get_info(index)[0] for index in usable}
    return f"cuda:{max(usable, key=lambda index: free[index])}"


def _check_device(name: str) -> None:
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"device must be auto, cpu, cuda or cuda:N, but got {name!r}") from None
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device must be auto, cpu, cuda or cuda:N, but got {name!r}")
    if device.type == "cpu":
        return
    if (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device {name} must exist, but {torch.cuda.device_count()} CUDA devices were found; "
            "use --device cpu"
        )
    if problem := cuda_problem(device.index or 0):
        raise ConfigError(
            f"device {name} must be one that torch can use, but: {problem}; update its driver, "
            "install a build of torch for it (pytorch.org), or use --device cpu"
        )


def _check_bf16(device: torch.device) -> None:
    """`is_bf16_supported` says so of GPUs too that only emulate it: convolutions cannot."""
    if device.type != "cuda":
        return
    with torch.cuda.device(device):
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return
    raise ConfigError(
        f"training.precision must be fp32 on {device} ({torch.cuda.get_device_name(device)}), "
        "which cannot compute with bf16; use --precision fp32"
    )


def num_cores() -> int:
    """The number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
