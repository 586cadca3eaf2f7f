"""Weights cast together are those that autocast casts one by one."""

import pytest
import torch
from helpers import CPU, NETWORK, Batches, plan

from dsaccel.config.study import TrainingConfig
from dsaccel.training.learner import Learner

BF16 = TrainingConfig(precision="bf16", batch_size=16, epochs=1)


@pytest.mark.parametrize("granularity", ["conv", "block"])
def test_a_unit_learns_the_bits_that_it_learns_by_autocast(granularity, monkeypatch):
    network = NETWORK.model_copy(update={"granularity": granularity})
    segments = plan("1-2-1", network=network).segments
    learned = []
    for is_by_autocast in (False, True):
        if is_by_autocast:
            monkeypatch.setattr("dsaccel.training.learner.cast_by_autocast", lambda _unit: [])
        made = [Learner(segment, BF16, seed=1, device=CPU) for segment in segments]
        for learner in made:
            learner.start_epoch(1)
        for x, y in Batches().train_batches(1):
            for learner in made:
                x = learner.step(x, y)
        parameters = [p for learner in made for unit in learner.units for p in unit.parameters()]
        assert {p.dtype for p in parameters} == {torch.float32}
        learned.append(parameters)
    assert all(torch.equal(a, b) for a, b in zip(*learned, strict=True))
