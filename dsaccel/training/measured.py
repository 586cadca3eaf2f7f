"""Measure the memory that training a network takes."""

from collections.abc import Iterator
from itertools import islice

import torch
from torch import Tensor

from dsaccel.config.study import TrainingConfig
from dsaccel.spec.plan import Plan
from dsaccel.training.cohort import Cohort
from dsaccel.training.descent import Batches
from dsaccel.training.meter import peak_bytes


class FirstBatches:
    """A pair of training batches and one of validation: enough to reach the peak of training."""

    def __init__(self, data: Batches) -> None:
        self.data = data

    def train_batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        return islice(self.data.train_batches(epoch), 2)

    def val_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        return islice(self.data.val_batches(), 1)


def training_peak_bytes(
    plan: Plan, training: TrainingConfig, data: Batches, *, device: torch.device
) -> int:
    """The measured peak of training one network alone: two batches of its schedule, then read.

    Weights and the optimizer's averages are in it, images are not; nor are the feature caches of a
    sequential schedule, beyond what two batches fill of them.
    """
    short = training.model_copy(update={"epochs": 1})
    batches = FirstBatches(data)
    return peak_bytes(
        lambda: list(Cohort({plan.hierarchy: plan}, short, batches, seed=0, device=device).rungs()),
        device,
    )
