"""Settings searched beside the counts: names, config, Optuna parameters, space, proposals."""

import copy
import itertools
import math
import pickle
import random
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import create_trial

from dsaccel.config.own_settings import network_of, with_own_settings
from dsaccel.config.study import NetworkConfig, SpaceConfig, StudyConfig
from dsaccel.config.toml import parse_config
from dsaccel.errors import ConfigError
from dsaccel.families import build_plan
from dsaccel.search.proposals import propose
from dsaccel.space.bounds import Measures
from dsaccel.space.dimensions import Dimensions
from dsaccel.space.space import SearchSpace
from dsaccel.spec.hierarchy import Hierarchy

RATE = {"low": 1e-4, "high": 1e-2, "log": True}
DROPOUT = {"low": 0.0, "high": 0.4, "step": 0.1}
ALL: dict[str, Any] = {
    "learning_rate": RATE,
    "dropout": DROPOUT,
    "width": {"choices": [0.25, 1]},
    "loss": {"choices": ["predsim", "pred"]},
    "granularity_per_stage": {"choices": ["conv", "block"]},
    "first_loss": {"low": 1, "high": 4},
    "beta": {"low": 0.5, "high": 0.99},
    "decoder_size": {"low": 300, "high": 30000, "log": True},
    "pred_conv": {"choices": [False, True]},
    "sim_kernel": {"choices": [1, 3]},
}
OF_HEADS = "beta=0.9 decoder_size=300 pred_conv=true sim_kernel=1"


def space_config(bounds=((1, 3),) * 3, settings=None, **others) -> SpaceConfig:
    tables = {"family": "resnet18", "num_blocks": bounds, "settings": settings or {}, **others}
    return parse_config(SpaceConfig, tables, "space.toml")


def measure(hierarchy) -> Measures:
    """A stand-in for a plan: a network of width w has w times as many parameters."""
    width = float(dict(hierarchy.settings).get("width", 1))  # type: ignore
    return Measures(round(1000 * hierarchy.num_blocks * width), 1, 1.0)


def make_space(settings, references=(), measure=measure, **others) -> SearchSpace:
    return SearchSpace(space_config(settings=settings, **others), measure, references)


# ------------------------------------------------------------------ names


@pytest.mark.parametrize(
    "name",
    [
        "1-1-2",
        "1-1-2 learning_rate=0.001",
        "1-1-2 learning_rate=1e-05 dropout=0.1 width=0.25 loss=pred granularity=block first_loss=2",
        "1-1-2 granularity=conv,block,stage",
        f"1-1-2 first_loss=2 {OF_HEADS}",
        "1-1-2 pred_conv=false",
    ],
)
def test_a_name_is_read_and_written_in_one_way(name):
    hierarchy = Hierarchy.parse(name)
    assert hierarchy.blocks == (1, 1, 2)
    assert str(hierarchy) == name
    assert bool(hierarchy.settings) == (" " in name)


def test_the_order_and_the_form_in_which_settings_are_given_do_not_matter():
    one = Hierarchy.parse(" 01-1-2  loss=pred width=1 learning_rate=1e-3")
    assert str(one) == "1-1-2 learning_rate=0.001 width=1.0 loss=pred"
    assert one == Hierarchy.parse("1-1-2 learning_rate=0.001 width=1.0 loss=pred")


def test_hierarchies_are_equal_if_counts_and_settings_are():
    bare, a, b = (
        Hierarchy((1, 2)),
        Hierarchy((1, 2)).with_settings({"width": 0.5}),
        Hierarchy((1, 2)).with_settings({"width": 1}),
    )
    assert a == a.with_settings({"width": 0.5})
    for one, other in itertools.permutations([bare, a, b], 2):
        assert one != other
        assert not one == other  # noqa: SIM201
    assert len({bare, a, b, Hierarchy((1, 2)).with_settings({"width": 0.5})}) == 3
    assert a != Hierarchy((1, 3)).with_settings({"width": 0.5})
    assert a.with_settings({}) == bare
    for same in (copy.deepcopy(a), pickle.loads(pickle.dumps(a))):
        assert same == a
        assert dict(same.settings) == {"width": 0.5}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("1-1-2 depth=3", "some of learning_rate, dropout, .* each once, but got depth in '1-1-2"),
        ("1-1-2 width=1 width=1", "each once, but got width"),
        ("1-1-2 width=wide", "width must be a number, but got 'wide' in '1-1-2 width=wide'"),
        ("1-1-2 first_loss=1.5", "first_loss must be a whole number, but got '1.5'"),
        ("1-1-2 decoder_size=1e3", "decoder_size must be a whole number, but got '1e3'"),
        ("1-1-2 pred_conv=True", "pred_conv must be true or false, but got 'True' in '1-1-2 pred"),
        ("1-1-2 pred", "joined by '-', but got '1-1-2 pred'"),
        ("loss=pred", "joined by '-', but got 'loss=pred'"),
        ("", "joined by '-', but got ''"),
    ],
)
def test_a_name_with_a_mistake_is_refused(name, message):
    with pytest.raises(ConfigError, match=message):
        Hierarchy.parse(name)


def test_a_value_that_no_network_can_have_is_refused_where_a_network_is_built():
    for name, message in [
        ("1-1-2 dropout=1.5", "1-1-2 dropout=1.5: dropout .* less than 1, but got 1.5"),
        ("1-1-2 learning_rate=nan", "learning_rate .* finite number, but got nan"),
        ("1-1-2 loss=ce", "loss must be one of predsim, .* but got 'ce'"),
        ("1-1-2 beta=1.5", "beta .* less than or equal to 1, but got 1.5"),
        ("1-1-2 decoder_size=0", "decoder_size .* greater than or equal to 1, but got 0"),
        ("1-1-2 sim_kernel=2", "sim_kernel must be 1 or 3, but got 2"),
        ("1-1-2 granularity=conv,block", "or 4 with the stem's first, but got 2: conv, block"),
    ]:
        with pytest.raises(ConfigError, match=message):
            build_plan(
                "resnet18",
                Hierarchy.parse(name),
                NetworkConfig(),
                channels=1,
                side=8,
                num_classes=3,
            )


def test_settings_replace_those_of_the_study_and_no_others():
    network = NetworkConfig(width=0.5, beta=0.5, dropout=0.3)
    hierarchy = Hierarchy.parse("1-1-2 dropout=0.1 granularity=conv,block,stage")
    changed = {"dropout": 0.1, "granularity": ("conv", "block", "stage")}
    assert network_of(hierarchy, network) == network.model_copy(update=changed)
    assert network_of(Hierarchy((1, 1, 2)), network) is network
    own = {"beta": 0.9, "decoder_size": 300, "pred_conv": True, "sim_kernel": 1}
    replaced = network_of(Hierarchy.parse(f"1-1-2 {OF_HEADS}"), network)
    assert replaced == network.model_copy(update=own)


# ------------------------------------------------------------------ config


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"depth": RATE}, "unknown key settings.depth; expected one of: learning_rate, dropout"),
        ({"dropout": {"hi": 1}}, "unknown key settings.dropout.hi; expected one of: choices, low"),
        ({"dropout": {}}, r"must be \{choices = .*\} or \{low = .*\}, but got neither"),
        ({"dropout": {"low": 0.1}}, "but got neither"),
        ({"dropout": {"low": 0.0, "high": 0.1, "choices": [0.0]}}, "but got both"),
        ({"dropout": {"choices": []}}, r"must have choices, each once, but got \[\]"),
        ({"dropout": {"choices": [0.1, 0.1]}}, r"each once, but got \[0.1, 0.1\]"),
        ({"width": {"choices": [1, 1.0]}}, "each once"),
        ({"dropout": {"low": 0.2, "high": 0.2}}, "low < high, but got 0.2 and 0.2"),
        ({"dropout": {"low": 0.0, "high": 0.2, "log": True}}, "low > 0 and no step if log"),
        ({"width": {"low": 0.1, "high": 0.2, "log": True, "step": 0.1}}, "no step if log"),
        ({"dropout": {"low": 0.0, "high": 0.4, "step": 0.3}}, "but got 1.333 of 0.3"),
        ({"dropout": {"low": 0.0, "high": 1.0}}, "dropout: must be less than 1, but got 1.0"),
        ({"dropout": {"choices": [0.1, -0.1]}}, "greater than or equal to 0, but got -0.1"),
        ({"width": {"low": 0.0, "high": 1.0}}, "width: must be greater than 0, but got 0.0"),
        ({"learning_rate": {"low": 0.0, "high": 1.0}}, "must be greater than 0, but got 0.0"),
        (
            {"loss": {"choices": ["pred", "ce"]}},
            "sim, mse, transport, reconstruct, or an import path as ./mine.py:Mine, but got 'ce'",
        ),
        ({"loss": {"low": 0, "high": 1}}, "loss: must be text in quotes, but got 0.0"),
        ({"granularity": {"choices": ["conv", "unit"]}}, "but got 'unit'"),
        ({"granularity_per_stage": {"choices": [["conv", "conv"]]}}, "one word a choice"),
        (
            {"granularity": {"choices": ["conv", "none,stage"]}},
            "must have 1, 3 or 4 words a choice, but got 2: none,stage",
        ),
        ({"first_loss": {"low": 0, "high": 3}}, "greater than or equal to 1, but got 0"),
        ({"first_loss": {"low": 1, "high": 3.5}}, "must be a whole number"),
        ({"first_loss": {"low": 1, "high": 3, "step": 0.5}}, "must be a whole number"),
        ({"first_loss": {"choices": [True]}}, "must be a whole number, but got True"),
        ({"beta": {"low": 0.5, "high": 1.5}}, "less than or equal to 1, but got 1.5"),
        ({"decoder_size": {"low": 0.5, "high": 9}}, "must be a whole number, but got 0.5"),
        ({"decoder_size": {"low": 0, "high": 9}}, "greater than or equal to 1, but got 0"),
        ({"pred_conv": {"choices": ["true"]}}, "must be true or false, but got 'true'"),
        ({"pred_conv": {"low": 0, "high": 1}}, "must be true or false, but got 0.0"),
        ({"sim_kernel": {"choices": [1, 5]}}, "must be 1 or 3, but got 5"),
        ({"sim_kernel": {"low": 1, "high": 3}}, "must have choices, but got 1 to 3"),
        ({"num_hidden": {"choices": [0, 1]}}, "unknown key settings.num_hidden; expected one of"),
        *(
            ({name: {"choices": [1]}}, f"{name} cannot be searched: the networks of a study train")
            for name in ("batch_size", "epochs", "schedule")
        ),
        (
            {"granularity": {"choices": ["conv"]}, "granularity_per_stage": {"choices": ["conv"]}},
            "must be granularity or granularity_per_stage, but got both",
        ),
    ],
)
def test_a_mistake_in_the_settings_is_one_line(settings, message):
    with pytest.raises(ConfigError, match=message) as raised:
        space_config(settings=settings)
    assert len(str(raised.value).splitlines()) == 1
    assert str(raised.value).startswith("space.toml: ")


@pytest.mark.parametrize(
    ("name", "own_loss", "losses", "expected"),
    [
        ("beta", "predsim", None, None),
        ("beta", "pred", None, r"\(predsim\), but got pred"),
        ("beta", "predsim", ["sim", "mse"], r"\(predsim\), but got sim, mse"),
        ("beta", "pred", ["pred", "predsim"], None),
        ("pred_conv", "sim", None, r"\(predsim, pred, mse, transport, reconstruct\), but got sim"),
        ("sim_kernel", "mse", None, r"\(predsim, sim\), but got mse"),
        ("decoder_size", "sim", None, None),
    ],
)
def test_a_setting_is_searched_only_under_a_loss_that_it_says_something_of(
    name, own_loss, losses, expected
):
    settings = {name: ALL[name]} | ({"loss": {"choices": losses}} if losses else {})
    space = {"family": "resnet18", "num_blocks": [[1, 3]] * 3, "settings": settings}
    tables = {"space": space, "network": {"loss": own_loss}}
    if expected is None:
        assert parse_config(StudyConfig, tables, "study.toml").space.settings.names
        return
    message = rf"^study.toml: space.settings.{name} needs a loss .* {expected}$"
    with pytest.raises(ConfigError, match=message):
        parse_config(StudyConfig, tables, "study.toml")


# ------------------------------------------------------------------ Optuna parameters


def test_each_setting_is_a_parameter_of_its_own_kind():
    distributions = make_space(ALL).distributions()
    expected = {
        **{f"num_blocks_s{stage}": IntDistribution(1, 3) for stage in (1, 2, 3)},
        "learning_rate": FloatDistribution(1e-4, 1e-2, log=True),
        "dropout": FloatDistribution(0.0, 0.4, step=0.1),
        "width": CategoricalDistribution([0.25, 1.0]),
        "loss": CategoricalDistribution(["predsim", "pred"]),
        **{f"granularity_s{s}": CategoricalDistribution(["conv", "block"]) for s in (1, 2, 3)},
        "first_loss": IntDistribution(1, 4),
        "beta": FloatDistribution(0.5, 0.99),
        "decoder_size": IntDistribution(300, 30000, log=True),
        "pred_conv": CategoricalDistribution([False, True]),
        "sim_kernel": CategoricalDistribution([1, 3]),
    }
    assert distributions == expected
    assert list(distributions) == list(expected)


def test_parameters_and_settings_convert_into_each_other():
    space = make_space(ALL)
    name = (
        "1-2-3 learning_rate=0.0012345678 dropout=0.3 width=0.25 loss=pred "
        f"granularity=conv,block,conv first_loss=2 {OF_HEADS}"
    )
    params = space.to_params(Hierarchy.parse(name))
    assert params["granularity_s2"] == "block"
    assert params.keys() == space.distributions().keys()
    assert str(space.from_params({**params, "other": 1})) == name
    # what a reference brings stays to the last digit, what a sampler suggests is shortened
    assert dict(space.suggested(params).settings)["learning_rate"] == 0.001235


def test_a_suggestion_is_a_value_of_the_setting():
    space = make_space(ALL)
    base = space.to_params(
        Hierarchy.parse(
            "1-2-3 learning_rate=0.001 dropout=0.0 width=0.25 loss=pred "
            f"granularity=conv,block,conv first_loss=2 {OF_HEADS}"
        )
    )
    for given, settings in [
        ({"dropout": 3 * 0.1}, {"dropout": 0.3}),
        ({"learning_rate": 1e-2 * (1 - 1e-9)}, {"learning_rate": 0.01}),
        ({"learning_rate": 1.00004e-4}, {"learning_rate": 0.0001}),
        ({"first_loss": 3}, {"first_loss": 3}),
        ({"decoder_size": 12346}, {"decoder_size": 12350}),
        ({"decoder_size": 29999}, {"decoder_size": 30000}),
        ({"pred_conv": False}, {"pred_conv": False}),
    ]:
        suggested = space.suggested(base | given)
        assert settings.items() <= dict(suggested.settings).items()
        assert space.violation(suggested) is None


def test_a_suggestion_near_a_bound_stays_within_it():
    space = make_space({"learning_rate": {"low": 0.00123456, "high": 0.0123454}})
    counts = space.to_params(Hierarchy((1, 1, 1)).with_settings({"learning_rate": 0.01}))
    # four digits would be 0.001235, 0.001234 (too low) and 0.01235 (too high)
    for value, rate in [(0.00123461, 0.001235), (0.00123456, 0.001235), (0.01234539, 0.0123454)]:
        suggested = space.suggested(counts | {"learning_rate": value})
        assert dict(suggested.settings) == {"learning_rate": rate}
        assert space.violation(suggested) is None


# ------------------------------------------------------------------ the space


def test_the_feasible_ones_are_the_product_with_neighbours_that_share_side_by_side():
    settings = {"dropout": DROPOUT, "loss": {"choices": ["sim", "pred"]}}
    space = make_space(settings)
    hierarchies = make_space({}).feasible() or []
    assert len(hierarchies) == 14
    expected = [
        f"{h} dropout={dropout} loss={loss}"
        for dropout in (0.0, 0.1, 0.2, 0.3, 0.4)
        for loss in ("sim", "pred")
        for h in hierarchies
    ]
    assert [str(h) for h in space.feasible() or []] == expected
    assert space.size == 140
    assert make_space(
        {**settings, "granularity_per_stage": {"choices": ["conv", "block"]}}
    ).size == (8 * 140)


def test_a_space_with_a_continuous_setting_or_too_many_values_cannot_be_listed(monkeypatch):
    assert make_space({"learning_rate": RATE}).size is None
    assert make_space({"dropout": {"low": 0.0, "high": 0.4}}).feasible() is None
    assert make_space({"decoder_size": {"low": 300, "high": 400}}).size is None
    assert make_space({"decoder_size": {"low": 300, "high": 400, "step": 50}}).size == 14 * 3
    monkeypatch.setattr("dsaccel.space.space.MAX_ENUMERATED", 14 * 5)
    assert make_space({"dropout": DROPOUT}).size == 14 * 5
    monkeypatch.setattr("dsaccel.space.space.MAX_ENUMERATED", 14 * 5 - 1)
    assert make_space({"dropout": DROPOUT}).size is None


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("1-1-2", "the searched settings must be dropout, loss, but got none"),
        ("1-1-2 dropout=0.1", "must be dropout, loss, but got dropout"),
        ("1-1-2 dropout=0.1 loss=pred width=1", "but got dropout, width, loss"),
        ("1-1-2 dropout=0.15 loss=pred", "dropout must be within 0..0.4 in steps of 0.1, but got"),
        ("1-1-2 dropout=0.5 loss=pred", "dropout must be within 0..0.4 in steps of 0.1, but got"),
        ("1-1-2 dropout=0.1 loss=mse", "loss must be one of sim, pred, but got mse"),
        ("2-1-1 dropout=0.1 loss=sim", "constraint accelerated"),
        ("1-1-2 dropout=0.1 loss=sim", None),
    ],
)
def test_what_is_outside_says_which_setting_and_why(name, reason):
    space = make_space({"dropout": DROPOUT, "loss": {"choices": ["sim", "pred"]}})
    violation = space.violation(Hierarchy.parse(name))
    assert reason in violation if reason else violation is None


def test_values_of_truth_are_shown_as_they_are_written():
    space = make_space({"pred_conv": {"choices": [True]}})
    violation = space.violation(Hierarchy.parse("1-1-2 pred_conv=false"))
    assert violation == "pred_conv must be one of true, but got false"


def test_granularities_are_as_many_as_are_searched():
    per_stage = make_space({"granularity_per_stage": {"choices": ["conv", "block"]}})
    for name, reason in [
        ("1-1-2 granularity=conv", "granularity must be 3 words, but got one word"),
        ("1-1-2 granularity=conv,block", "granularity must be 3 words, but got 2"),
        ("1-1-2 granularity=conv,stage,block", "granularity_s2 must be one of conv, block, but"),
    ]:
        assert reason in str(per_stage.violation(Hierarchy.parse(name)))
    one = make_space({"granularity": {"choices": ["conv", "block"]}})
    reason = "granularity must be one of conv, block, but got conv,conv,conv"
    assert one.violation(Hierarchy.parse("1-1-2 granularity=conv,conv,conv")) == reason


def test_measured_bounds_are_those_of_the_network_with_its_settings():
    settings = {"width": {"choices": [0.5, 1.0]}, "learning_rate": {"choices": [0.1, 0.2]}}
    measured = []

    def count(hierarchy):
        measured.append(hierarchy)
        return measure(hierarchy)

    space = make_space(settings, measure=count, max_parameters=4000)
    feasible = space.feasible() or []
    for hierarchy in feasible:
        assert hierarchy.num_blocks <= (8 if dict(hierarchy.settings)["width"] == 0.5 else 4)
    assert {h.num_blocks for h in feasible if dict(h.settings)["width"] == 0.5} == {
        3,
        4,
        5,
        6,
        7,
        8,
    }
    assert {h.num_blocks for h in feasible if dict(h.settings)["width"] == 1.0} == {3, 4}
    # a learning rate costs nothing: each width is measured once, if at all
    assert len(measured) == len(set(measured)) <= 2 * 14


def plan_measure(hierarchy) -> Measures:
    plan = build_plan(
        "resnet18", hierarchy, NetworkConfig(width=1 / 16), channels=1, side=8, num_classes=3
    )
    return Measures.of(plan)


def test_a_first_loss_beyond_the_last_unit_is_outside():
    settings = {"first_loss": {"low": 1, "high": 9}, "granularity": {"choices": ["block", "conv"]}}
    space = make_space(settings, measure=plan_measure)
    for name, num_units in [("1-1-1", 4), ("1-1-3", 6)]:
        inside = Hierarchy.parse(f"{name} granularity=block first_loss={num_units}")
        assert space.violation(inside) is None
        beyond = Hierarchy.parse(f"{name} granularity=block first_loss={num_units + 1}")
        assert f"first_loss must be within 1..{num_units}" in str(space.violation(beyond))
    with pytest.raises(ConfigError, match=r"no hierarchy is possible: first_loss must be within"):
        make_space({"first_loss": {"low": 90, "high": 99}}, measure=plan_measure)
    # 14 hierarchies with a first loss of 1 or 7; of 90 there is no network
    choices = {"first_loss": {"choices": [1, 7, 90]}}
    with pytest.raises(ConfigError, match=r"none of the 28 .* must have num_parameters at most 9,"):
        make_space(choices, measure=plan_measure, max_parameters=9)


def test_what_lies_on_the_way_has_the_settings_of_what_is_asked_for():
    space = make_space({"dropout": DROPOUT})
    asked = [Hierarchy.parse(f"1-1-3 dropout={d}") for d in (0.1, 0.2)]
    asked.append(Hierarchy.parse("1-1-2 dropout=0.2"))
    way = ["1-1-1 dropout=0.1", "1-1-1 dropout=0.2", "1-1-2 dropout=0.1"]
    assert sorted(map(str, space.on_the_way(asked))) == way
    assert not any(map(space.violation, space.on_the_way(asked)))


def test_references_have_the_study_s_own_settings():
    tables = {
        "space": {
            "family": "resnet18",
            "num_blocks": [[1, 3]] * 3,
            "settings": {
                "learning_rate": RATE,
                "dropout": DROPOUT,
                "granularity_per_stage": {"choices": ["conv", "block"]},
            },
        },
        "network": {"dropout": 0.2, "granularity": "block"},
        "training": {"learning_rate": 0.0012345678},
    }
    config = parse_config(StudyConfig, tables, "study.toml")
    own = "learning_rate=0.0012345678 dropout=0.2 granularity=block,block,block"
    reference = with_own_settings(Hierarchy((4, 1, 1)), config)
    assert str(reference) == f"4-1-1 {own}"
    other = with_own_settings(Hierarchy.parse("4-1-1 dropout=0.1"), config)
    assert str(other) == f"4-1-1 {own}".replace("0.2", "0.1")
    space = SearchSpace(config.space, measure, [reference])
    params = space.to_params(reference)
    assert space.from_params(params) == reference
    for name, distribution in space.distributions().items():
        assert distribution._contains(distribution.to_internal_repr(params[name]))


def test_a_reference_whose_settings_are_not_searched_is_refused():
    message = (
        r"a reference is trained with the study's own settings, and dropout must be within 0..0.4 "
        r"in steps of 0.1, but got 0.5 in 2-2-2 dropout=0.5; change it, space.settings or"
    )
    with pytest.raises(ConfigError, match=message):
        make_space({"dropout": DROPOUT}, [Hierarchy.parse("2-2-2 dropout=0.5")])
    with pytest.raises(ConfigError, match="searched settings must be none, but got loss"):
        make_space({}, [Hierarchy.parse("2-2-2 loss=pred")])


# ------------------------------------------------------------------ proposals

FINITE: dict[str, Any] = {
    "dropout": {"low": 0.0, "high": 0.4, "step": 0.2},
    "loss": {"choices": ["sim", "pred"]},
}
JOINT: dict[str, Any] = {
    "learning_rate": RATE,
    "loss": {"choices": ["sim", "pred"]},
    "first_loss": {"low": 1, "high": 3},
}


def value_of(hierarchy) -> float:
    """Best at 3-3-3 with the loss `pred`, a rate of 1e-3 and a first loss of 2."""
    settings = dict(hierarchy.settings)
    value = -float(sum(abs(n - 3) for n in hierarchy.blocks))
    value -= 4.0 * (settings.get("loss", "pred") != "pred")
    value -= 4.0 * abs(math.log10(float(settings.get("learning_rate", 1e-3))) + 3)  # type: ignore
    return value - abs(int(settings.get("first_loss", 2)) - 2)  # type: ignore


def make_trial(space, hierarchy, number):
    trial = create_trial(
        params=space.to_params(hierarchy),
        distributions=space.distributions(),
        value=value_of(hierarchy),
        intermediate_values={1: value_of(hierarchy)},
    )
    trial.number = number
    return trial


def search(space, num, cohort_size, trials=(), **options):
    trials = list(trials)
    while len(trials) < num:
        cohort = propose(space, trials, min(cohort_size, num - len(trials)), seed=1, **options)
        if not cohort:
            break
        trials += [make_trial(space, h, len(trials) + i) for i, h in enumerate(cohort)]
    return trials


def met(space, trials):
    return [space.from_params(trial.params) for trial in trials]


LEARNING = ["tpe", "gp", "nsga2"]


@pytest.mark.parametrize("strategy", ["tpe", "nsga2", "random", "exhaustive"])
def test_a_finite_space_is_searched_to_its_end_each_once(strategy):
    space = make_space(FINITE, bounds=((1, 2),) * 3)
    found = met(space, search(space, 99, 5, strategy=strategy))
    assert len(found) == 5 * 6 == space.size
    assert set(found) == set(space.feasible() or [])


@pytest.mark.long
@pytest.mark.parametrize("strategy", [*LEARNING, "random"])
def test_a_continuous_space_is_proposed_within_its_values_and_never_twice(strategy):
    space = make_space(JOINT)
    trials = search(space, 24, 4, strategy=strategy)
    found = met(space, trials)
    assert len(set(found)) == 24
    assert [space.violation(h) for h in found] == [None] * 24
    assert {dict(h.settings)["loss"] for h in found} == {"sim", "pred"}
    rates = [float(dict(h.settings)["learning_rate"]) for h in found]  # type: ignore
    assert rates == [float(f"{rate:.4g}") for rate in rates]


@pytest.mark.long
@pytest.mark.parametrize("strategy", [*LEARNING, "random"])
def test_a_resumed_joint_search_proposes_the_same(strategy):
    space = make_space(JOINT)
    whole = search(space, 24, 6, strategy=strategy)
    resumed = search(make_space(JOINT), 24, 6, trials=whole[:12], strategy=strategy)
    assert met(space, resumed) == met(space, whole)


@pytest.mark.parametrize("strategy", LEARNING)
def test_a_joint_space_is_learnt_from(strategy):
    space = make_space(JOINT, constraint="none")
    trials = search(space, 30, 30, strategy="random")
    cohort = propose(space, trials, 5, seed=1, strategy=strategy)

    def mean(hierarchies):
        return sum(map(value_of, hierarchies)) / len(hierarchies)

    assert mean(cohort) > mean(met(space, trials)) + 1


@pytest.mark.parametrize("strategy", ["gp", "nsga2"])
def test_the_nearest_counts_are_taken_with_the_settings_as_suggested(strategy, monkeypatch):
    """All suggestions are infeasible in their counts, and their settings are kept."""
    space = make_space(JOINT)
    trials = search(space, 12, 12, strategy="random")
    real, suggested = SearchSpace.suggested, []

    def deep_first(self, params):
        hierarchy = real(self, {**params, "num_blocks_s1": 3, "num_blocks_s3": 1})
        suggested.append(dict(hierarchy.settings))
        return hierarchy

    monkeypatch.setattr(SearchSpace, "suggested", deep_first)
    cohort = propose(space, trials, 3, seed=1, strategy=strategy)
    assert [dict(h.settings) for h in cohort] == suggested
    for hierarchy in cohort:
        assert space.violation(hierarchy) is None
        assert abs(hierarchy.blocks[0] - 3) + abs(hierarchy.blocks[2] - 1) == 2


def test_exhaustive_refuses_a_continuous_space():
    with pytest.raises(ConfigError, match="exhaustive needs a space that can be listed"):
        propose(make_space(JOINT), [], 1, seed=1, strategy="exhaustive")


def test_draws_fill_the_range_evenly_in_the_logarithm():
    space = make_space({"learning_rate": RATE, "width": {"low": 0.2, "high": 0.4}})
    drawn = [space.dimensions.draw(random.Random(seed)) for seed in range(400)]
    rates = [float(d["learning_rate"]) for d in drawn]  # type: ignore
    widths = [float(d["width"]) for d in drawn]  # type: ignore
    assert 0.4 < sum(rate < 1e-3 for rate in rates) / 400 < 0.6
    assert 0.4 < sum(width < 0.3 for width in widths) / 400 < 0.6
    assert 1e-4 <= min(rates) < 2e-4
    assert 5e-3 < max(rates) <= 1e-2
    space = make_space({"decoder_size": ALL["decoder_size"]})
    drawn = [space.dimensions.draw(random.Random(seed)) for seed in range(400)]
    sizes = [int(d["decoder_size"]) for d in drawn]  # type: ignore
    assert 0.4 < sum(size < 3000 for size in sizes) / 400 < 0.6
    assert {type(d["decoder_size"]) for d in drawn} == {int}


def test_without_settings_nothing_is_drawn():
    rng = random.Random(1)
    state = rng.getstate()
    assert Dimensions(space_config().settings, 3).draw(rng) == {}
    assert rng.getstate() == state


def test_a_measured_bound_that_nothing_keeps_is_refused_where_settings_have_no_end():
    endless = {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}
    with pytest.raises(ConfigError, match=r"none of the 14 .* must have num_parameters at most 9,"):
        make_space(endless, measure=plan_measure, max_parameters=9)
    with pytest.raises(ConfigError, match=r"must have flops at least 1000000000000000, but"):
        make_space(endless, measure=plan_measure, min_flops=10**15)
    # one of the widths may keep it
    make_space(
        endless | {"width": {"low": 0.01, "high": 4.0}}, measure=plan_measure, max_parameters=9
    )


# ------------------------------------------------------------------ options of parts


TAILS: dict[str, Any] = {"head_options": {"ratio": {"choices": [0.25, 1.0]}}}


def test_an_option_of_a_part_is_searched_as_a_setting_is():
    tables = {"family": "resnet18", "num_blocks": [[1, 1]] * 3, "settings": TAILS}
    network = {"head": "tail", "head_options": {"ratio": 0.5, "depth": 1}}
    study = parse_config(StudyConfig, {"space": tables, "network": network}, "study.toml")

    def plan(hierarchy):
        return build_plan("resnet18", hierarchy, study.network, channels=1, side=8, num_classes=3)

    space = SearchSpace(study.space, lambda h: Measures.of(plan(h)))
    names = ["1-1-1 head_options.ratio=0.25", "1-1-1 head_options.ratio=1.0"]
    assert list(map(str, space.feasible() or [])) == names
    quarter, whole = map(Hierarchy.parse, names)
    assert space.to_params(quarter)["head_options.ratio"] == 0.25
    assert space.from_params(space.to_params(whole)) == whole
    assert network_of(quarter, study.network).head_options == {"ratio": 0.25, "depth": 1}
    assert plan(quarter).num_parameters_training < plan(whole).num_parameters_training
    own = with_own_settings(Hierarchy((1, 1, 1)), study)
    assert str(own) == "1-1-1 head_options.ratio=0.5"
    with pytest.raises(ConfigError, match=r"ratio must be less than or equal to 1, but got 2"):
        plan(Hierarchy.parse("1-1-1 head_options.ratio=2"))
    with pytest.raises(ConfigError, match="head tail: unknown key size"):
        plan(Hierarchy.parse("1-1-1 head_options.size=2"))


def test_an_option_has_choices_alone():
    with pytest.raises(ConfigError, match="must have choices, but ratio has low and high"):
        space_config(settings={"head_options": {"ratio": {"low": 0.1, "high": 1.0}}})
