"""Variance components: moments against a second implementation, a simulation and hand counts."""

import itertools
import json
import math

import numpy as np
import pytest
from commands import run
from tiny_study import config

from dsaccel.analysis.landscape import Landscape, Network
from dsaccel.analysis.landscape_files import write_landscape
from dsaccel.analysis.variance import Components, variance_components
from dsaccel.planner import Planner
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.statistics import seeds_needed

TRUE = {"prefix": 4.0, "suffix": 1.0, "seed": 2.25, "prefix_seed": 0.49, "suffix_seed": 0.25}


def simulated(rng, sizes, num_seeds, sigma2=TRUE):
    """Draw from the model: hierarchies (prefix, suffix) with as many suffixes as `sizes` says."""
    sd = {name: math.sqrt(value) for name, value in sigma2.items()}
    seed = rng.normal(0, sd["seed"], num_seeds)
    table = {}
    for g, size in enumerate(sizes, 1):
        prefix = rng.normal(0, sd["prefix"])
        shared = rng.normal(0, sd["prefix_seed"], num_seeds)
        for i in range(1, size + 1):
            own = rng.normal(0, sd["suffix_seed"], num_seeds)
            y = 5 + prefix + rng.normal(0, sd["suffix"]) + seed + shared + own
            table[Hierarchy((g, i))] = dict(enumerate(y.tolist()))
    return table


def test_a_table_made_of_known_effects_is_taken_apart_by_hand():
    # prefixes differ by 2, suffixes and seeds do nothing but for the seed's 1: H = PS = E = 0
    table = {Hierarchy((g, i)): {s: 2.0 * g + s for s in (0, 1)} for g in (1, 2) for i in (1, 2)}
    parts = variance_components(table, 1)
    assert parts is not None
    # one degree of freedom each: variance of {2, 4} is 2, of {0, 1} is 0.5
    assert (parts.prefix, parts.suffix) == (pytest.approx(2.0), 0.0)
    assert (parts.seed, parts.prefix_seed, parts.suffix_seed) == (pytest.approx(0.5), 0.0, 0.0)
    assert (parts.num_prefixes, parts.num_hierarchies, parts.num_seeds) == (2, 4, 2)


LEVELS = {
    "prefix": lambda g, i, s: g,
    "suffix": lambda g, i, s: (g, i),
    "seed": lambda g, i, s: s,
    "prefix_seed": lambda g, i, s: (g, s),
    "suffix_seed": lambda g, i, s: (g, i, s),
}
"""Of each random effect: which draw an accuracy takes."""


@pytest.mark.parametrize("effect", LEVELS)
@pytest.mark.parametrize("sizes", [(3, 3, 3), (1, 2, 5, 4)])
def test_estimates_are_unbiased_for_equal_and_unequal_groups(effect, sizes, monkeypatch):
    """Exactly: an estimate is a quadratic form q, and for independent effects of variance 1 its
    expectation is the sum of q over the tables in which one draw is 1 and all others are 0.
    """
    # unbiased before truncation: let negative estimates stand
    monkeypatch.setattr("dsaccel.analysis.variance.max", lambda _, x: x, raising=False)
    cells = [(g, i, s) for g, n in enumerate(sizes) for i in range(n) for s in range(4)]
    expected = dict.fromkeys(LEVELS, 0.0)
    for draw in {LEVELS[effect](*cell) for cell in cells}:
        table: dict[Hierarchy, dict[int, float]] = {}
        for g, i, s in cells:
            table.setdefault(Hierarchy((g, i)), {})[s] = float(LEVELS[effect](g, i, s) == draw)
        parts = variance_components(table, 1)
        assert parts is not None
        for name in expected:
            expected[name] += getattr(parts, name)
    assert expected == pytest.approx({name: float(name == effect) for name in LEVELS}, abs=1e-12)


def test_the_residual_is_what_pairs_of_siblings_say():
    """Var(y_i - y_j over seeds) / 2 of two suffixes of one prefix, averaged over groups by df."""
    table = simulated(np.random.default_rng(2), (3, 3, 3), 5)
    parts = variance_components(table, 1)
    assert parts is not None
    halves = [
        np.var(
            [table[Hierarchy((g, i))][s] - table[Hierarchy((g, j))][s] for s in range(5)], ddof=1
        )
        / 2
        for g in (1, 2, 3)
        for i, j in itertools.combinations((1, 2, 3), 2)
    ]
    assert parts.suffix_seed == pytest.approx(np.mean(halves))
    assert parts.paired_std_siblings == pytest.approx(math.sqrt(2 * np.mean(halves)))


def test_negative_estimates_are_reported_as_zero_and_named():
    # the suffixes cancel over seeds: their means are equal, their residuals are not
    table = {Hierarchy((g, i)): {0: 1.0 * g + i, 1: 1.0 * g - i} for g in (1, 2) for i in (1, 2)}
    parts = variance_components(table, 1)
    assert parts is not None
    assert parts.suffix == 0
    assert "suffix" in parts.truncated


def test_seeds_missing_for_one_hierarchy_are_left_out_for_all():
    table = simulated(np.random.default_rng(3), (2, 2), 4)
    whole = variance_components({h: {s: y[s] for s in (0, 1, 2)} for h, y in table.items()}, 1)
    del table[Hierarchy((1, 1))][3]
    assert variance_components(table, 1) == whole


@pytest.mark.parametrize("sizes", [(4,), (1, 1, 1)])
def test_what_cannot_be_told_apart_has_no_components(sizes):
    assert variance_components(simulated(np.random.default_rng(0), sizes, 3), 1) is None
    assert variance_components(simulated(np.random.default_rng(0), (2, 2), 1), 1) is None


def test_pairing_and_sharing_a_prefix_need_fewer_seeds():
    parts = Components(9.0, 9.0, 1e-4, 0.5e-4, 0.25e-4, 2, 4, 3)
    needed = parts.seeds_for(0.01)
    assert needed == {
        "siblings": seeds_needed(math.sqrt(0.5e-4), 0.01),
        "paired": seeds_needed(math.sqrt(1.5e-4), 0.01),
        "unpaired": seeds_needed(math.sqrt(3.5e-4), 0.01),
    }
    assert list(needed.values()) == sorted(n for n in needed.values() if n)


# ------------------------------------------------------------------ the command


def landscape_file(path, num_seeds=3):
    """A 2 x 2 x 2 space whose accuracies are known: 3 points a first stage, 1 a last one."""
    space = [*map(Hierarchy, itertools.product((1, 2), repeat=3))]
    outside = Hierarchy((1, 1, 3))
    images = {"image_size": 8, "channels": 1}
    study = config(training={"epochs": 1}, references=[], data=images)
    planner = Planner.of(study, 10)
    plans = {h: planner(h) for h in [*space, outside]}
    networks = {
        h: Network(plan.num_parameters, plan.flops, plan.shallow_scale, h != outside)
        for h, plan in plans.items()
    }
    rng = np.random.default_rng(0)
    outputs = {
        seed: {
            h: 0.5 + 0.03 * h.blocks[0] + 0.01 * h.blocks[-1] + noise
            for h, noise in zip(space, rng.normal(0, 0.002, len(space)).tolist(), strict=True)
        }
        | {outside: 0.99}
        for seed in range(1, num_seeds + 1)
    }
    accuracies = {
        seed: {h: {1: (0.1,) * plans[h].num_local_losses + (y,)} for h, y in table.items()}
        for seed, table in outputs.items()
    }
    write_landscape(Landscape(study, 10, 360, networks, accuracies), path)
    return accuracies


def test_the_command_takes_a_landscape_apart_and_counts_seeds(tmp_path):
    accuracies = landscape_file(tmp_path / "x.csv")
    table = {
        h: {seed: accuracies[seed][h][1][-1] for seed in accuracies}
        for h in accuracies[1]
        if h.blocks != (1, 1, 3)  # infeasible
    }
    expected = variance_components(table, 1)
    assert expected is not None
    args = ["variance", str(tmp_path / "x.csv"), "--resolution", "0.25"]
    summary = json.loads(run(*args, "--json").stdout)
    assert summary["suffix_seed"] == pytest.approx(expected.suffix_seed)
    assert summary["prefix"] == pytest.approx(expected.prefix)
    assert summary["seeds_needed"] == expected.seeds_for(0.0025)
    shown = run(*args).stdout
    assert f"with {summary['seeds_needed']['paired']} seeds" in shown
    assert "0.25 points" in shown


def test_where_nothing_varies_over_seeds_no_number_of_them_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "dsaccel.analysis.landscape.Landscape.objective",
        lambda self, seed, h: 0.5 + 0.03 * h.blocks[0] + 0.01 * h.blocks[-1] + 0.1 * seed,
    )
    landscape_file(tmp_path / "x.csv")
    args = ["variance", str(tmp_path / "x.csv")]
    summary = json.loads(run(*args, "--json").stdout)
    assert summary["seeds_needed"]["siblings"] is summary["seeds_needed"]["paired"] is None
    assert summary["seeds_needed"]["unpaired"] > 2
    shown = " ".join(run(*args).stdout.split())
    assert shown.count("seed by seed: cannot be judged: the differences do not vary") == 2
    assert f"seeds of its own: with {summary['seeds_needed']['unpaired']} seeds" in shown


@pytest.mark.parametrize(
    ("args", "code", "named"),
    [
        (["--resolution", "0"], 2, "above 0"),
        (["--prefix-stages", "3"], 2, "within 1..2"),
        ([], 3, "has 1 seeds"),
    ],
)
def test_the_command_refuses_what_it_cannot_answer(tmp_path, args, code, named):
    landscape_file(tmp_path / "x.csv", num_seeds=1)
    result = run("variance", str(tmp_path / "x.csv"), *args)
    assert result.exit_code == code
    assert named in result.stderr
