"""Average pooling before the local classifiers against torch's, and the memory that is kept."""

import os
import platform
import subprocess
import sys

import pytest
import torch
from torch.nn import functional as F

from dsaccel.nn.pooling import AveragePool, average_pool


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("kernel", [(2, 2), (4, 2), (2, 4), (8, 8), (3, 3), (16, 8)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_average_pooling_and_its_gradient_are_torchs(kernel, memory_format):
    h = normal(3, 5, 8, 8).contiguous(memory_format=memory_format).requires_grad_()
    theirs = F.avg_pool2d(h, kernel, ceil_mode=True)
    ours = average_pool(h, kernel)
    assert torch.equal(ours, theirs)
    gradient = normal(*theirs.shape, seed=1)
    (expected,) = torch.autograd.grad(theirs, h, gradient)
    (got,) = torch.autograd.grad(ours, h, gradient)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-15)


def test_the_gradient_of_average_pooling_is_that_of_small_differences():
    h = normal(2, 3, 4, 6).requires_grad_()
    assert torch.autograd.gradcheck(lambda h: AveragePool.apply(h, (2, 3)), (h,))


KEEP = """
import ctypes, resource, sys, torch
from dsaccel.config.study import RuntimeConfig
from dsaccel.training.device import start_runtime
PR_SET_THP_DISABLE = 41
ctypes.CDLL(None).prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)
if sys.argv[1] == "keep":
    start_runtime(RuntimeConfig(device="cpu", threads=1))
faults = []
for _ in range(20):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(10 * 2**20)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(min(faults[6:]) * resource.getpagesize() / (40 * 2**20))
"""


@pytest.mark.long
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_a_large_map_is_made_in_the_memory_of_the_one_before():
    """40 MiB, whose pages the system would map anew each time.

    The least of several: on a busy machine the system takes idle pages back on its own account.
    Without what changes the allocator from outside, and without huge pages, which are mapped by
    the hundreds.
    """
    of_allocator = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(of_allocator)}

    def share_mapped(mode: str) -> float:
        command = [sys.executable, "-c", KEEP, mode]
        run = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        return float(run.stdout)

    assert share_mapped("keep") < 0.01
    assert share_mapped("as it is") > 0.97
