"""Measure the memory and the time that training a network takes."""

import statistics
import time
from collections.abc import Iterator
from itertools import islice

import torch
from torch import Tensor

from dsaccel.config.study import TrainingConfig
from dsaccel.spec.plan import Plan
from dsaccel.ticks import counted, unheard
from dsaccel.training.cohort import Cohort
from dsaccel.training.descent import Batches, train_batch
from dsaccel.training.meter import peak_bytes

NUM_TIMED = 3


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


def step_seconds(
    plan: Plan, training: TrainingConfig, data: Batches, *, device: torch.device
) -> float:
    """The measured seconds in which each unit of one network, alone, learns once from a batch: the
    median of a few steps after one that warms up; 0 if there is no whole batch.
    """
    cohort = Cohort({plan.hierarchy: plan}, training, data, seed=0, device=device)
    num = 1 + NUM_TIMED
    times = list(counted(islice(_timed_steps(cohort), num), "steps timed", num))[1:]
    return statistics.median(times) if times else 0.0


def _timed_steps(cohort: Cohort) -> Iterator[float]:
    """The seconds of each step; the batches come again where they are few."""
    for learner in cohort.learners.values():
        learner.start_epoch(1)
    for epoch in range(1, 2 + NUM_TIMED):
        with unheard():
            batches = list(islice(cohort.data.train_batches(epoch), 1 + NUM_TIMED))
        for x, y in batches:
            started = time.perf_counter()
            train_batch(cohort.trie.roots, cohort.learners, x, y)
            if cohort.device.type == "cuda":
                torch.cuda.synchronize(cohort.device)
            yield time.perf_counter() - started
