"""What decides the last bits of a result beside the settings: the device and the libraries."""

import platform
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch


def arithmetic(device: torch.device, threads: int | None) -> dict[str, str]:
    """Equal for processes that compute the same bits."""
    known = {"torch": torch.__version__, "device": _name_of(device)}
    if device.type == "cuda":
        cudnn = str(torch.backends.cudnn.version())
        return known | {"CUDA": str(torch.version.cuda), "cuDNN": cudnn}
    return known | {"threads": str(threads)}


def changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """In which two differ, as far as both say it."""
    both = [name for name in before if name in now]
    return [f"{name} {before[name]} -> {now[name]}" for name in both if before[name] != now[name]]


def _name_of(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_cpu_model()} ({torch.backends.cpu.get_cpu_capability()})"


@cache
def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    except OSError:  # not Linux
        pass
    return platform.processor() or platform.machine()
