"""What decides the last bits of a result beside the settings: the device and the libraries."""

from collections.abc import Mapping

import torch

from dsaccel.training.device import cpu_name


def arithmetic(device: torch.device, threads: int | None) -> dict[str, str]:
    """Equal for processes that compute the same bits."""
    known = {"torch": torch.__version__, "device": _name_of(device)}
    if device.type == "cuda":
        cudnn = str(torch.backends.cudnn.version())
        return known | {"CUDA": str(torch.version.cuda), "cuDNN": cudnn}
    return known | {"threads": str(threads)}


def changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What differs between two, as far as both say it."""
    both = [name for name in before if name in now]
    return [f"{name} {before[name]} -> {now[name]}" for name in both if before[name] != now[name]]


def _name_of(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{cpu_name()} ({torch.backends.cpu.get_cpu_capability()})"
