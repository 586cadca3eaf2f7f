"""Rank ranks: agreement counted right, over seeds, and settings that follow from it."""

import io
import itertools
import json
import math
import tomllib
from dataclasses import astuple

import numpy as np
import pytest
from test_replay import synthetic

from dsaccel.analysis.agreement import RankAgreement, share_of_best
from dsaccel.analysis.landscape import Landscape
from dsaccel.analysis.pruning_advice import (
    advise,
    calibrated,
    is_trusted,
    simulate,
    trusted_prunings,
)
from dsaccel.config.study import PruningConfig, StudyConfig
from dsaccel.config.toml import parse_config
from dsaccel.errors import ConfigError
from dsaccel.report.calibration import (
    calibration_summary,
    calibration_tables,
    pruning_table,
    write_calibration,
    write_pruning,
)
from dsaccel.report.calibration_words import verdict
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.statistics import interval

NUM_EPOCHS = 4


def landscape_of(accuracy, seeds=(1, 2, 3), num_blocks=((1, 3),) * 3) -> Landscape:
    """All of a small space; `accuracy(seed, hierarchy, epoch, part)` with part 0..1 of the depth,
    "head" for the deepest head and "output".
    """
    landscape = synthetic(num_blocks, seeds)
    for seed in seeds:
        for hierarchy, rungs in landscape.accuracies[seed].items():
            for epoch, heads in rungs.items():
                local = [accuracy(seed, hierarchy, epoch, i) for i in range(len(heads) - 2)]
                last = [accuracy(seed, hierarchy, epoch, part) for part in ("head", "output")]
                rungs[epoch] = (*local, *last)
    return landscape


def noisy(scale, **fixed):
    """Accuracies around 0.5 + 0.1 x (what is best: few blocks in stage 1), the noise named."""

    def accuracy(seed, hierarchy, epoch, part):
        key = [seed, *hierarchy.blocks, epoch, {"head": 98, "output": 99}.get(part) or part]
        noise = np.random.default_rng(key).normal()
        return (
            0.5
            - 0.1 * hierarchy.blocks[0]
            + 0.01 * hierarchy.blocks[2]
            + fixed.get(part, scale) * noise
        )

    return accuracy


def true_value(hierarchy):
    return (
        0.5 - 0.1 * hierarchy.blocks[0] + 0.02 * hierarchy.blocks[1] + 0.005 * hierarchy.blocks[2]
    )


def late(seed, hierarchy, epoch, part):
    """From the third epoch on the deepest head ranks as the end does; the output layer, never."""
    if epoch == NUM_EPOCHS and part == "output":
        return true_value(hierarchy)
    if part == "head" and epoch >= 3:
        return true_value(hierarchy) - 0.1
    if part == "head":
        return -true_value(hierarchy) + 0.8
    return 0.3 - true_value(hierarchy) / 10


def tau_b(x, y):
    """RankedBy the definition: concordant pairs less discordant ones over the untied of each."""
    signs = [np.sign([a - b for a, b in itertools.combinations(v, 2)]) for v in (x, y)]
    return signs[0] @ signs[1] / math.sqrt(np.abs(signs[0]).sum() * np.abs(signs[1]).sum())


# ------------------------------------------------------------------ figures


def test_the_share_of_the_best_is_what_random_ties_give_in_the_mean():
    x = np.array([3, 2, 2, 2, 1, 0]) / 10
    y = np.array([1, 9, 8, 2, 7, 3]) / 10
    # by brute force over all ways to break the ties of x
    top_y = {1, 2, 4}
    shares = [len({0, other} & top_y) / 3 for other in (1, 2, 3)]
    assert share_of_best(x, y, 2, 3) == pytest.approx(np.mean(shares))
    assert share_of_best(y, y, 3, 3) == 1
    assert share_of_best(np.ones(6), y, 3, 3) == pytest.approx(0.5)


def test_agreement_is_with_the_own_end_and_with_that_of_the_other_seeds():
    landscape = landscape_of(noisy(0.02))
    ranks = RankAgreement(landscape)
    final = {
        seed: [table[h][NUM_EPOCHS][-1] for h in ranks.hierarchies]
        for seed, table in landscape.accuracies.items()
    }
    rows = {(row.step, row.by): row.agreement for row in ranks.rungs()}
    assert set(rows) == {(step, by) for step in range(1, 5) for by in ("head", "output")}
    for (step, by), agreement in rows.items():
        index = {"head": -2, "output": -1}[by]
        own, other = [], []
        for seed, table in landscape.accuracies.items():
            values = [table[h][step][index] for h in ranks.hierarchies]
            own.append(tau_b(values, final[seed]))
            rest = np.mean([y for s, y in final.items() if s != seed], axis=0)
            other.append(tau_b(values, rest))
        assert agreement.own.mean == pytest.approx(np.mean(own))
        for found, taus in ((agreement.own, own), (agreement.other, other)):
            assert astuple(found) == pytest.approx(astuple(interval(taus, -1, 1)))
    end = rows[NUM_EPOCHS, "output"]
    assert end.own.mean == end.recall.mean == end.kept.mean == 1
    assert end.loss.mean == 0
    assert ranks.ceiling() == end.other
    finals = list(final.values())
    pairs = [tau_b(x, y) for x, y in itertools.combinations(finals, 2)]
    assert ranks.between_seeds() == pytest.approx(np.mean(pairs))
    assert end.other.mean < 1


def test_noise_is_what_a_seed_does_to_a_hierarchy_beyond_all_alike():
    def accuracy(seed, hierarchy, epoch, part):
        noise = np.random.default_rng((seed, *hierarchy.blocks)).normal()
        return 0.5 + 0.3 * seed + 0.1 * hierarchy.blocks[0] + 0.02 * noise

    ranks = RankAgreement(landscape_of(accuracy, seeds=tuple(range(1, 9))))
    # 7 x 26 degrees of freedom
    assert ranks.noise == pytest.approx(0.02, rel=0.15)
    assert math.isnan(RankAgreement(landscape_of(accuracy, seeds=(1,))).noise)


def test_a_loss_is_what_the_better_half_lacks():
    def accuracy(seed, hierarchy, epoch, part):
        best = hierarchy == Hierarchy((2, 2, 2))
        if part == "head":
            return 0.1 if best else 0.2 + 0.01 * hierarchy.blocks[0]
        return 0.9 if best else 0.5

    row, *_ = RankAgreement(landscape_of(accuracy)).rungs()
    assert row.agreement.loss.mean == pytest.approx(0.4)
    assert row.agreement.recall.mean < 0.5


def test_the_last_head_of_each_stage_is_found():
    landscape = landscape_of(noisy(0.02))
    # the stem and two convolutions a block
    assert [landscape.plan(Hierarchy((1, 3, 2))).num_heads(s) for s in (1, 2, 3)] == [3, 9, 13]

    def misleading(seed, hierarchy, epoch, part):
        if isinstance(part, int) and part + 1 == 1 + 2 * hierarchy.blocks[0]:
            return 1 - true_value(hierarchy)
        return true_value(hierarchy)

    ranks = RankAgreement(landscape_of(misleading))
    taus = {row.stage: row.agreement.own.mean for row in ranks.stages()}
    assert taus == {1: -1, 2: 1, 3: 1}
    words = " ".join(verdict(calibrated(ranks)))
    assert "stage 1 misleads" in words
    assert "stage 2 foretells" in words


def test_importance_is_the_sobol_index_and_the_slope_of_the_plane():
    ranks = RankAgreement(landscape_of(lambda s, h, e, p: true_value(h)))
    rows = list(ranks.importances())
    assert [row.slope.mean for row in rows] == pytest.approx([-0.1, 0.02, 0.005])
    # a sum of independent parts: their variances add up
    parts = np.array([0.1, 0.02, 0.005]) ** 2
    assert [row.share.mean for row in rows] == pytest.approx(parts / parts.sum())
    assert rows[0].chance == pytest.approx(2 / 26)


def test_slopes_see_through_a_constraint_and_intervals_span_the_seeds():
    landscape = synthetic(space={"num_blocks": [[1, 3]] * 3, "constraint": "accelerated"})
    assert len(RankAgreement(landscape).hierarchies) < 27

    def accuracy(seed, h, epoch, part):
        return 0.5 + 0.01 * seed * h.blocks[2] - 0.05 * h.blocks[0]

    spread = RankAgreement(landscape_of(accuracy, num_blocks=((1, 3), (2, 2), (1, 3))))
    first, last = spread.importances()
    assert (first.stage, last.stage) == (1, 3)
    half = 4.3027 * 0.01 / 3**0.5
    assert astuple(last.slope) == pytest.approx((0.02, 0.02 - half, 0.02 + half), rel=1e-4)
    assert first.slope.low == pytest.approx(first.slope.high)


def test_importance_of_equal_accuracies_is_none():
    rows = RankAgreement(landscape_of(lambda s, h, e, p: 0.1)).importances()
    assert [row.share.mean for row in rows] == [0, 0, 0]


# ------------------------------------------------------------------ settings


def test_halving_is_trusted_from_the_rung_on_that_ranks_as_the_end():
    ranks = RankAgreement(landscape_of(late))
    advice = advise(ranks)
    assert advice.first == {"head": 3, "output": None}
    assert advice.cheapest is not None
    assert advice.cheapest.pruning.by == "head"
    assert advice.cheapest.pruning.grace_epochs == 3
    # the cheapest: a quarter goes on for the last of four epochs
    assert advice.cheapest.pruning.reduction_factor == 4
    assert advice.cheapest.work == pytest.approx((3 + 7 / 27) / 4)


def test_a_simulation_prunes_as_a_search_does():
    ranks = RankAgreement(landscape_of(lambda s, h, e, p: true_value(h)))
    setting = simulate(ranks, PruningConfig(grace_epochs=1))
    # 27, then 14 and 7 of them
    assert setting.work == pytest.approx((27 + 14 + 2 * 7) / (27 * 4))
    assert setting.going_on == pytest.approx(7 / 27)
    assert setting.kept.mean == 1
    assert setting.loss.mean == 0


def test_a_rung_that_is_wrong_later_is_not_trusted_before():
    def accuracy(seed, hierarchy, epoch, part):
        wrong = epoch == 3 and part == "head"
        return -true_value(hierarchy) if wrong else true_value(hierarchy)

    ranks = RankAgreement(landscape_of(accuracy))
    # pruned after the second epoch alone nothing is lost
    early = simulate(ranks, PruningConfig(grace_epochs=2))
    assert is_trusted(early, ranks.noise)
    assert list(trusted_prunings(ranks, "head", 2.0)) == []


def test_what_loses_little_by_luck_alone_is_not_trusted():
    def accuracy(seed, hierarchy, epoch, part):
        """All are nearly alike at the end, and earlier ranks are random."""
        return np.random.default_rng((seed, *hierarchy.blocks, epoch, part == "output")).uniform()

    ranks = RankAgreement(landscape_of(accuracy))
    setting = simulate(ranks, PruningConfig(grace_epochs=3))
    assert setting.most_lost <= ranks.noise
    assert not is_trusted(setting, ranks.noise)


def test_a_ranking_that_is_no_better_than_chance_is_not_trusted_though_it_keeps_the_best():
    best = {Hierarchy((1, 3, num)) for num in (1, 2, 3)}

    def accuracy(seed, hierarchy, epoch, part):
        if epoch == NUM_EPOCHS or hierarchy in best:
            return true_value(hierarchy)
        return 0.1 - true_value(hierarchy) / 10

    ranks = RankAgreement(landscape_of(accuracy))
    setting = simulate(ranks, PruningConfig(grace_epochs=3))
    assert is_trusted(setting, ranks.noise)
    assert max(ranks.own_taus(3, "head")) < 0
    assert advise(ranks).first == {"head": None, "output": None}


def test_a_loss_beyond_the_noise_is_not_trusted():
    ranks = RankAgreement(landscape_of(lambda s, h, e, p: true_value(h)))
    setting = simulate(ranks, PruningConfig(grace_epochs=3))
    assert is_trusted(setting, 0.0)
    assert not is_trusted(setting, -0.01)


def test_two_seeds_are_shown_but_nothing_is_trusted():
    result = calibrated(RankAgreement(landscape_of(late, seeds=(1, 2))))
    assert result.advice.cheapest is None
    assert pruning_table(result) == {"kind": "none"}
    assert verdict(result)[-1] == "Nothing is called trustworthy on fewer than 3 seeds."


def sequential_landscape():
    """Ends of stages: each network has the heads trained so far; equal prefixes, equal heads."""
    landscape = synthetic(seeds=(1, 2, 3), training={"schedule": "sequential"})
    for seed, table in landscape.accuracies.items():
        for hierarchy in table:
            h = hierarchy.blocks
            rungs = {}
            for stage in (1, 2, 3):
                heads = [0.5 - 0.1 * h[0] + 0.01 * sum(h[1:stage])] * (1 + 2 * sum(h[:stage]))
                rungs[stage] = tuple(heads)
            final = 0.5 - 0.1 * h[0] + 0.01 * sum(h[1:]) + 0.001 * seed
            table[hierarchy] = rungs | {3: (*rungs[3], final)}
    return landscape


def test_a_sequential_landscape_is_ranked_at_stage_ends_by_heads_alone():
    ranks = RankAgreement(sequential_landscape())
    rows = list(ranks.rungs())
    assert [(row.step, row.by) for row in rows] == [
        (1, "head"),
        (2, "head"),
        (3, "head"),
        (3, "output"),
    ]
    assert rows[2].agreement.own.mean == 1
    setting = simulate(ranks, PruningConfig())
    # stage 1: nine each of 0.4, 0.3, 0.2; 14 would go on, so the second kind does as a whole: 18
    # stage 2: nine would go on: those with the best prefix, exactly
    assert setting.going_on == pytest.approx(9 / 27)
    assert setting.work == pytest.approx((27 + 18 + 9) / 81)
    result = calibrated(ranks)
    assert result.advice.cheapest is not None
    assert pruning_table(result).keys() == {"kind", "by", "reduction_factor"}
    assert any(sentence.endswith("from stage 1 on.") for sentence in verdict(result))


def test_too_few_hierarchies_are_refused():
    with pytest.raises(ConfigError, match=r"at least 3 feasible hierarchies .* but got 2"):
        RankAgreement(synthetic(((1, 1), (1, 1), (1, 2))))


# ------------------------------------------------------------------ what is shown


def test_the_settings_that_are_written_are_those_of_a_study(tmp_path):
    result = calibrated(RankAgreement(landscape_of(late)))
    write_pruning(result, tmp_path / "pruning.toml")
    tables = tomllib.loads((tmp_path / "pruning.toml").read_text())
    tables["space"] = {"family": "resnet18", "num_blocks": [[1, 2]] * 3}
    config = parse_config(StudyConfig, tables, "a test")
    assert result.advice.cheapest is not None
    assert config.pruning == result.advice.cheapest.pruning


def test_tables_words_json_and_page_hold_the_figures(tmp_path):
    from rich.console import Console

    result = calibrated(RankAgreement(landscape_of(late)))
    console = Console(record=True, width=100, file=io.StringIO())
    console.print(calibration_tables(result))
    text = console.export_text()
    assert " 1.00 [1.00, 1.00]" in text
    assert "-1.00 [-1.00, -1.00]" in text
    assert "-10.00 [-10.00, -10.00]" in text  # points a block of stage 1
    words = " ".join(verdict(result))
    assert "by the deepest local head, halving by factor 2 can be trusted from epoch 3 on" in words
    assert "by the output layer, halving by factor 2 can be trusted at no epoch" in words
    setting = result.advice.cheapest
    assert setting is not None
    first = setting.pruning.grace_epochs
    assert f"The settings below (factor 4, rungs at epoch {first}" in words
    assert "Intervals are 95 % t intervals over 3 seeds." in words
    summary = json.loads(json.dumps(calibration_summary(result)))
    assert summary["pruning"] == {
        "kind": "halving",
        "by": "head",
        "reduction_factor": 4.0,
        "grace_epochs": 3,
    }
    assert summary["trusted_from"] == {"head": 3, "output": None}
    assert summary["rungs"][0]["agreement"]["own"]["mean"] == -1
    write_calibration(result, "<b>evil</b>", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "<b>evil</b>" not in page
    assert 'src="http' not in page
    assert page.count("Plotly.newPlot(") >= 3
    assert "grace_epochs = 3" in page
