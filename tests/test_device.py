"""Which device trains, and what it has free; a GPU is played where there is none."""

import math
import os
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers import CPU, plans

from dsaccel.config.study import RuntimeConfig, TrainingConfig
from dsaccel.errors import ConfigError, NoMemoryError
from dsaccel.training import device as devices
from dsaccel.training import host_memory, memory_limit
from dsaccel.training.device import cpu_name, device_note, resolve_runtime, start_runtime
from dsaccel.training.device_memory import free_memory_bytes, is_out_of_memory
from dsaccel.training.memory_limit import SHARE, MemoryLimit
from dsaccel.training.workbench import eval_batch_size

CUDA = torch.device("cuda")
GIB = 2**30


@pytest.fixture
def gpus(monkeypatch):
    """Some GPUs: free and total bytes of each, and why torch cannot use it."""
    played = SimpleNamespace(memory=[(8 * GIB, 8 * GIB)], problems=[None], cuda_bf16=True)
    monkeypatch.setattr(devices, "cuda_problem", lambda index: played.problems[index])
    for name, function in {
        "device_count": lambda: len(played.memory),
        "get_device_name": lambda device: f"GPU {torch.device(device).index or 0}",
        "mem_get_info": lambda device: played.memory[torch.device(device).index or 0],
        "memory_reserved": lambda device: 0,
        "memory_allocated": lambda device: 0,
        "device": lambda device: torch.autograd.no_grad(),
        "empty_cache": lambda: None,
        "is_bf16_supported": lambda including_emulation=True: (
            including_emulation or played.cuda_bf16
        ),
    }.items():
        monkeypatch.setattr(torch.cuda, name, function)
    return played


def chosen(device="auto", **kwargs):
    return resolve_runtime(RuntimeConfig(device=device), **kwargs).device


def test_the_only_gpu_is_chosen_and_named(gpus):
    assert chosen() == "cuda"
    assert device_note(CUDA) == "device: cuda (GPU 0)"


def test_of_several_gpus_the_one_with_most_free_memory_is_chosen(gpus):
    gpus.memory = [(1 * GIB, 80 * GIB), (6 * GIB, 8 * GIB), (7 * GIB, 8 * GIB)]
    gpus.problems = [None, None, "no kernel image is available"]
    assert chosen() == "cuda:1"
    assert device_note(torch.device("cuda:1")) == "device: cuda:1 (GPU 1)"


def test_a_gpu_that_torch_cannot_use_is_told_where_the_cpu_is_taken(gpus):
    gpus.problems = ["The NVIDIA driver on your system is too old"]
    assert chosen() == "cpu"
    assert device_note(CPU).endswith(
        " (a GPU is there, but torch cannot use it: The NVIDIA driver on your system is too old)"
    )


def test_a_cpu_is_told_by_its_name_and_threads(gpus, tmp_path, monkeypatch):
    gpus.memory = []
    cpus = tmp_path / "cpuinfo"
    cpus.write_text("processor\t: 0\nmodel name\t: Small CPU 7\n")
    monkeypatch.setattr("dsaccel.training.device._CPUS", cpus)
    cpu_name.cache_clear()
    assert chosen() == "cpu"
    assert device_note(CPU, 1) == "device: cpu (Small CPU 7, 1 thread)"
    cpu_name.cache_clear()


def test_a_gpu_that_was_asked_for_and_cannot_be_used_is_an_error_with_a_way_out(gpus):
    gpus.problems = ["no kernel image is available for execution on the device"]
    with pytest.raises(ConfigError, match=r"cuda must be .* no kernel image .* --device cpu"):
        chosen("cuda")


def test_what_keeps_torch_from_a_gpu_is_its_own_first_line(monkeypatch):
    def init():
        raise RuntimeError("The NVIDIA driver is too old\nPlease update it")

    monkeypatch.setattr(torch.cuda, "init", init)
    devices.cuda_problem.cache_clear()
    assert devices.cuda_problem(0) == "The NVIDIA driver is too old"
    devices.cuda_problem.cache_clear()


def test_bf16_is_refused_on_a_gpu_that_only_emulates_it(gpus):
    assert chosen("cuda", precision="bf16") == "cuda"
    gpus.cuda_bf16 = False
    assert chosen("cuda") == "cuda"
    with pytest.raises(ConfigError, match=r"precision must be fp32 on cuda \(GPU 0\).*--precision"):
        chosen("cuda", precision="bf16")


# ---------------------------------------------------------------------- a lack of memory


def test_the_allocators_own_errors_are_recognised():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**55)
    assert is_out_of_memory(caught.value, CPU)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"), CUDA)
    assert is_out_of_memory(MemoryError(), CPU)
    assert is_out_of_memory(RuntimeError("CUDA error: out of memory\nKernel errors might"), CUDA)
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"), CPU)


@pytest.mark.parametrize(
    "message",
    [
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
        "GET was unable to find an engine to execute this computation",
    ],
)
def test_what_cudas_libraries_say_is_a_lack_of_memory_where_it_is_short(gpus, message):
    assert not is_out_of_memory(RuntimeError(message), CUDA)
    assert not is_out_of_memory(RuntimeError(message), CPU)
    gpus.memory = [(GIB // 2, 8 * GIB)]
    assert is_out_of_memory(RuntimeError(message), CUDA)


def test_an_error_at_the_end_of_what_ran_out_of_memory_is_recognised():
    def recording():
        try:
            raise torch.OutOfMemoryError
        finally:
            raise RuntimeError("operation failed due to a previous error during capture")

    with pytest.raises(RuntimeError) as caught:
        recording()
    assert is_out_of_memory(caught.value, CPU)


@pytest.fixture
def cuda_calls(monkeypatch):
    """What is asked of CUDA, where there is none."""
    calls = []
    for name in ("init", "set_device", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, lambda *args, name=name: calls.append((name, *args)))
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    yield calls
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = True  # pyright: ignore


@pytest.mark.parametrize(("name", "index"), [("cuda", 0), ("cuda:1", 1)])
def test_a_run_on_cuda_is_on_its_device_and_repeats_its_bits(cuda_calls, name, index):
    device = start_runtime(RuntimeConfig(device=name, threads=torch.get_num_threads()))
    assert device == torch.device(name)
    assert [call[0] for call in cuda_calls] == ["init", "set_device", "reset_peak_memory_stats"]
    assert cuda_calls[1][1] == index
    assert torch.are_deterministic_algorithms_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_free_memory_is_some_and_below_what_a_machine_can_have():
    assert 2**20 < free_memory_bytes(CPU) < 2**50
    assert math.isfinite(free_memory_bytes(CPU))


@pytest.mark.parametrize(
    ("limit", "used", "cached", "free"),
    [
        ("5000", 4000, 0, 1000),
        ("5000", 5000, 3000, 3000),
        ("5000", 6000, 0, 0),
        ("max", 9, 0, None),
    ],
)
def test_files_that_a_container_has_cached_are_free_memory(
    tmp_path, monkeypatch, limit, used, cached, free
):
    """Once it has read much, they fill all that its limit leaves."""
    for name, text in {
        "memory.max": limit,
        "memory.current": used,
        "memory.stat": f"anon 1\nactive_file 7\ninactive_file {cached}\nslab 8",
    }.items():
        (tmp_path / name).write_text(f"{text}\n")
    monkeypatch.setattr(host_memory, "_CONTROL_GROUP", tmp_path)
    monkeypatch.setattr(host_memory, "_available_bytes", lambda: 10**6)
    assert free_memory_bytes(CPU) == (10**6 if free is None else free)


# ---------------------------------------------------------------------- a GPU that others use


@pytest.fixture
def shared(gpus, monkeypatch):
    """A GPU of which another process holds all, and lets go the second time it is waited for."""
    gpus.memory = [(0, 8 * GIB)]
    waits = []

    def sleep(seconds):
        waits.append(seconds)
        if len(waits) == 2:
            gpus.memory = [(8 * GIB, 8 * GIB)]

    monkeypatch.setattr(memory_limit.time, "sleep", sleep)
    return SimpleNamespace(gpus=gpus, waits=waits)


def test_a_network_waits_for_memory_that_other_processes_hold(shared, caplog):
    limit = MemoryLimit(None, CUDA, 48)
    limit.check(plans("1-1-1"), TrainingConfig(batch_size=16))
    assert len(shared.waits) == 2
    assert limit.limit_bytes == int(SHARE * 8 * GIB)
    assert caplog.messages == ["waiting for other processes to free memory of cuda"]


def test_it_does_not_wait_for_what_the_gpu_has_not(shared):
    shared.gpus.memory = [(0, GIB // 100)]
    with pytest.raises(NoMemoryError, match="memory must be at least"):
        MemoryLimit(None, CUDA, 48).check(plans("1-1-1"), TrainingConfig(batch_size=16))
    assert not shared.waits


def test_it_does_not_wait_for_ever(shared, monkeypatch):
    monkeypatch.setattr(memory_limit, "WAIT_S", 0.0)
    with pytest.raises(NoMemoryError, match="memory must be at least"):
        MemoryLimit(None, CUDA, 48).check(plans("1-1-1"), TrainingConfig(batch_size=16))


@pytest.mark.parametrize(("gib", "side", "size"), [(24, 32, 512), (8, 32, 16), (80, 128, 16)])
def test_a_gpu_evaluates_512_images_at_a_time_where_they_take_little_of_it(gib, side, size):
    data: Any = SimpleNamespace(side=side, val=SimpleNamespace(batch_size=16))
    assert eval_batch_size(data, 1.0, gib * GIB) == size
