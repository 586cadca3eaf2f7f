"""Settings that say the same in other words: one network is proposed, listed and counted once."""

import itertools
import random
from typing import Any

import pytest
from optuna.trial import create_trial
from tiny_study import searched

from dsaccel.config.study import BudgetConfig, NetworkConfig, SpaceConfig
from dsaccel.config.toml import parse_config
from dsaccel.errors import ConfigError
from dsaccel.families import build_plan
from dsaccel.search.proposals import next_cohort, propose
from dsaccel.search.strategy import check_strategy
from dsaccel.space.bounds import Measures
from dsaccel.space.space import SearchSpace
from dsaccel.spec.hierarchy import Hierarchy

PER_STAGE: dict[str, Any] = {"granularity_per_stage": {"choices": ["block", "stage"]}}
SMALL: dict[str, Any] = {
    "space": {"num_blocks": [[1, 1], [1, 1], [1, 2]], "settings": PER_STAGE},
    "references": [],
    "data": {"train_images": 32},
    "network": {"width": 1 / 32},
    "training": {"epochs": 1},
    "pruning": {"kind": "none"},
    "budget": {"n_trials": 6, "cohort_size": 3, "strategy": "random", "baseline": False},
}


def plan(hierarchy, family="resnet18"):
    network = NetworkConfig(width=1 / 16)
    return build_plan(family, hierarchy, network, channels=1, side=8, num_classes=3)


def measure(hierarchy) -> Measures:
    return Measures.of(plan(hierarchy))


def make_space(settings=PER_STAGE, references=(), bounds=((1, 1), (1, 1), (1, 2)), **others):
    tables = {"family": "resnet18", "num_blocks": bounds, "settings": settings}
    config = parse_config(SpaceConfig, tables | {"constraint": "none"}, "space.toml")
    others = {"measure": measure} | others
    return SearchSpace(config, references=[Hierarchy.parse(t) for t in references], **others)


def make_trials(space, hierarchies):
    trials = [
        create_trial(
            params=space.to_params(h),
            distributions=space.distributions(),
            value=float(h.num_blocks),
        )
        for h in hierarchies
    ]
    for number, trial in enumerate(trials):
        trial.number = number
    return trials


def segments(hierarchies):
    return [plan(h).segments for h in hierarchies]


OF_LAYERS: dict[str, Any] = {
    "learning_rate": {"choices": [0.1, 0.2]},
    "dropout": {"choices": [0.0, 0.1]},
    # the first two round to as many channels, and features
    "width": {"choices": [1 / 16, 1.001 / 16, 1 / 8]},
    "loss": {"choices": ["pred", "predsim"]},
    "granularity_per_stage": {"choices": ["block", "stage"]},
    "first_loss": {"choices": [2, 3]},
}
OF_HEADS: dict[str, Any] = {
    "loss": {"choices": ["pred", "predsim", "sim", "mse"]},
    # with 5 the one unit that carries a loss may be fully connected
    "first_loss": {"choices": [1, 4]},
    "beta": {"choices": [0.5, 0.9]},
    # the first two pool alike
    "decoder_size": {"choices": [4096, 5000, 1024]},
    "pred_conv": {"choices": [False, True]},
    "sim_kernel": {"choices": [1, 3]},
}


@pytest.mark.parametrize(
    ("settings", "family"),
    [(OF_LAYERS, "resnet18"), (OF_HEADS, "resnet18"), (OF_HEADS, "vgg")],
    ids=["layers", "heads", "heads of vectors"],
)
def test_hierarchies_are_one_network_if_and_only_if_their_segments_are_equal(settings, family):
    space = make_space(settings, measure=lambda h: Measures.of(plan(h, family)))
    rng = random.Random(1)
    points = [
        Hierarchy((1, 1, rng.choice([1, 2]))).with_settings(space.dimensions.draw(rng))
        for _ in range(150)
    ]
    plans = {point: plan(point, family) for point in points}
    num_equal = 0
    for a, b in itertools.combinations(plans, 2):
        is_one = plans[a].segments == plans[b].segments
        assert (space.identity(a) == space.identity(b)) == is_one
        num_equal += is_one
    assert 10 < num_equal < 1000


def test_of_a_setting_that_the_loss_has_no_use_for_the_first_value_is_listed():
    settings = {"loss": {"choices": ["pred", "predsim"]}, "beta": {"choices": [0.5, 0.9]}}
    space = make_space(settings, bounds=((1, 1), (1, 1), (1, 1)))
    assert [str(h) for h in space.feasible() or []] == [
        "1-1-1 loss=pred beta=0.5",
        "1-1-1 loss=predsim beta=0.5",
        "1-1-1 loss=predsim beta=0.9",
    ]


def test_each_network_is_listed_once_under_the_first_of_its_names():
    space = make_space()
    # the second stage has one block: `block` and `stage` are one; so in the third, if it has one.
    # The first counts the stem: there they are two
    assert [str(h) for h in space.feasible() or []] == [
        "1-1-1 granularity=block,block,block",
        "1-1-2 granularity=block,block,block",
        "1-1-2 granularity=block,block,stage",
        "1-1-1 granularity=stage,block,block",
        "1-1-2 granularity=stage,block,block",
        "1-1-2 granularity=stage,block,stage",
    ]
    assert space.size == 6


LISTED = [("tpe", True), ("nsga2", True), ("random", True), ("exhaustive", True)]
NOT_LISTED = [("tpe", False), ("nsga2", False), ("random", False)]


@pytest.mark.parametrize(("strategy", "is_listed"), [*LISTED, *NOT_LISTED])
def test_no_slot_is_spent_on_a_network_that_is_trained(strategy, is_listed, monkeypatch):
    if not is_listed:
        monkeypatch.setattr("dsaccel.space.space.MAX_ENUMERATED", 1)
        monkeypatch.setattr("dsaccel.search.proposals.MAX_DRAWS", 1000)
    space = make_space(bounds=((1, 1), (1, 2), (1, 2)))
    assert (space.size is not None) == is_listed
    met = []
    while len(met) < 18:
        cohort = propose(space, make_trials(space, met), 3, seed=1, strategy=strategy)
        assert cohort
        met += cohort
    # stages of 1 and 2 blocks: 3 in the second, 3 in the third, 2 in the first
    assert len(met) == len(set(segments(met))) == 18
    left = propose(space, make_trials(space, met), 1, seed=1, strategy=strategy)
    assert left == []


def test_the_network_of_a_reference_to_come_is_not_proposed_under_another_name():
    space = make_space(references=["1-1-1 granularity=block,stage,stage"])
    cohort = next_cohort(space, [], cohort_size=9, n_trials=9, seed=1, strategy="exhaustive")
    assert str(cohort[0]) == "1-1-1 granularity=block,stage,stage"
    assert len(cohort) == len(set(segments(cohort))) == space.size


def test_references_that_are_one_network_are_trained_once():
    names = [f"1-1-1 granularity=block,{word},block" for word in ("stage", "block")]
    space = make_space(references=names)
    cohort = next_cohort(space, [], cohort_size=2, n_trials=9, seed=1, strategy="exhaustive")
    assert [str(h) for h in cohort] == [names[0], "1-1-2 granularity=block,block,block"]


def test_a_network_stored_under_two_names_counts_once_in_the_budget():
    space = make_space()
    names = [f"1-1-1 granularity=block,{word},block" for word in ("stage", "block")]
    trials = make_trials(space, map(Hierarchy.parse, names))
    cohort = next_cohort(space, trials, cohort_size=9, n_trials=3, seed=1, strategy="random")
    assert len(cohort) == 2


def test_a_budget_for_all_is_as_many_trials_as_networks():
    space = make_space(references=["1-1-1 granularity=block,stage,stage"])
    check_strategy(BudgetConfig(strategy="exhaustive", n_trials=6), space)
    with pytest.raises(ConfigError, match="trains all 6 hierarchies"):
        check_strategy(BudgetConfig(strategy="exhaustive", n_trials=5), space)


def test_what_lies_on_the_way_is_read_once_and_not_if_it_is_asked_for():
    space = make_space()
    asked = [
        Hierarchy.parse(f"1-1-2 granularity=block,{words}")
        for words in ("block,block", "stage,stage")
    ]
    assert len(space.on_the_way(asked)) == 1
    asked.append(Hierarchy.parse("1-1-1 granularity=block,stage,block"))
    assert space.on_the_way(asked) == []


def test_no_network_is_planned_where_no_two_hierarchies_can_be_one():
    def refuse(hierarchy):
        raise AssertionError(hierarchy)

    settings = {
        "learning_rate": {"choices": [0.1, 0.2]},
        "dropout": {"choices": [0.0, 0.1]},
        "loss": {"choices": ["sim", "pred"]},
    }
    space = make_space(settings, measure=refuse)
    assert space.size == 16
    trials = make_trials(space, (space.feasible() or [])[:11])
    assert len(propose(space, trials, 3, seed=1)) == 3


def test_a_search_is_exhausted_when_each_network_is_trained_under_one_of_its_names(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    reference = "1-1-1 granularity=block,stage,stage"
    search = searched("same", **SMALL | {"references": [reference]})
    names = [trial.user_attrs["hierarchy"] for trial in search.study.trials]
    assert reference in names
    assert len(names) == len({search.plan(Hierarchy.parse(n)).segments for n in names}) == 6
    assert search.is_exhausted
    assert search.is_finished
    num_trained = search.num_trained
    # a study that holds a network twice, as they did before, has trained it once
    again = Hierarchy.parse("1-1-1 granularity=block,block,block")
    search.ledger.begin(search.ledger.record().cohort.next([again]))
    search.study.tell(search.study.trials[-1].number, 0.5)
    assert len(search.ledger.record().finished) == 7
    assert search.num_trained == num_trained


@pytest.mark.parametrize(("widths", "num_planned"), [([0.5, 1.0], 2), ([1.0, 1.001], 18)])
def test_settings_that_differ_in_the_smallest_network_differ_in_every_larger_one(
    widths, num_planned
):
    """Then no other one is planned to tell."""
    planned = []

    def noted(hierarchy):
        planned.append(hierarchy)
        width = dict(hierarchy.settings)["width"]
        network = NetworkConfig(width=width / 16)
        made = build_plan("resnet18", hierarchy, network, channels=1, side=8, num_classes=3)
        return Measures.of(made)

    space = make_space(
        {"width": {"choices": widths}}, bounds=((1, 1), (1, 3), (1, 3)), measure=noted
    )
    feasible = space.feasible()
    assert len(planned) == num_planned
    assert feasible is not None
    assert len(feasible) == len(space.distinct(feasible)) == (18 if num_planned == 2 else 9)
