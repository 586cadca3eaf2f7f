"""What holds on a CPU holds on a GPU; `make test-gpu`."""

import pytest
import torch
from helpers import TRAINING, Batches, H, differing, plans, tensors

from dsaccel.config.study import RuntimeConfig
from dsaccel.training.checkpoint import load_checkpoint, save_checkpoint
from dsaccel.training.cohort import Cohort
from dsaccel.training.device import start_runtime

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA"),
]


class OnDevice(Batches):
    def train_batches(self, epoch):
        return ((x.cuda(), y.cuda()) for x, y in super().train_batches(epoch))

    def val_batches(self):
        return ((x.cuda(), y.cuda()) for x, y in super().val_batches())


@pytest.fixture(autouse=True, scope="module")
def cuda():
    """As `dsaccel` sets it up: the same bits each time."""
    start_runtime(RuntimeConfig(device="cuda", threads=torch.get_num_threads()))
    yield
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = True  # pyright: ignore


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_graph_trains_as_single_launches_do(precision):
    """Through dropout, decays of the learning rate and a retirement, bit for bit."""
    data = OnDevice(num_images=160)
    ends = []
    for way in ({}, {"cuda_graph": True}, {"cuda_graph": True, "cuda_lanes": 5}):
        training = TRAINING.model_copy(update={"precision": precision, **way})
        networks = plans("1-1-2", "1-2-1", "2-1-1")
        cohort = Cohort(networks, training, data, seed=1, device=torch.device("cuda"))
        rungs = cohort.rungs()
        next(rungs)
        cohort.retire({H("2-1-1")})
        *_, last = rungs
        ends.append((last.accuracies, tensors(cohort, H("1-1-2")), tensors(cohort, H("1-2-1"))))
    (accuracies, *plain), *others = ends
    for accuracies_recorded, *recorded in others:
        assert accuracies_recorded == accuracies
        assert [differing(a, b) for a, b in zip(plain, recorded, strict=True)] == [[], []]


def test_a_cohort_goes_on_from_a_checkpoint_on_a_gpu(tmp_path):
    """The learning rate is a tensor there, and what is saved may be read to another place."""
    device, path = torch.device("cuda"), tmp_path / "checkpoint.pt"
    networks = plans("1-1-2", "1-2-1")
    whole, begun, resumed = (
        Cohort(networks, TRAINING, OnDevice(), seed=1, device=device) for _ in range(3)
    )
    *_, last = whole.rungs()
    next(begun.rungs())
    save_checkpoint(path, "key", begun)
    assert load_checkpoint(path, "key", resumed)
    *_, again = resumed.rungs()
    assert again.accuracies == last.accuracies


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("schedule", ["simultaneous", "sequential"])
def test_a_cohort_trains_on_a_gpu(schedule, precision):
    training = TRAINING.model_copy(update={"schedule": schedule, "precision": precision})
    device = torch.device("cuda")
    cohort = Cohort(plans("1-1-2", "1-2-1"), training, OnDevice(), seed=1, device=device)
    *_, last = cohort.rungs()
    assert all(0 <= accuracy <= 1 for heads in last.accuracies.values() for accuracy in heads)
