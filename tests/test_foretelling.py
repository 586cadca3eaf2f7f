"""Whether one landscape foretells another, better than what can be counted."""

import itertools
import json
import math
from dataclasses import astuple

import numpy as np
import pytest
from test_agreement import landscape_of, tau_b
from typer.testing import CliRunner

from dsaccel.analysis.foretelling import Foretelling
from dsaccel.analysis.landscape_files import write_landscape
from dsaccel.cli.app import app
from dsaccel.errors import ConfigError
from dsaccel.report.foretelling import foretelling_sentences, foretelling_summary
from dsaccel.statistics import interval


def accuracies(value, scale, common=0.0):
    """A landscape's: `value` of a hierarchy, and noise of a seed and a hierarchy."""

    def accuracy(seed, hierarchy, epoch, part):
        noise = np.random.default_rng([seed, *hierarchy.blocks]).normal()
        other = np.random.default_rng([seed, 7, *hierarchy.blocks, int(1e6 * scale)]).normal()
        return 0.5 + value(hierarchy) + scale * (other + common * noise)

    return accuracy


def middle(hierarchy):
    """Best with two blocks everywhere: no count foretells it."""
    return -0.02 * sum((n - 2) ** 2 for n in hierarchy.blocks)


def test_a_run_is_compared_with_runs_of_other_seeds_and_a_ranking_with_each_run():
    first = landscape_of(accuracies(middle, 0.01), seeds=(1, 2, 3))
    second = landscape_of(accuracies(middle, 0.02), seeds=(2, 3, 4))
    found = Foretelling(first, second)
    names = found.hierarchies
    a, b = (
        {seed: [each.objectives()[h][seed] for h in names] for seed in each.accuracies}
        for each in (first, second)
    )
    one = [float(np.mean([tau_b(a[s], y) for s in a if s != t])) for t, y in b.items()]
    assert astuple(found.one_run()) == pytest.approx(astuple(interval(one, -1, 1)))
    mean = {t: np.mean([x for s, x in a.items() if s != t], axis=0) for t in b}
    own = [float(tau_b(mean[t], y)) for t, y in b.items()]
    rows = {row.name: row for row in found.predictors()}
    assert astuple(rows["the first landscape"].tau) == pytest.approx(astuple(interval(own, -1, 1)))
    flops = [second.networks[h].flops for h in names]
    by_flops = [float(tau_b(flops, y)) for y in b.values()]
    assert astuple(rows["FLOPs"].tau) == pytest.approx(astuple(interval(by_flops, -1, 1)))
    assert rows["minus FLOPs"].tau.mean == pytest.approx(-np.mean(by_flops))
    lead = rows["FLOPs"].lead
    assert lead is not None
    assert lead.mean == pytest.approx(np.mean(own) - np.mean(by_flops))
    pairs = [tau_b(x, y) for x, y in itertools.combinations(b.values(), 2)]
    assert found.spread(1).seeds_agree == pytest.approx(np.mean(pairs))
    assert found.spread(0).noise == pytest.approx(0.01, rel=0.3)
    assert any("foretells the second better than the best count" in s for s in told(found))


def told(found):
    return list(foretelling_sentences(found))


def test_noise_that_runs_of_one_seed_share_foretells_nothing():
    """Both landscapes have the same noise at a seed and nothing else."""
    first = landscape_of(accuracies(lambda _: 0.0, 1e-6, common=1e4))
    second = landscape_of(accuracies(lambda _: 0.0, 2e-6, common=1e4))
    found = Foretelling(first, second)
    same = tau_b(found.final[0][0], found.final[1][0])
    assert same > 0.95
    assert abs(found.one_run().mean) < 0.3
    assert any(
        "is not shown" in sentence or "the best count," in sentence for sentence in told(found)
    )


def test_a_count_that_is_all_there_is_to_know_is_not_beaten():
    def value(hierarchy):
        return -0.01 * sum(hierarchy.blocks[:1])

    found = Foretelling(
        landscape_of(accuracies(value, 0.02)), landscape_of(accuracies(value, 0.005))
    )
    assert not any("better than the best count" in s and "not shown" not in s for s in told(found))


def test_of_one_seed_nothing_is_said_of_noise():
    one = landscape_of(accuracies(middle, 0.01), seeds=(1,))
    other = landscape_of(accuracies(middle, 0.02), seeds=(2,))
    found = Foretelling(one, other)
    assert math.isnan(found.spread(0).noise)
    assert found.one_run().low == found.one_run().mean
    assert "Too few seeds" in told(found)[0]
    alone = Foretelling(one, landscape_of(accuracies(middle, 0.02), seeds=(1,)))
    assert math.isnan(alone.one_run().mean)
    assert "NaN" not in json.dumps(foretelling_summary(alone))


def test_the_command_compares_two_files_and_refuses_a_file_and_a_study(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, scale in (("a", 0.01), ("b", 0.02)):
        write_landscape(landscape_of(accuracies(middle, scale)), tmp_path / f"{name}.csv.gz")
    run = CliRunner().invoke(app, ["compare", "a.csv.gz", "b.csv.gz", "--json"])
    assert run.exit_code == 0, run.output
    summary = json.loads(run.stdout)
    assert len(summary["predictors"]) == 6
    shown = CliRunner().invoke(app, ["compare", "a.csv.gz", "b.csv.gz"])
    assert "minus the shallow blocks" in shown.stdout
    for other in ("digits", "a.csv.gz"):
        names = ["a.csv.gz", other] if other == "digits" else ["digits", other]
        refused = CliRunner().invoke(app, ["compare", *names])
        assert (refused.exit_code, "two studies or two landscapes" in refused.stderr) == (2, True)


def test_landscapes_of_different_spaces_are_refused():
    first = landscape_of(accuracies(middle, 0.01), num_blocks=((4, 5),) * 3)
    second = landscape_of(accuracies(middle, 0.01))
    with pytest.raises(ConfigError, match="hold 0"):
        Foretelling(first, second)
