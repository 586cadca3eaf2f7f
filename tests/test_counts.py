"""What is counted, listed and drawn stage by stage, against filtered boxes."""

import itertools
import math
import random
from collections import Counter
from typing import Any

import pytest

from dsaccel.config.space import SettingsConfig, SpaceConfig
from dsaccel.config.study import NetworkConfig
from dsaccel.errors import ConfigError
from dsaccel.families import build_plan, find_family
from dsaccel.parts import BUILTIN
from dsaccel.space import space as space_module
from dsaccel.space.bounds import Measures
from dsaccel.space.counts import Counts
from dsaccel.space.space import SearchSpace
from dsaccel.spec.hierarchy import Hierarchy

RULES = {
    "accelerated": lambda shallow, deep: all(s <= d for s in shallow for d in deep),
    "strict": lambda shallow, deep: all(s < d for s in shallow for d in deep),
    "total": lambda shallow, deep: sum(shallow) <= sum(deep),
    "none": lambda shallow, deep: True,
}
NEEDLE = {"family": "vgg", "num_blocks": ((1, 12),) * 5, "max_total_blocks": 7}


def filtered(config, num_shallow):
    low, high = config.min_total_blocks or 0, config.max_total_blocks or math.inf
    box = itertools.product(*(range(low, high + 1) for low, high in config.num_blocks))
    rule = RULES[config.constraint]
    return [h for h in box if low <= sum(h) <= high and rule(h[:num_shallow], h[num_shallow:])]


def random_config(rng, constraint):
    bounds = []
    for _ in range(rng.randint(2, 5)):
        low = rng.randint(1, 3)
        bounds.append((low, low + rng.randint(0, 4)))
    total = sum(low for low, _ in bounds)
    return SpaceConfig(
        family="vgg",
        num_blocks=tuple(bounds),
        constraint=constraint,
        min_total_blocks=rng.choice([None, total + rng.randint(0, 8)]),
        max_total_blocks=rng.choice([None, total + rng.randint(0, 12)]),
    )


def cases():
    """Some are empty, some are the whole box."""
    rng = random.Random(1)
    for constraint in RULES:
        for _ in range(40):
            config = random_config(rng, constraint)
            num_shallow = rng.randint(1, len(config.num_blocks) - 1)
            yield config, num_shallow, filtered(config, num_shallow)


def test_counts_are_listed_and_numbered_as_the_filtered_box():
    sizes = []
    for config, num_shallow, expected in cases():
        counts = Counts(config, num_shallow)
        sizes.append(counts.num())
        assert list(counts.listed()) == expected
        assert [counts.at(place) for place in range(counts.num())] == expected
        begins = [begin[:1] for begin in expected]
        assert counts.longer(()) == list(dict.fromkeys(begins))
        assert all(counts.num(begin) == begins.count(begin) for begin in begins)
        assert [h for begin in counts.longer(()) for h in counts.listed(begin)] == expected
        with pytest.raises(IndexError):
            counts.at(counts.num())
    assert min(sizes) == 0
    assert max(sizes) > 500


def test_the_nearest_counts_come_first_and_of_equals_the_first_in_order():
    rng = random.Random(2)
    for config, num_shallow, expected in cases():
        target = tuple(rng.randint(0, 9) for _ in config.num_blocks)

        def away(h, target=target):
            return sum(abs(n - t) for n, t in zip(h, target, strict=True)), h

        nearest = list(Counts(config, num_shallow).nearest(target))
        assert nearest == sorted(expected, key=away)


def test_no_stage_falls_below_the_one_end_or_exceeds_the_other():
    def within(small, large):
        return all(a <= b for a, b in zip(small, large, strict=True))

    for config, num_shallow, expected in cases():
        counts = Counts(config, num_shallow)
        for length in range(len(config.num_blocks)):
            for begin in {h[:length] for h in expected}:
                longer = counts.longer(begin)
                for small, large in map(counts.ends, longer):
                    begun = [h for h in expected if h[: length + 1] == small[: length + 1]]
                    assert all(within(small, h) and within(h, large) for h in begun)
                lows = [counts.ends(b)[0] for b in longer]
                assert all(itertools.starmap(within, itertools.pairwise(lows)))


def test_draws_are_uniform_where_few_of_a_large_box_are_feasible():
    space = SearchSpace(SpaceConfig(**NEEDLE), lambda _: pytest.fail("measured"))
    assert space.feasible() == [*map(Hierarchy, filtered(space.config, 2))]
    rng = random.Random(3)
    drawn = Counter(space.draw(rng) for _ in range(10_000))
    assert sorted(drawn) == space.feasible()
    assert len(drawn) == 10
    assert all(abs(num - 1000) < 120 for num in drawn.values())


@pytest.mark.parametrize("most", [12, 100])
@pytest.mark.parametrize("constraint", RULES)
def test_a_huge_box_with_few_feasible_ones_is_listed_and_one_with_many_is_not(most, constraint):
    box = {"family": "vgg", "num_blocks": ((1, most),) * 5, "constraint": constraint}
    few = SearchSpace(SpaceConfig(**box, max_total_blocks=9), lambda _: pytest.fail("measured"))
    smaller = few.config.model_copy(update={"num_blocks": ((1, 5),) * 5})
    assert few.feasible() == [*map(Hierarchy, filtered(smaller, 2))]
    box["num_blocks"] = ((1, max(most, 30)),) * 5
    many = SearchSpace(SpaceConfig(**box), lambda _: pytest.fail("measured"))
    assert many.size is None
    assert many.violation(many.draw(random.Random(4))) is None


@pytest.mark.long
@pytest.mark.parametrize("granularity", ["conv", "block", "stage"])
@pytest.mark.parametrize("family", BUILTIN["family"])
def test_a_network_costs_no_less_with_a_block_more(family, granularity):
    """What the listing under measured bounds rests on."""

    def plan(h):
        network = NetworkConfig(width=0.25, num_hidden=2, granularity=granularity)
        return build_plan(family, Hierarchy(h), network, channels=3, side=32, num_classes=10)

    for h in itertools.product((1, 2, 4), repeat=find_family(family).standard.num_stages):
        for stage in range(len(h)):
            less, more = plan(h), plan((*h[:stage], h[stage] + 1, *h[stage + 1 :]))
            assert less.num_parameters < more.num_parameters
            assert less.flops < more.flops
            assert less.shallow_scale <= more.shallow_scale + 1e-12
            assert less.num_local_losses <= more.num_local_losses


def measure(hierarchy):
    """A stand-in for a plan: later stages have more parameters, earlier ones more FLOPs."""
    settings: dict[str, Any] = dict(hierarchy.settings)
    if settings.get("first_loss", 1) > hierarchy.num_blocks:
        raise ConfigError(f"first_loss must be within 1..{hierarchy.num_blocks}")
    width = settings.get("width", 1.0)
    num_parameters = sum(n * 4**stage for stage, n in enumerate(hierarchy.blocks))
    flops = sum(n * 3 ** (9 - stage) for stage, n in enumerate(hierarchy.blocks))
    return Measures(int(width * num_parameters), int(width * flops), hierarchy.blocks[0] / 10)


def measured_cases():
    rng = random.Random(5)
    settings = SettingsConfig.model_validate(
        {"width": {"choices": [0.5, 1.0]}, "first_loss": {"low": 1, "high": 9}}
    )
    for constraint in [*RULES] * 8:
        config = random_config(rng, constraint)
        expected = [*map(Hierarchy, filtered(config, len(config.num_blocks) // 2))]
        if not expected:
            continue
        one, other = sorted(measure(rng.choice(expected)).num_parameters for _ in range(2))
        config = config.model_copy(
            update={
                "min_parameters": rng.choice([None, one]),
                "max_parameters": rng.choice([None, other]),
                "max_flops": rng.choice([None, measure(expected[-1]).flops]),
                "max_shallow_scale": rng.choice([None, 0.4]),
                "settings": rng.choice([SettingsConfig(), settings]),
            }
        )
        yield config, expected


@pytest.mark.parametrize("most_listed", [100_000, 50])
def test_measured_bounds_leave_those_of_a_brute_force(most_listed, monkeypatch):
    """Also where beginnings are looked into only because few hierarchies may be left."""
    monkeypatch.setattr(space_module, "MAX_ENUMERATED", most_listed)
    sizes = []
    for config, counts in measured_cases():
        expected = []
        settings = [{}]
        if config.settings.names:
            settings = [{"width": w, "first_loss": n} for w in (0.5, 1.0) for n in range(1, 10)]
        for setting, h in itertools.product(settings, counts):
            try:
                costs = measure(h.with_settings(setting))
            except ConfigError:
                continue
            if (
                (config.min_parameters or 0) <= costs.num_parameters
                and costs.num_parameters <= (config.max_parameters or math.inf)
                and costs.flops <= (config.max_flops or math.inf)
                and costs.shallow_scale <= (config.max_shallow_scale or 1)
            ):
                expected.append(h.with_settings(setting))
        if not expected:
            with pytest.raises(ConfigError, match="none of the"):
                SearchSpace(config, measure)
            continue
        space = SearchSpace(config, measure)
        sizes.append(space.size)
        assert space.feasible() == (expected if len(expected) <= most_listed else None)
        assert all(space.violation(h) is None for h in expected)
    assert any(size is not None and size > 10 for size in sizes)
    assert (None in sizes) == (most_listed == 50)


@pytest.mark.parametrize(
    ("bounds", "size"),
    [
        ({"max_flops": 40_000}, 790),
        ({"max_flops": 60_000}, None),
        ({"max_parameters": 20_000}, None),
        ({"max_parameters": 1_000_000}, None),
    ],
)
def test_few_of_a_space_that_is_too_large_to_list_are_measured(bounds, size):
    measured = []

    def count(hierarchy):
        measured.append(hierarchy)
        return measure(hierarchy)

    config = SpaceConfig(family="vgg", num_blocks=((1, 30),) * 5, constraint="none", **bounds)
    assert SearchSpace(config, count).size == size
    assert len(measured) == len(set(measured)) <= 2 * space_module.MAX_LOOKED_INTO
