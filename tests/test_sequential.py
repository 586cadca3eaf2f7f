"""The sequential schedule (Algorithm 1): unit after unit, exactly, in a trie as alone."""

from typing import Any

import pytest
import torch
from helpers import (
    CPU,
    NETWORK,
    Batches,
    H,
    cohort,
    differing,
    disagreements,
    plan,
    plans,
    tensors,
    trained,
    whole_and_resumed,
)
from optuna.trial import TrialState
from test_prefix_law import nameless
from torch import nn
from torch.nn import functional as F

from dsaccel.config.study import StudyConfig, TrainingConfig
from dsaccel.nn.units import Features
from dsaccel.schedules.sequential import sequential
from dsaccel.search.setup import open_search
from dsaccel.seeds import derive
from dsaccel.spec.rung import Rung
from dsaccel.spec.trie import Trie
from dsaccel.study.folder import StudyDir
from dsaccel.study.resume import Recorded, check_same
from dsaccel.training import learner as learner_module
from dsaccel.training.feature_cache import FeatureCache, Key
from dsaccel.training.learner import Learner

TRAINING = TrainingConfig(
    schedule="sequential", epochs=2, batch_size=16, learning_rate=1e-2, lr_milestones=(0.5,)
)
NAMES = (H("1-1-2"), H("1-2-1"), H("2-1-1"), H("1-1-1"))
SETTINGS = {
    "conv": {},
    "block": {"granularity": "block"},
    "stage": {"granularity": "stage"},
    "first_loss": {"first_loss": 2},
    "first_loss_in_stage_1_or_2": {"first_loss": 5},
}


def update(config, **values):
    return config.model_copy(update=values)


def is_weight_or_buffer(name):
    return ".adam." not in name


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("setting", SETTINGS)
def test_a_trie_trains_each_hierarchy_as_if_alone(setting, precision):
    networks = plans(*NAMES, network=update(NETWORK, **SETTINGS[setting]))
    together = cohort(networks, update(TRAINING, precision=precision))
    for rung in together.rungs():
        if rung.step == 2:
            together.retire({H("1-1-1")})
    assert set(together.learners) == set(together.trie.nodes())
    del networks[H("1-1-1")]
    assert not disagreements(together, networks)


@pytest.mark.parametrize("family", ["resnet50", "vgg", "vgg8b"])
def test_every_family_trains_as_if_alone(family):
    networks = plans("1-1-1", "1-1-2", family=family)
    assert not disagreements(trained(networks, update(TRAINING, epochs=1)), networks)


def test_without_named_randomness_it_would_not(monkeypatch):
    networks = plans(*NAMES)
    monkeypatch.setattr(learner_module, "derive", nameless("dropout"))
    assert disagreements(trained(networks, TRAINING), networks)


class PlainUnit(nn.Module):
    """A convolution of a residual block, and its classifier, written down again."""

    def __init__(self, unit):
        super().__init__()
        layer = unit.layers[0]
        self.position, self.pool = layer.position, unit.head.spec.classifier.pool
        self.opens_block, self.adds_shortcut = layer.opens_block, layer.adds_shortcut
        conv = layer.weight
        self.conv = nn.Conv2d(
            conv.in_channels, conv.out_channels, 3, conv.stride, padding=1, bias=False
        )
        self.norm = nn.BatchNorm2d(conv.out_channels)
        self.shortcut = None
        if layer.shortcut is not None:
            # not strided: oneDNN's gradient may then write past its memory, and the process crash
            self.shortcut = nn.Sequential(
                nn.Conv2d(layer.shortcut[0].in_channels, conv.out_channels, 1, bias=False),
                nn.BatchNorm2d(conv.out_channels),
            )
            self.step = layer.shortcut[0].stride[0]
            self.shortcut.load_state_dict(layer.shortcut.state_dict())
        self.classifier = nn.Linear(
            unit.head.classifier.in_features, unit.head.classifier.out_features
        )
        self.conv.load_state_dict(layer.weight.state_dict())
        self.classifier.load_state_dict(unit.head.classifier.state_dict())

    def forward(self, x, skip):
        z = self.norm(self.conv(x))
        if self.adds_shortcut:
            if self.shortcut is not None:
                skip = self.shortcut(skip[:, :, :: self.step, :: self.step])
            z = z + skip
        return F.leaky_relu(z, 0.01)

    def logits(self, h):
        return self.classifier(F.avg_pool2d(h, self.pool, ceil_mode=True).flatten(1))


class PlainOutput(nn.Module):
    def __init__(self, unit):
        super().__init__()
        self.classifier = nn.Linear(unit.head.spec.num_features, unit.head.spec.num_classes)
        self.classifier.load_state_dict(unit.head.classifier.state_dict())

    def forward(self, x, skip):
        return x

    def logits(self, x):
        return self.classifier(x.mean(dim=(2, 3)))


def algorithm_1(units, training, dropout, seed):
    """Train unit after unit in the plainest way: from the images up, for each batch again."""
    data = Batches()
    for number, unit in enumerate(units):
        adam = torch.optim.Adam(unit.parameters(), fused=True)
        for epoch in range(1, training.epochs + 1):
            rate = training.learning_rate * (training.lr_decay if epoch > 1 else 1)
            adam.param_groups[0]["lr"] = rate
            for batch, (images, y) in enumerate(data.train_batches(epoch)):
                x = skip = images.to(memory_format=torch.channels_last)
                for frozen in units[:number]:
                    skip = x if frozen.opens_block else skip
                    with torch.no_grad():
                        h = frozen.eval()(x, skip)
                    key = derive(seed, "dropout", *frozen.position, epoch, batch)
                    draws = torch.empty(*h.shape[:2], 1, 1).bernoulli_(
                        1 - dropout, generator=torch.Generator().manual_seed(key)
                    )
                    x = h * draws.div(1 - dropout)
                if getattr(unit, "opens_block", False):
                    skip = x
                loss = F.cross_entropy(unit.train().logits(unit(x, skip)), y)
                adam.zero_grad()
                loss.backward()
                adam.step()


def test_it_is_algorithm_1():
    networks = {H("1-2-1"): plan("1-2-1", network=update(NETWORK, loss="pred"))}
    ours = cohort(networks, TRAINING, seed=3)
    units = [u for node in ours.trie.path(H("1-2-1")) for u in ours.learners[node].units]
    theirs: list[Any] = [PlainUnit(unit) for unit in units[:-1]] + [PlainOutput(units[-1])]
    for plain in theirs:
        plain.to(memory_format=torch.channels_last)
    algorithm_1(theirs, TRAINING, NETWORK.dropout, seed=3)
    for _ in ours.rungs():
        pass
    for unit, plain in zip(units, theirs, strict=True):
        values = {plain_name(key): value for key, value in unit.state_dict().items()}
        assert not differing(values, dict(plain.state_dict()))


def plain_name(key):
    return key.replace("layers.0.weight.", "conv.").replace("layers.0.", "").replace("head.", "")


def test_a_frozen_unit_does_not_change(monkeypatch):
    at_freezing = {}
    freeze = Learner.freeze

    def recorded(self):
        unit = self.units[self.num_frozen]
        at_freezing[unit] = {key: value.clone() for key, value in unit.state_dict().items()}
        freeze(self)

    monkeypatch.setattr(Learner, "freeze", recorded)
    result = trained(plans("1-1-2", "2-1-1"), TRAINING)
    assert set(at_freezing) == {u for learner in result.learners.values() for u in learner.units}
    for unit, values in at_freezing.items():
        assert not differing(dict(unit.state_dict()), values)
    # and an optimizer of a frozen unit holds nothing
    assert all(is_weight_or_buffer(name) for name in tensors(result, H("1-1-2")))


class CountingCache(FeatureCache):
    """Knows how much it keeps, and the most it ever kept."""

    most_bytes = 0

    def put(self, key, features):
        kept = super().put(key, features)
        self.most_bytes = max(self.most_bytes, self.num_bytes)
        return kept

    @property
    def num_bytes(self):
        entries = [f for tier in self._tiers for f in tier.entries.values()]
        return sum(part.nbytes for features in entries for part in features if part is not None)

    @property
    def nodes(self):
        return {key.node for tier in self._tiers for key in tier.entries}


def cached(device_bytes, host_bytes):
    return CountingCache(CPU, device_bytes=device_bytes, host_bytes=host_bytes)


def run(networks, cache, training=TRAINING):
    """A cohort trained with a cache, with each rung's nodes in it, and the units run through."""
    result = cohort(networks, training)
    num_passes, pass_on = 0, Learner.pass_on

    def counted(*args, **kwargs):
        nonlocal num_passes
        num_passes += 1
        return pass_on(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Learner, "pass_on", counted)
        reached = sequential(result.trie, result.learners, Batches(), 2, cache=cache)
        result.history += [rung for rung in reached if isinstance(rung, Rung)]
    return result, num_passes


@pytest.mark.long
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_is_cached_is_what_would_be_computed_again(precision):
    networks, training = plans("1-1-2", "1-2-1", "2-1-1"), update(TRAINING, precision=precision)
    none = cached(0, 0)
    expected, num_passes = run(networks, none, training)
    assert none.most_bytes == 0
    num_passes_by_budget = [num_passes]
    # a few batches; a part on the device and a part in host memory; everything
    for budgets in ((50_000, 0), (50_000, 200_000), (2**26, 0)):
        cache = cached(*budgets)
        result, num_passes = run(networks, cache, training)
        for name in networks:
            assert not differing(tensors(result, name), tensors(expected, name))
            assert result.head_accuracies(name) == expected.head_accuracies(name)
        assert 0 < cache.most_bytes <= sum(budgets)
        assert cache.num_bytes == 0
        num_passes_by_budget.append(num_passes)
    # with room for all, each unit that another one reads runs once for each batch and epoch
    num_units = sum(len(learner.units) for learner in result.learners.values())
    assert num_passes_by_budget[-1] == (num_units - len(networks)) * 2 * 3
    assert num_passes_by_budget[0] > num_passes_by_budget[1] > num_passes_by_budget[-1]


def test_features_of_what_is_retired_are_freed():
    networks, cache = plans("1-1-2", "1-2-2", "2-1-1"), cached(2**26, 0)
    result = cohort(networks, TRAINING)
    reached = sequential(result.trie, result.learners, Batches(), 2, cache=cache)
    schedule = (rung for rung in reached if isinstance(rung, Rung))
    next(schedule)
    living = set(result.trie.path(H("1-1-2")))
    assert cache.nodes - living
    result.retire({H("1-2-2"), H("2-1-1")})
    next(schedule)
    assert cache.nodes <= living


def test_a_cache_fills_the_device_then_the_host_then_refuses():
    trie = Trie(plans("1-1-1"))
    node = trie.roots[0]
    features = Features(torch.zeros(10), torch.zeros(5))
    cache = FeatureCache(CPU, device_bytes=60, host_bytes=119)
    keys = [Key(node, 0, 1, batch) for batch in range(3)]
    assert [cache.put(key, features) for key in keys] == [True, True, False]
    assert keys[1] in cache
    assert keys[2] not in cache
    taken = cache.pop(keys[0])
    assert taken is not None
    assert torch.equal(taken.x, features.x)
    assert cache.pop(keys[0]) is None
    assert cache.put(keys[2], features)
    cache.retain(set())
    assert keys[1] not in cache
    assert [cache.put(key, features) for key in keys] == [True, True, False]


def test_a_global_network_is_one_unit_so_the_schedules_agree():
    network = {H("1-2-1"): plan("1-2-1", mode="global")}
    one = trained(network, TRAINING)
    other = trained(network, update(TRAINING, schedule="simultaneous"))
    ours, theirs = (
        {k: v for k, v in tensors(c, H("1-2-1")).items() if is_weight_or_buffer(k)}
        for c in (one, other)
    )
    assert not differing(ours, theirs)
    assert [rung.step for rung in one.history] == [3]
    assert one.history[-1].accuracies == other.history[-1].accuracies


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("stop", [1, 2])
def test_a_cohort_resumed_after_a_stage_is_bit_identical(tmp_path, stop, precision):
    training = update(TRAINING, precision=precision)
    whole, second = whole_and_resumed(
        lambda: cohort(plans(*NAMES), training), H("1-2-1"), stop, tmp_path / "checkpoint.pt"
    )
    assert second.history == whole.history
    for name in second.trie.asked:
        assert not differing(tensors(second, name), tensors(whole, name))
        assert second.epochs_trained(name) == whole.epochs_trained(name)


def test_a_rung_holds_the_heads_that_are_trained():
    result = trained(plans("1-2-1", "2-1-1"), TRAINING, harvest=plans("1-1-1"))
    exits = [(rung.step, [*rung.read[H("1-2-1")].exits]) for rung in result.history]
    early = ["head", "ensemble"]
    assert exits == [(1, early), (2, early), (3, [*early, "layer"])]
    # the stem and two convolutions a block; at the end the output layer
    assert [len(heads) for heads in result.head_accuracies(H("1-2-1"))] == [3, 7, 10]
    assert [len(heads) for heads in result.head_accuracies(H("2-1-1"))] == [5, 7, 10]
    shallow, _, last = result.history
    assert shallow.deepest_head(H("1-2-1")) == shallow.accuracies[H("1-2-1")][2]
    assert last.deepest_head(H("1-2-1")) == last.accuracies[H("1-2-1")][8]
    assert last.accuracies[H("1-2-1")][:3] == shallow.accuracies[H("1-2-1")]
    with pytest.raises(ValueError, match=r"the exit of 1-2-1 is not trained yet at step 1"):
        shallow.objective(H("1-2-1"))
    assert result.epochs_trained(H("1-2-1")) == 2 * 10
    assert all(seconds > 0 for seconds in result.time_s.values())


def test_a_network_without_a_trained_head_is_not_compared():
    networks = plans("1-1-2", "2-1-1", network=update(NETWORK, first_loss=5))
    assert [set(rung.accuracies) for rung in trained(networks, TRAINING).history] == [
        {H("2-1-1")},
        {H("1-1-2"), H("2-1-1")},
        {H("1-1-2"), H("2-1-1")},
    ]


def test_a_harvested_network_is_the_one_that_asking_would_have_trained():
    together = trained(plans("1-1-3"), TRAINING, harvest=plans("1-1-1", "1-1-2"))
    assert together.harvested == [H("1-1-1"), H("1-1-2")]
    assert not disagreements(together, plans("1-1-1", "1-1-2"))


def test_a_search_prunes_at_stage_ends_and_reports_stages(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = StudyConfig.model_validate(
        {
            "space": {
                "family": "vgg",
                "num_blocks": [(1, 2), (1, 2), (1, 1)],
                "constraint": "none",
            },
            "data": {"name": "digits", "train_images": 64},
            "network": {"width": 1 / 32, "num_hidden": 0},
            "training": {"schedule": "sequential", "epochs": 1, "batch_size": 32},
            "budget": {"n_trials": 4, "baseline": False},
            "runtime": {"device": "cpu", "threads": 1},
        }
    )
    search = open_search(config, StudyDir("s"))
    seen = [(progress.step_name, progress.step, len(progress.living)) for progress in search.run()]
    assert seen == [("stage", 1, 2), ("stage", 2, 1), ("stage", 3, 1)]
    trials = search.study.trials
    assert sorted(len(trial.intermediate_values) for trial in trials) == [1, 1, 2, 3]
    # after the first stage there are two networks only, and two hierarchies share each
    pruned_first = [t for t in trials if len(t.intermediate_values) == 1]
    assert len({trial.params["num_blocks_s1"] for trial in pruned_first}) == 1
    read = {trial.name: trial.head_accuracies for trial in search.ledger.record().finished}
    for trial in trials:
        heads = read[trial.user_attrs["hierarchy"]]
        assert list(trial.intermediate_values) == list(range(1, len(heads) + 1))
        is_complete = trial.state == TrialState.COMPLETE
        deepest = [rung[-1] for rung in heads[:-1]] + [heads[-1][-2 if is_complete else -1]]
        assert list(trial.intermediate_values.values()) == deepest
        # Optuna gives a pruned trial its last intermediate value
        assert trial.value == heads[-1][-1]


def test_a_study_goes_on_with_another_cache():
    space = {"family": "vgg", "num_blocks": [(1, 2)] * 3}
    config = StudyConfig.model_validate({"space": space, "runtime": {"device": "cpu"}})
    training = update(config.training, feature_cache_mib=0, feature_cache_host_mib=1)
    check_same(
        StudyDir("study"), Recorded(config, None), update(config, training=training), "images"
    )
