"""The sequential schedule (Algorithm 1): unit after unit, exactly, in a trie as alone."""

import pytest
import torch
from helpers import CPU, NETWORK, Batches, cohort, differing, plan, plans, tensors, trained
from torch import nn
from torch.nn import functional as F

from dsaccel import learner as learner_module
from dsaccel import sequential as sequential_module
from dsaccel.config import TrainingConfig
from dsaccel.feature_cache import FeatureCache, Key
from dsaccel.learner import Learner
from dsaccel.nn import Features
from dsaccel.rung import Rung
from dsaccel.seeds import derive
from dsaccel.trie import Trie

TRAINING = TrainingConfig(
    schedule="sequential", epochs=2, batch_size=16, learning_rate=1e-2, lr_milestones=(0.5,)
)
NAMES = ("1-1-2", "1-2-1", "2-1-1", "1-1-1")
SETTINGS = {
    "conv": {},
    "block": {"granularity": "block"},
    "stage": {"granularity": "stage"},
    "first_loss": {"first_loss": 2},
    "deep_first_loss": {"first_loss": 5},
}


def update(config, **values):
    return config.model_copy(update=values)


def disagreements(together, networks, training):
    """What differs between networks trained together and each alone."""
    wrong = []
    for name, network in networks.items():
        alone = trained({name: network}, training)
        wrong += differing(tensors(together, name), tensors(alone, name))
        if together.head_accuracies(name) != alone.head_accuracies(name):
            wrong.append(f"{name} accuracies")
    return wrong


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("setting", SETTINGS)
def test_a_trie_trains_each_hierarchy_as_if_alone(setting, precision):
    networks = plans(*NAMES, network=update(NETWORK, **SETTINGS[setting]))
    training = update(TRAINING, precision=precision)
    together = cohort(networks, training)
    for rung in together.rungs():
        if rung.step == 2:
            together.trie.retire({"1-1-1"})
    assert set(together.learners) == set(together.trie.nodes())
    assert not disagreements(together, plans(*NAMES[:3], network=networks_of(setting)), training)


def networks_of(setting):
    return update(NETWORK, **SETTINGS[setting])
