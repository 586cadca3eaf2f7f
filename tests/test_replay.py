"""Searches replayed on a table: as the real search, counted right, compared fairly."""

import itertools
import json
from dataclasses import replace

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState
from tiny_study import config, recorded, searched

from dsaccel.analysis.landscape import Landscape, Network
from dsaccel.analysis.recorded import record_landscape
from dsaccel.analysis.replay import Oracle, Policy, Replay
from dsaccel.analysis.replay_policies import mean_course, replay_policies, replay_policy
from dsaccel.config.study import PruningConfig, StudyConfig
from dsaccel.errors import ConfigError
from dsaccel.families import build_plan
from dsaccel.report.figures.replay import replay_figure
from dsaccel.report.replay import outcome_summary, write_replay
from dsaccel.space.space import SearchSpace
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.statistics import interval

pytestmark = pytest.mark.long

NONE = PruningConfig(kind="none")
HALVING = PruningConfig(kind="halving", grace_epochs=2)
SHORT = {"training": {"epochs": 3}, "data": {"train_images": 32}}


def policy(strategy="random", cohort_size=1, n_trials=8, pruning=NONE):
    return Policy(strategy, cohort_size, n_trials, pruning)


def value_of(hierarchy, seed=1):
    """An analytic objective, the same rank order in all epochs; best at 1-2-3."""
    distance = sum(
        w * abs(n - t) for w, n, t in zip((3, 2, 1), hierarchy.blocks, (1, 2, 3), strict=True)
    )
    return 0.9 - 0.01 * distance - 0.001 * seed


def synthetic(num_blocks=((1, 3),) * 3, seeds=(1,), references=(), **sections) -> Landscape:
    """All of a small space, with `value_of` at the output and half an hour's worth of heads."""
    tables = {"space": {"num_blocks": [list(b) for b in num_blocks]}, "references": references}
    study: StudyConfig = config(**{**tables, **sections})
    data = study.data.model_copy(update={"channels": 1, "image_size": 8})
    study = study.model_copy(update={"data": data})
    networks, accuracies = {}, {seed: {} for seed in seeds}
    space = SearchSpace(study.space, lambda _: pytest.fail("no measured bounds"))
    box = itertools.product(*(range(low, high + 1) for low, high in num_blocks))
    for h in [*map(Hierarchy, box), *map(Hierarchy.parse, references)]:
        plan = build_plan("resnet18", h, study.network, channels=1, side=8, num_classes=10)
        networks[h] = Network(
            plan.num_parameters, plan.flops, plan.shallow_scale, space.violation(h) is None
        )
        for seed in seeds:
            v = value_of(h, seed)
            accuracies[seed][h] = {
                epoch: (*[v * epoch / 5] * plan.num_local_losses, v * epoch / 4)
                for epoch in range(1, 5)
            }
    return Landscape(study, 10, 100, networks, accuracies)


@pytest.fixture(scope="module")
def oracle():
    return Oracle(synthetic())


def course(oracle, a_policy, seed=1):
    replay = Replay(oracle, a_policy, seed)
    return replay, list(replay.marks())


def blocks_of(names):
    """Independent of the trie: with a detach after each block a node is a non-empty prefix of
    (stage, index) pairs, and the stem.
    """
    prefixes = set()
    for name in names:
        path = [(s, i) for s, n in enumerate(Hierarchy.parse(name).blocks, 1) for i in range(n)]
        prefixes |= {tuple(path[:k]) for k in range(len(path) + 1)}
    return len(prefixes)


# ------------------------------------------------------------------ the real search


@pytest.fixture(scope="module")
def tiny_landscape(tmp_path_factory):
    """A real exhaustive study of eight hierarchies."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("landscape"))
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        budget = {"n_trials": 8, "cohort_size": 8, "baseline": False}
        search = searched("all", budget=budget, pruning={"kind": "none"}, **SHORT)
        return record_landscape([recorded(search)])


@pytest.mark.parametrize(
    ("cohort_size", "pruning"), [(3, NONE), (1, NONE), (4, HALVING)], ids=lambda p: str(p)[:12]
)
def test_a_replay_proposes_and_reads_what_the_real_search_does(
    tmp_path, monkeypatch, tiny_landscape, cohort_size, pruning
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("dsaccel.search.proposals.NUM_STARTUP", 2)  # so that TPE is asked, too
    search = searched(
        "real",
        budget={"n_trials": 6, "cohort_size": cohort_size, "baseline": False},
        pruning=pruning.model_dump(exclude_none=True),
        **SHORT,
    )
    strategy = search.config.budget.strategy or ""
    # the tables' seed is 1, as the real search's
    replay, marks = course(
        Oracle(tiny_landscape), policy(strategy, cohort_size, 6, search.config.pruning)
    )

    def read(trials):
        return [
            (
                trial.number,
                trial.state,
                trial.value,
                trial.params,
                trial.intermediate_values,
                trial.user_attrs["hierarchy"],
                trial.user_attrs.get("harvested", False),
            )
            for trial in trials
        ]

    assert read(replay.trials) == read(search.study.trials)
    assert marks[-1].blocks == pytest.approx(search.ledger.record().blocks_trained)
    is_pruned = any(trial.state == TrialState.PRUNED for trial in replay.trials)
    assert is_pruned == (pruning is not NONE)


# ------------------------------------------------------------------ regret and blocks


def test_regret_is_the_tables_best_minus_the_best_found(oracle):
    replay, marks = course(oracle, policy(cohort_size=2))
    best = value_of(Hierarchy((1, 2, 3)))
    assert marks[-1].num_trained == 8
    seen = [value_of(Hierarchy.parse(t.user_attrs["hierarchy"])) for t in replay.trials]
    assert [t.value for t in replay.trials] == pytest.approx(seen)
    assert marks[-1].regret == pytest.approx(best - max(seen))
    assert [m.regret for m in marks] == sorted((m.regret for m in marks), reverse=True)


def test_blocks_are_the_distinct_prefixes_of_each_cohort(oracle):
    for cohort_size in (1, 4, 8):
        replay, marks = course(oracle, policy(cohort_size=cohort_size))
        asked = [t for t in replay.trials if not t.user_attrs.get("harvested")]
        names = [t.user_attrs["hierarchy"] for t in asked]
        cohorts = [names[i : i + cohort_size] for i in range(0, len(names), cohort_size)]
        sums = list(itertools.accumulate(map(blocks_of, cohorts)))
        assert [mark.blocks for mark in marks] == sums


def test_a_replay_of_the_whole_space_trains_the_full_trie_and_finds_the_optimum(oracle):
    outcome = replay_policy(oracle, policy(cohort_size=27, n_trials=27), 3)
    assert oracle.num_blocks == blocks_of(map(str, oracle.landscape.networks))
    assert outcome.blocks.mean == outcome.blocks.low == outcome.blocks.high == oracle.num_blocks
    assert outcome.blocks_share.mean == 1
    assert outcome.regret.mean == 0
    assert outcome.found.mean == 1
    assert [len(marks) for marks in outcome.marks] == [1, 1, 1]


def test_a_pruned_block_counts_for_the_epochs_that_it_trained(oracle):
    # one cohort of 27, ranked after 2 of 4 epochs: the best 14 go on
    replay, marks = course(oracle, policy(cohort_size=27, n_trials=27, pruning=HALVING))
    living = [t.user_attrs["hierarchy"] for t in replay.trials if t.state == TrialState.COMPLETE]
    by_value = sorted(oracle.landscape.networks, key=lambda h: (-value_of(h), str(h)))
    ranked = [str(h) for h in by_value]
    assert sorted(living) == sorted(ranked[:14])
    assert marks[-1].blocks == (2 * blocks_of(ranked) + 2 * blocks_of(living)) / 4
    pruned = next(t for t in replay.trials if t.state == TrialState.PRUNED)
    assert list(pruned.intermediate_values) == [1, 2]
    assert pruned.value == pruned.intermediate_values[2]


def test_only_feasible_hierarchies_are_searched_and_compared():
    # the best of all, 1-2-3, is a reference here, and outside the bounds
    landscape = synthetic(((2, 3), (2, 3), (1, 3)), references=("1-2-3",))
    oracle = Oracle(landscape)
    replay, marks = course(oracle, policy(n_trials=20))
    assert {t.user_attrs["hierarchy"] for t in replay.trials} == set(map(str, landscape.networks))
    assert len(replay.trials) == 1 + 12
    assert replay.trials[0].user_attrs["hierarchy"] == "1-2-3"
    assert marks[-1].regret == 0
    assert landscape.optimum(1) == pytest.approx(value_of(Hierarchy((2, 2, 3))))
    assert np.isnan(marks[0].regret)


def test_each_training_seed_is_searched_in_turn():
    oracle = Oracle(synthetic(seeds=(5, 7)))
    for seed, table in ((1, 5), (2, 7), (3, 5)):
        replay, _ = course(oracle, policy(n_trials=1), seed)
        (trial, *_) = replay.trials
        hierarchy = Hierarchy.parse(trial.user_attrs["hierarchy"])
        assert trial.value == pytest.approx(value_of(hierarchy, table))


def test_a_sequential_landscape_counts_each_block_once_in_its_stage():
    landscape = synthetic(training={"schedule": "sequential"})
    for hierarchy, rungs in landscape.accuracies[1].items():
        heads = rungs[4][:-1]
        ends = [1 + 2 * sum(hierarchy.blocks[:s]) for s in (1, 2, 3)]
        accuracies = {s: heads[:end] for s, end in enumerate(ends, 1)}
        accuracies[3] = (*accuracies[3], rungs[4][-1])
        landscape.accuracies[1][hierarchy] = accuracies
    oracle = Oracle(landscape)
    whole, marks = course(oracle, policy(cohort_size=27, n_trials=27))
    assert marks[-1].blocks == oracle.num_blocks
    halving = PruningConfig(kind="halving", reduction_factor=3.0)
    some, pruned = course(oracle, policy(cohort_size=27, n_trials=27, pruning=halving))
    reached = {t.user_attrs["hierarchy"]: max(t.intermediate_values) for t in some.trials}
    assert set(reached.values()) == {1, 2, 3}
    # distinct prefixes that end in a stage, of the networks that came so far; and the stem
    paths = [
        (n, [(s, i) for s, k in enumerate(Hierarchy.parse(n).blocks, 1) for i in range(k)])
        for n in reached
    ]
    trained = {tuple(p[: i + 1]) for n, p in paths for i in range(len(p)) if p[i][0] <= reached[n]}
    assert pruned[-1].blocks == 1 + len(trained) < marks[-1].blocks
    assert len(whole.trials) == 27


# ------------------------------------------------------------------ over seeds


def test_jobs_and_repetition_change_no_outcome():
    policies = [policy("random", 4), policy("tpe", 4, 14)]
    here = list(replay_policies(synthetic(), policies, 3))
    assert here == list(replay_policies(synthetic(), policies, 3, jobs=2))


def test_the_mean_course_ends_at_the_mean_regret(oracle):
    outcome = replay_policy(oracle, policy(cohort_size=2), 5)
    points = mean_course(outcome)
    assert points[-1][1].mean == pytest.approx(outcome.regret.mean)
    means = [estimate.mean for _, estimate in points]
    assert means == sorted(means, reverse=True)
    assert points[0][0] == max(marks[0].blocks for marks in outcome.marks)


def test_the_page_shows_each_policy_and_needs_no_network(oracle, tmp_path):
    policies = [policy("random", 2), policy("random", 27, 27)]
    outcomes = [replay_policy(oracle, p, 2) for p in policies]
    traces = replay_figure(outcomes).to_dict()["data"]
    names = [trace["name"] for trace in traces if trace.get("name")]
    assert names == ["random, cohorts of 2", "random, cohorts of 27"]
    write_replay(outcomes, "<b>evil</b>", tmp_path / "replay.html")
    page = (tmp_path / "replay.html").read_text()
    assert "<b>evil</b>" not in page
    assert 'src="http' not in page
    summary = outcome_summary(outcomes[1])
    assert json.loads(json.dumps(summary))["blocks_share"] == {"mean": 1, "low": 1, "high": 1}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"strategy": "bogus"}, "strategy must be one of exhaustive, tpe.*got 'bogus'"),
        ({"n_trials": 0}, "n_trials must be more than"),
        ({"cohort_size": 0}, "cohort_size at least 1"),
    ],
)
def test_a_policy_that_cannot_be_replayed_is_refused(oracle, changes, message):
    with pytest.raises(ConfigError, match=message):
        Replay(oracle, policy(**changes), 1)


def test_a_table_with_holes_is_refused():
    landscape = synthetic()
    del landscape.accuracies[1][Hierarchy((1, 2, 3))]
    with pytest.raises(ConfigError, match=r"seed 1 lacks 1 \(1-2-3\)"):
        Oracle(landscape)


def test_random_search_is_read_where_it_has_trained_as_many_blocks():
    landscape = synthetic(seeds=(1,))
    oracle = Oracle(landscape)
    asked = policy("tpe", 2, 12)
    outcome = replay_policy(oracle, asked, 4)
    chance = replace(asked, strategy="random", n_trials=len(landscape.networks))
    regrets = []
    for seed, course in enumerate(outcome.marks, 1):
        marks = list(Replay(oracle, chance, seed).marks())
        known = [mark for mark in marks if mark.blocks <= course[-1].blocks]
        assert known
        assert len(known) < len(marks)
        regrets.append(known[-1].regret)
    assert outcome.random == interval(regrets, 0)
    assert replay_policy(oracle, chance, 2).random is None
