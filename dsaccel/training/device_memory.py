"""The memory of a device: what is free, what was the most, and whether an error is a lack of it."""

import gc

import torch

from dsaccel.training.host_memory import free_host_bytes, peak_bytes_of_process

_OUT_OF_MEMORY = ("DefaultCPUAllocator", "CUDA error: out of memory")
"""Words of a RuntimeError when an allocator had nothing left."""

_PERHAPS_OUT_OF_MEMORY = (
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_NOT_INITIALIZED",
    "CUDNN_STATUS_INTERNAL_ERROR",  # ..._DEVICE_ALLOCATION_FAILED among them
    "unable to find an engine",  # each one's workspace was refused; or none is for this type
)
"""Words of CUDA's libraries when they get no memory, but also for other reasons."""

SHORT = 0.1
"""A device is short of memory when less than this share of it is free."""


def peak_memory_bytes(device: torch.device) -> int:
    """The most memory held so far: the device's allocator's, on CPU the whole process's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return peak_bytes_of_process()


def free_memory_bytes(device: torch.device) -> int:
    """The bytes that could still be allocated."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return free + cached
    return free_host_bytes()


def total_memory_bytes(device: torch.device) -> int:
    """All that a GPU has."""
    return torch.cuda.mem_get_info(device)[1]


def is_out_of_memory(error: BaseException, device: torch.device) -> bool:
    """Whether an allocator, the device's or the CPU's, had nothing left to give."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    if isinstance(error, RuntimeError):
        if any(text in str(error) for text in _OUT_OF_MEMORY):
            return True
        if any(text in str(error) for text in _PERHAPS_OUT_OF_MEMORY) and _is_short(device):
            return True
    # the end of a recording that has failed fails as well
    return error.__context__ is not None and is_out_of_memory(error.__context__, device)


def release_memory(device: torch.device) -> None:
    """Hand back what an allocator keeps for later."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _is_short(device: torch.device) -> bool:
    """Libraries ask the driver, not torch's allocator and what that keeps for later."""
    if device.type != "cuda":
        return False
    free, total = torch.cuda.mem_get_info(device)
    return free < SHORT * total
