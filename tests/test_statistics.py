"""Means, paired differences and what they can resolve, against closed forms and simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from dsaccel.statistics import (
    Interval,
    crossed,
    holm,
    interval,
    paired,
    seeds_needed,
    smallest_detectable,
    summarise,
    wilson,
)

# from printed tables of Student's t
T_975 = {1: 12.706, 2: 4.303, 4: 2.776, 9: 2.262}


def series(*values: float) -> dict[int, float]:
    return dict(enumerate(values))


def test_a_summary_has_the_sample_standard_deviation():
    summary = summarise([1.0, 2.0, 6.0])
    assert (summary.mean, summary.std, summary.n) == (3.0, math.sqrt(14 / 2), 3)
    assert summarise([0.5]).std is None


def test_a_paired_difference_has_the_t_interval_of_its_differences():
    result = paired(series(0.90, 0.92, 0.91, 0.95, 0.92), series(0.88, 0.91, 0.88, 0.93, 0.90))
    assert result is not None
    # differences 2 1 3 2 2 points: mean 2, variance (0 + 1 + 1 + 0 + 0) / 4
    assert result.mean == pytest.approx(0.02)
    assert result.std == pytest.approx(0.01 * math.sqrt(0.5))
    half = T_975[4] * 0.01 * math.sqrt(0.5 / 5)
    assert result.low == pytest.approx(0.02 - half, abs=5e-6)
    assert result.high == pytest.approx(0.02 + half, abs=5e-6)


def test_pairing_is_by_seed_and_not_by_order():
    values, others = {1: 0.9, 2: 0.8, 3: 0.7, 9: 0.1}, {3: 0.6, 2: 0.7, 1: 0.8, 4: 0.0}
    result = paired(values, others)
    assert result is not None
    assert (result.n, result.mean) == (3, pytest.approx(0.1))
    assert result.std == pytest.approx(0, abs=1e-12)
    assert paired({1: 0.5}, {2: 0.5}) is None


def test_one_pair_has_a_difference_and_no_interval():
    result = paired({1: 0.9}, {1: 0.8})
    assert result is not None
    assert result.mean == pytest.approx(0.1)
    assert (result.std, result.low, result.p_value, result.ahead) == (None,) * 4


def test_the_p_value_of_two_pairs_is_cauchys():
    # t with one degree of freedom is Cauchy: p = 1 - 2 atan(t) / pi
    result = paired(series(0.03, 0.01), series(0.0, 0.0))
    assert result is not None
    t = 0.02 / (math.sqrt(2) * 0.01 / math.sqrt(2))
    assert result.p_value == pytest.approx(1 - 2 * math.atan(t) / math.pi)


@pytest.mark.parametrize("others", [(0.94, 0.92), (0.95, 0.93)])
def test_differences_that_do_not_vary_have_neither_interval_nor_p_value(others):
    result = paired(series(0.95, 0.93), series(*others))
    assert result is not None
    assert result.mean == pytest.approx(0.95 - others[0])
    assert result.std == pytest.approx(0, abs=1e-12)  # the first are equal up to rounding
    assert (result.low, result.high, result.p_value, result.ahead) == (None,) * 4


@pytest.mark.parametrize("n", [2, 3, 5])
def test_equal_networks_on_few_images_differ_in_at_most_5_of_100_experiments(n):
    """144 images, 8 of them a matter of luck: differences are few images, and often all equal."""
    rng = np.random.default_rng(n)
    num, significant, constant = 2000, 0, 0
    for right in (136 + rng.binomial(8, 0.5, (num, 2, n))) / 144:
        result = paired(*(series(*accuracies) for accuracies in right))
        assert result is not None
        significant += result.p_value is not None and result.p_value <= 0.05
        constant += result.p_value is None and result.mean != 0
    assert significant / num <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / num)
    if n == 2:  # taken for certain, these alone would be twice the level
        assert constant / num > 0.08


def test_the_interval_covers_the_true_difference_in_95_of_100_experiments():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(2000):
        result = paired(series(*rng.normal(0.3, 1, 5)), series(*np.zeros(5)))
        assert result is not None
        assert result.low is not None
        assert result.high is not None
        covered += result.low <= 0.3 <= result.high
    assert covered / 2000 == pytest.approx(0.95, abs=0.015)  # 3 standard errors


@pytest.mark.parametrize("n", [3, 5, 10])
def test_the_smallest_detectable_difference_is_found_in_80_of_100_experiments(n):
    rng = np.random.default_rng(n)
    delta = smallest_detectable(2.0, n)
    x = rng.normal(delta, 2.0, (20_000, n))
    t = x.mean(1) / (x.std(1, ddof=1) / math.sqrt(n))
    critical = T_975[n - 1]
    assert np.mean(np.abs(t) > critical) == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize("n", [3, 8])
def test_the_probability_to_be_ahead_at_another_seed_is_kept(n):
    """Of experiments that say 80 to 95 %, so many are ahead at the next seed."""
    rng = np.random.default_rng(n)
    said, ahead = [], []
    for mean in rng.normal(0, 30, 4000):  # little is known of the truth beforehand
        *first, another = rng.normal(mean, rng.lognormal(0, 3), n + 1)
        result = paired(series(*first), series(*np.zeros(n)))
        if result is not None and result.ahead is not None and 0.8 < result.ahead < 0.95:
            said.append(result.ahead)
            ahead.append(another > 0)
    assert len(said) > 100
    assert np.mean(ahead) == pytest.approx(np.mean(said), abs=0.07)


def test_a_lead_among_several_comparisons_is_found_in_80_of_100_experiments():
    rng, n, num = np.random.default_rng(1), 5, 6
    delta = smallest_detectable(1.0, n, alpha=0.05 / num)
    found = 0
    for _ in range(1500):
        others = rng.normal(0, 1.0, (num - 1, n))  # no difference: the worst case for Holm
        rows = np.vstack([rng.normal(delta, 1.0, n), others])
        p_values = [np.asarray(stats.ttest_1samp(row, 0))[1] for row in rows]
        found += holm(p_values)[0] <= 0.05
    assert found / 1500 == pytest.approx(0.8, abs=0.035)
    # one test alone would promise that of a smaller difference
    assert smallest_detectable(1.0, n) < 0.7 * delta


def test_many_seeds_approach_the_normal_formula():
    # (z_975 + z_80) / sqrt(n)
    assert smallest_detectable(1.0, 4000) == pytest.approx(2.8016 / math.sqrt(4000), rel=1e-3)
    with pytest.raises(ValueError, match="at least 2 pairs"):
        smallest_detectable(1.0, 1)


def test_as_many_seeds_as_needed_and_not_one_more():
    for std, resolution in [(0.5, 0.5), (1.0, 0.5), (3.0, 0.5)]:
        n = seeds_needed(std, resolution)
        assert n is not None
        assert smallest_detectable(std, n) <= resolution < smallest_detectable(std, n - 1)
    # nothing varies: how much noise there is is unknown
    assert seeds_needed(0.0, 0.5) is None
    assert seeds_needed(1e-16, 0.5) is None
    assert seeds_needed(1000.0, 0.1) is None
    with pytest.raises(ValueError, match="resolution must be above 0"):
        seeds_needed(1.0, 0.0)


def test_holm_adjusts_as_printed_in_textbooks():
    # 4 x 0.005, 3 x 0.01, then 2 x 0.03; 0.04 may not fall below that
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize("num", [3, 4, 5, 6, 20])
@pytest.mark.parametrize(("kind", "least"), [("normal", 0.93), ("skewed", 0.86), ("coarse", 0.86)])
def test_an_interval_of_few_values_covers_the_truth_nearly_as_often_as_it_says(num, kind, least):
    rng = np.random.default_rng(num)
    drawn = {
        "normal": rng.normal(0.4, 0.1, (800, num)),
        "skewed": rng.exponential(0.4, (800, num)),
        "coarse": rng.binomial(3, 0.4, (800, num)) / 3,
    }[kind]
    found = [interval(values) for values in drawn]
    covered = np.mean([each.low - 1e-9 <= 0.4 <= each.high + 1e-9 for each in found])
    # two standard errors of 800 cases are 1.5 points
    assert least - 0.015 <= covered <= 0.975


def test_an_interval_is_the_t_intervals_and_ends_where_the_mean_cannot_be():
    values = [0.9, 0.95, 1.0, 0.7]
    expected = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert (interval(values).low, interval(values).high) == pytest.approx(expected)
    assert interval(values).high > 1
    assert interval(values, 0, 1).high == 1
    assert interval([0.5]) == Interval(0.5, 0.5, 0.5)


def test_an_interval_over_seeds_and_images_is_that_over_seeds_where_images_do_not_differ():
    differences = [0.01, -0.02, 0.03, 0.0]
    found = crossed(np.repeat([differences], 500, axis=0).T)
    assert found is not None
    expected = interval(differences)
    assert (found.mean, found.low) == pytest.approx((expected.mean, expected.low))
    assert crossed(np.zeros((3, 50))) is None


@pytest.mark.parametrize("num_seeds", [2, 3, 5])
@pytest.mark.parametrize(("of_seeds", "of_images"), [(0.01, 0.3), (0.0, 0.3), (0.02, 0.0)])
def test_an_interval_over_seeds_and_images_covers_the_truth_in_95_of_100(
    num_seeds, of_seeds, of_images
):
    """Rows and columns are drawn with their own effects; over seeds alone it covers too seldom."""
    random, num_covered, num_alone, num = np.random.default_rng(1), 0, 0, 400
    for _ in range(num):
        effects = of_seeds * random.normal(size=(num_seeds, 1)) + of_images * random.normal(
            size=(1, 300)
        )
        differences = effects + 0.2 * random.normal(size=(num_seeds, 300))
        found, alone = crossed(differences), interval(list(differences.mean(axis=1)))
        assert found is not None
        num_covered += found.low <= 0 <= found.high
        num_alone += alone.low <= 0 <= alone.high
    assert 0.93 * num <= num_covered
    if of_images and not of_seeds and num_seeds == 5:
        assert num_alone < 0.85 * num


def test_a_share_of_all_has_an_interval_below_one():
    all_of_10 = wilson(10, 10)
    assert all_of_10.mean == all_of_10.high == 1
    assert all_of_10.low == pytest.approx(0.722, abs=1e-3)  # Wilson 1927, n = 10
    assert wilson(0, 10).high == pytest.approx(1 - all_of_10.low)
