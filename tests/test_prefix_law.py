"""A cohort trains each of its networks exactly as if it were alone."""

import pytest
import torch
from helpers import (
    NETWORK,
    TRAINING,
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

from dsaccel.nn import layers as nn_module
from dsaccel.seeds import derive
from dsaccel.training import learner as learner_module

NAMES = (H("1-1-2"), H("1-2-1"), H("2-1-1"), H("1-1-1"))
TWO_EPOCHS = TRAINING.model_copy(update={"epochs": 2})
SETTINGS = {
    "conv": {},
    "block": {"granularity": "block"},
    "stage": {"granularity": "stage"},
    "by_stage": {"granularity": ("stage", "block", "conv")},
    "K2": {"granularity": ("none", "none", "stage", "none")},
    "K4": {"granularity": ("stage", "stage", "stage", "none")},
    "joined": {"granularity": ("none", "block", "none", "block"), "head": "tail"},
    "none": {"granularity": "none"},
    "imagenet": {"stem": "imagenet", "downsampling": "max-pool"},
    "first_loss": {"first_loss": 3},
    "pred": {"loss": "pred"},
    "sim": {"loss": "sim"},
    "mse": {"loss": "mse", "pred_conv": True},
}


def unlike(networks, training):
    return disagreements(trained(networks, training), networks)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("setting", SETTINGS)
def test_a_trie_trains_each_hierarchy_as_if_alone(setting, precision):
    network = NETWORK.model_copy(update=SETTINGS[setting])
    training = TRAINING.model_copy(update={"precision": precision})
    assert training.learning_rate_at(1) != training.learning_rate_at(3)
    assert not unlike(plans(*NAMES, network=network), training)


@pytest.mark.parametrize(
    ("family", "names"),
    [
        ("resnet50", (H("1-1-1"), H("1-2-1"), H("1-1-2"))),
        ("vgg", (H("1-1-1"), H("1-2-1"), H("1-1-2"))),
        ("vgg8b", (H("1-1-1"), H("2-1-1"), H("1-1-2"))),
    ],
)
def test_the_law_holds_in_every_family(family, names):
    networks = plans(*names, family=family)
    assert not unlike(networks, TWO_EPOCHS)


SEARCHED = {
    "learning_rate": (H("1-1-2 learning_rate=0.01"), H("1-1-2 learning_rate=0.02")),
    "dropout": (H("1-1-2 dropout=0.1"), H("1-1-2 dropout=0.3")),
    "width": (H("1-1-2 width=0.0625"), H("1-1-2 width=0.125")),
    "loss": (H("1-1-2 loss=pred"), H("1-1-2 loss=sim")),
    "granularity": (H("1-1-2 granularity=conv"), H("1-1-2 granularity=block")),
    "cuts": (H("1-1-2 granularity=none,none,stage,none"), H("1-1-2 granularity=none")),
    "last_stage": (H("1-1-2 granularity=conv,conv,block"), H("1-1-2 granularity=conv,conv,conv")),
    "first_loss": (H("1-1-2 first_loss=1"), H("1-1-2 first_loss=3")),
    "beta": (H("1-1-2 beta=0.99"), H("1-1-2 beta=0.5")),
    "decoder_size": (H("1-1-2 decoder_size=4096"), H("1-1-2 decoder_size=1024")),
    "pred_conv": (H("1-1-2 pred_conv=false"), H("1-1-2 pred_conv=true")),
    "sim_kernel": (H("1-1-2 sim_kernel=3"), H("1-1-2 sim_kernel=1")),
    "counts": (H("1-1-2 learning_rate=0.02 loss=pred"), H("1-2-1 learning_rate=0.02 loss=pred")),
}


def shared(one, other):
    """The first segments that two networks of a cohort have in common."""
    trie = cohort(plans(one, other)).trie
    return sum(a is b for a, b in zip(trie.path(one), trie.path(other), strict=False))


@pytest.mark.parametrize("setting", SEARCHED)
def test_networks_of_different_settings_train_together_as_if_alone(setting):
    names = SEARCHED[setting]
    assert not unlike(plans(*names, "1-1-1"), TWO_EPOCHS)


@pytest.mark.parametrize("setting", SEARCHED)
def test_different_settings_train_differently(setting):
    names = SEARCHED[setting]
    together = trained(plans(*names), TWO_EPOCHS)
    one, other = (together.head_accuracies(name) for name in names)
    assert one != other


def test_only_what_trains_identically_is_shared():
    # the stem and the block of each of the first two stages
    assert shared(*SEARCHED["last_stage"]) == 3
    assert (
        shared(H("1-1-2 granularity=conv,conv,stage"), H("1-1-2 granularity=conv,conv,conv")) == 3
    )
    assert (
        shared(H("1-1-2 granularity=stage,conv,conv"), H("1-1-2 granularity=conv,conv,conv")) == 0
    )
    # the stem has one layer: as a block or as a convolution it is the same
    assert shared(*SEARCHED["granularity"]) == 1
    assert shared(H("1-1-2 granularity=none,conv,conv"), H("1-1-2 granularity=none,conv,none")) == 1
    for setting in SEARCHED.keys() - {"last_stage", "granularity", "counts"}:
        assert shared(*SEARCHED[setting]) == 0
    assert shared(*SEARCHED["counts"]) == 3
    # the first unit with a loss is the same as far as it has been met
    assert shared(H("1-1-2 first_loss=3"), H("1-2-1 first_loss=3")) == 2
    # the stem and the first stage are pooled alike, to 256 features; the third stage is, too
    assert shared(H("1-1-2 decoder_size=4096"), H("1-1-2 decoder_size=5000")) == 6


CUT_ALIKE = ["learning_rate", "dropout", "loss", "beta", "decoder_size", "pred_conv", "sim_kernel"]


@pytest.mark.parametrize("setting", CUT_ALIKE)
def test_what_a_setting_does_not_change_begins_with_the_same_numbers(setting):
    names = SEARCHED[setting]
    untrained = cohort(plans(*names))
    one, other = (tensors(untrained, name) for name in names)
    same = [key for key in one.keys() & other.keys() if one[key].shape == other[key].shape]
    assert len(same) > 30
    changed = [key for key in same if not torch.equal(one[key], other[key])]
    # a bias is drawn within bounds that depend on what the classifier sees
    assert not changed or setting == "decoder_size"
    assert all(key.endswith("head.classifier.bias") for key in changed)


@pytest.mark.parametrize(
    ("loss", "setting"),
    [
        *(("pred", "beta"), ("sim", "beta"), ("mse", "beta")),
        *(("sim", "pred_conv"), ("pred", "sim_kernel"), ("mse", "sim_kernel")),
    ],
)
def test_a_setting_that_the_loss_has_no_use_for_is_no_part_of_the_network(loss, setting):
    one, other = (f"{name} loss={loss}" for name in SEARCHED[setting])
    assert plan(one).segments == plan(other).segments


def test_settings_that_are_the_study_s_own_change_nothing():
    own = f"learning_rate={TRAINING.learning_rate!r} dropout=0.2 width=0.0625 loss=predsim"
    own += " beta=0.99 decoder_size=4096 pred_conv=false sim_kernel=3"
    name = H(f"1-1-2 {own} granularity=conv first_loss=1")
    given, taken = trained(plans(name)), trained(plans("1-1-2"))
    assert not differing(tensors(given, name), tensors(taken, H("1-1-2")))
    assert given.head_accuracies(name) == taken.head_accuracies(H("1-1-2"))


@pytest.mark.parametrize("schedule", ["simultaneous", "sequential"])
def test_a_learning_rate_of_its_own_is_the_study_s_in_its_place(schedule):
    training = TRAINING.model_copy(update={"schedule": schedule, "epochs": 2})
    name = H("1-1-1 learning_rate=0.005")
    own = trained(plans(name, "1-1-1"), training)
    study = training.model_copy(update={"learning_rate": 0.005})
    alone = trained(plans("1-1-1"), study)
    assert not differing(tensors(own, name), tensors(alone, H("1-1-1")))
    assert own.head_accuracies(name) == alone.head_accuracies(H("1-1-1"))
    for node in own.trie.path(name):
        rates = {g["lr"] for adam in own.learners[node].optimizers for g in adam.param_groups}
        assert rates == {study.learning_rate_at(2)}


def test_a_harvested_network_has_the_settings_it_was_read_with():
    names = (H("1-1-1 learning_rate=0.02"), H("1-1-1"))
    together = trained(plans("1-1-2 learning_rate=0.02"), harvest=plans(*names))
    assert together.harvested == [H("1-1-1 learning_rate=0.02")]
    alone = trained(plans(names[0]))
    assert not differing(tensors(together, names[0]), tensors(alone, names[0]))


def test_what_is_retired_leaves_the_others_as_if_it_had_never_been():
    together = cohort(plans(*NAMES))
    for rung in together.rungs():
        if rung.step == 2:
            together.retire({H("1-2-1"), H("1-1-1")})
    assert set(together.learners) == set(together.trie.nodes())
    for name in (H("1-1-2"), H("2-1-1")):
        alone = trained(plans(name))
        assert not differing(tensors(together, name), tensors(alone, name))
        assert together.head_accuracies(name) == alone.head_accuracies(name)
    assert len(together.head_accuracies(H("1-2-1"))) == 2


def nameless(kind):
    """`derive` that forgets the name of one kind of random number: as a global generator would."""
    count = iter(range(10_000))

    def forgetful(seed, *names):
        return derive(seed, next(count)) if names[0] == kind else derive(seed, *names)

    return forgetful


@pytest.mark.parametrize(("module", "kind"), [(nn_module, "init"), (learner_module, "dropout")])
def test_without_named_randomness_the_law_breaks(monkeypatch, module, kind):
    monkeypatch.setattr(module, "derive", nameless(kind))
    assert unlike(plans(*NAMES), TRAINING)


def test_one_autocast_context_over_several_updates_would_break_bf16():
    # torch caches the bf16 copy of a weight for the length of a context: this is the trap
    linear = torch.nn.Linear(4, 4)
    x = torch.ones(1, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        before = linear(x)
        with torch.no_grad():
            linear.weight.zero_()
        stale = linear(x)
    assert torch.equal(before, stale)
    # and the learner does not fall into it: two steps differ from one step twice
    training = TRAINING.model_copy(update={"precision": "bf16", "epochs": 1})
    one = trained(plans("1-1-1"), training)
    two = trained(plans("1-1-1"), training.model_copy(update={"epochs": 2}))
    moved = differing(tensors(one, H("1-1-1")), tensors(two, H("1-1-1")))
    weights = [name for name in tensors(one, H("1-1-1")) if name.endswith("weight")]
    assert set(weights) <= set(moved)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("stop", [1, 2])
def test_a_cohort_resumed_after_a_rung_is_bit_identical(tmp_path, stop, precision):
    training = TRAINING.model_copy(update={"precision": precision})
    whole, second = whole_and_resumed(
        lambda: cohort(plans(*NAMES), training), H("1-2-1"), stop, tmp_path / "checkpoint.pt"
    )
    assert [rung.step for rung in second.history] == [1, 2, 3]
    assert second.trie.asked == [H("1-1-2"), H("2-1-1"), H("1-1-1")]
    for name in second.trie.asked:
        assert not differing(tensors(second, name), tensors(whole, name))
        assert second.head_accuracies(name) == whole.head_accuracies(name)


def test_a_harvested_network_is_the_one_that_asking_would_have_trained():
    together = trained(plans("1-1-3"), harvest=plans("1-1-1", "1-1-2", "1-2-1"))
    assert together.harvested == [H("1-1-1"), H("1-1-2")]
    for name in together.harvested:
        alone = trained(plans(name))
        assert not differing(tensors(together, name), tensors(alone, name))
        assert together.head_accuracies(name) == alone.head_accuracies(name)


@pytest.mark.parametrize("words", ["none,none,stage,block", "stage,none,none,conv", "none"])
def test_harvest_keeps_to_the_cuts(words):
    names = [f"{blocks} granularity={words}" for blocks in ("1-1-3", "1-1-1", "1-1-2", "1-2-1")]
    together = trained(plans(names[0]), harvest=plans(*names[1:]))
    # what the output layer trains is nobody else's
    assert together.harvested == [] if words == "none" else [H(names[1]), H(names[2])]
    for name in together.harvested:
        alone = trained(plans(name))
        assert not differing(tensors(together, name), tensors(alone, name))
        assert together.head_accuracies(name) == alone.head_accuracies(name)


@pytest.mark.parametrize("schedule", ["simultaneous", "sequential"])
def test_no_cut_is_back_propagation_bit_for_bit(schedule):
    training = TRAINING.model_copy(update={"schedule": schedule})
    name = H("1-1-2 granularity=none")
    local = trained(plans(name, "1-1-2 granularity=block"), training)
    whole = trained(plans("1-1-2", mode="global"), training)
    assert not differing(tensors(local, name), tensors(whole, H("1-1-2")))
    assert local.head_accuracies(name) == whole.head_accuracies(H("1-1-2"))


def test_another_seed_trains_another_network():
    a, b = trained(plans("1-1-1"), seed=1), trained(plans("1-1-1"), seed=2)
    assert differing(tensors(a, H("1-1-1")), tensors(b, H("1-1-1")))


def test_nothing_draws_from_the_global_generator():
    before = torch.get_rng_state()
    trained({H("1-1-1"): plan("1-1-1")}, TRAINING.model_copy(update={"epochs": 1}))
    assert torch.equal(before, torch.get_rng_state())
