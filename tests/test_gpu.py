"""What holds on a CPU holds on a GPU; `make test-gpu`."""

import pytest
import torch
from helpers import TRAINING, Batches, plans

from dsaccel.training.cohort import Cohort

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA"),
]


class OnDevice(Batches):
    def train_batches(self, epoch):
        return ((x.cuda(), y.cuda()) for x, y in super().train_batches(epoch))

    def val_batches(self):
        return ((x.cuda(), y.cuda()) for x, y in super().val_batches())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("schedule", ["simultaneous", "sequential"])
def test_a_cohort_trains_on_a_gpu(schedule, precision):
    training = TRAINING.model_copy(update={"schedule": schedule, "precision": precision})
    device = torch.device("cuda")
    cohort = Cohort(plans("1-1-2", "1-2-1"), training, OnDevice(), seed=1, device=device)
    *_, last = cohort.rungs()
    assert all(0 <= accuracy <= 1 for heads in last.accuracies.values() for accuracy in heads)
