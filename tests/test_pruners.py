import itertools
import math

import pytest
from helpers import H

from dsaccel.config.study import PruningConfig, TrainingConfig
from dsaccel.errors import ConfigError
from dsaccel.search.pruners import Pruner, find_pruner, rung_steps
from dsaccel.spec.hierarchy import Hierarchy


def losers(values, pruning, prefixes=None):
    pruner = find_pruner(pruning)
    assert isinstance(pruner, Pruner)
    return pruner.losers(1, values, prefixes or {h: h for h in values})


def test_the_first_rung_is_the_epoch_after_the_first_decay():
    training = TrainingConfig(epochs=20)
    assert training.learning_rate_at(11) < training.learning_rate_at(10)
    assert rung_steps(PruningConfig(), training, 4) == (11,)


def test_further_rungs_multiply_and_stay_below_the_last_epoch():
    pruning = PruningConfig(grace_epochs=5)
    assert rung_steps(pruning, TrainingConfig(epochs=40), 4) == (5, 10, 20)
    assert rung_steps(pruning, TrainingConfig(epochs=41), 4) == (5, 10, 20, 40)
    pruning = PruningConfig(grace_epochs=2, reduction_factor=1.5)
    assert rung_steps(pruning, TrainingConfig(epochs=10), 4) == (2, 3, 4, 7)


def test_rungs_of_a_small_factor_are_distinct():
    rungs = rung_steps(
        PruningConfig(grace_epochs=1, reduction_factor=1.1), TrainingConfig(epochs=6), 4
    )
    assert rungs == (1, 2, 3, 4, 5)


@pytest.mark.parametrize(
    ("pruning", "training"),
    [
        (PruningConfig(kind="none", grace_epochs=1), TrainingConfig(epochs=20)),
        (PruningConfig(grace_epochs=20), TrainingConfig(epochs=20)),
        (PruningConfig(), TrainingConfig(epochs=20, lr_milestones=())),
        (PruningConfig(), TrainingConfig(epochs=20, lr_milestones=(1.0,))),
        (PruningConfig(), TrainingConfig(epochs=1)),
    ],
)
def test_there_may_be_no_rung(pruning, training):
    assert rung_steps(pruning, training, 4) == ()


@pytest.mark.parametrize("factor", [1.01, 1.5, 2.0, 3.0, 100.0])
@pytest.mark.parametrize("num", range(12))
def test_the_best_part_rounded_up_goes_on(num, factor):
    values = {Hierarchy((n + 1,)): n / 10 for n in range(num)}
    stopped = losers(values, PruningConfig(reduction_factor=factor))
    assert num - len(stopped) == math.ceil(num / factor)
    kept = [values[name] for name in values if name not in stopped]
    assert not stopped or max(values[name] for name in stopped) < min(kept)


def test_ranks_do_not_depend_on_the_order_of_reports():
    values = {
        H("1-1"): 0.5,
        H("1-2"): 0.5,
        H("2-1"): math.nan,
        H("2-2"): 0.5,
        H("3-1"): -math.inf,
        H("3-2"): 0.1,
    }
    results = {
        tuple(losers(dict(order), PruningConfig()))
        for order in itertools.permutations(values.items())
    }
    assert results == {(H("3-2"), H("2-1"), H("3-1"))}


def test_what_diverged_loses_first_even_with_an_infinite_value():
    values = {H("1-1"): math.inf, H("1-2"): math.nan, H("2-1"): 0.1, H("2-2"): -0.5}
    assert losers(values, PruningConfig()) == [H("1-1"), H("1-2")]


def test_nobody_loses_without_pruning():
    assert losers({H("1-1"): 0.1, H("1-2"): 0.2}, PruningConfig(kind="none")) == []


def test_a_sequential_cohort_is_ranked_after_each_stage_but_the_last():
    training = TrainingConfig(schedule="sequential")
    assert rung_steps(PruningConfig(), training, 4) == (1, 2, 3)
    assert rung_steps(PruningConfig(kind="none"), training, 4) == ()
    with pytest.raises(ConfigError, match=r"grace_epochs must not be set .* but got 3; leave it"):
        rung_steps(PruningConfig(grace_epochs=3), training, 4)


def test_those_who_are_one_network_so_far_go_on_or_stop_together():
    values = {
        H("1-1"): 0.7,
        H("1-2"): 0.7,
        H("1-3"): 0.7,
        H("2-1"): 0.7,
        H("2-2"): 0.7,
        H("3-1"): 0.6,
    }
    prefixes = {h: h.blocks[0] for h in values}
    # three of six would go on, by name; here the rest of the last one's kind goes on with it
    assert losers(values, PruningConfig(), prefixes) == [H("2-1"), H("2-2"), H("3-1")]
    few = PruningConfig(reduction_factor=6)
    assert losers(values, few, prefixes) == [H("2-1"), H("2-2"), H("3-1")]
    assert losers(values, PruningConfig(reduction_factor=1.5), prefixes) == [H("3-1")]
    assert losers(dict.fromkeys(values, 0.5), PruningConfig(), dict.fromkeys(values, 1)) == []
    assert losers({}, PruningConfig(), {}) == []


@pytest.mark.parametrize(("percentile", "living"), [(0.1, 1), (25, 2), (75, 6), (76, 7), (99, 8)])
def test_the_best_percent_rounded_up_go_on(percentile, living):
    values = {Hierarchy((n + 1,)): n / 10 for n in range(8)}
    pruning = PruningConfig(kind="percentile", percentile=percentile)
    assert losers(values, pruning) == [Hierarchy((n + 1,)) for n in range(7 - living, -1, -1)]
    assert losers({}, pruning) == []


def test_percentile_leaves_the_rungs_as_they_are():
    training = TrainingConfig(epochs=40)
    pruning = PruningConfig(kind="percentile", percentile=75, grace_epochs=5)
    assert rung_steps(pruning, training, 4) == (5, 10, 20)
    sequential = TrainingConfig(schedule="sequential")
    assert rung_steps(PruningConfig(kind="percentile", percentile=75), sequential, 4) == (1, 2, 3)


def test_one_network_so_far_goes_on_as_a_whole_under_percentile_too():
    values = {H("1-1"): 0.7, H("1-2"): 0.7, H("2-1"): 0.6, H("2-2"): 0.5}
    pruning = PruningConfig(kind="percentile", percentile=20)
    assert losers(values, pruning, {H("1-1"): 1, H("1-2"): 1, H("2-1"): 2, H("2-2"): 2}) == [
        H("2-1"),
        H("2-2"),
    ]
