"""Optuna's own pruners in lock-step: made by name, asked in order, the same after a resume."""

import itertools
from pathlib import Path
from typing import NamedTuple

import optuna
import pytest
from commands import run
from helpers import H, read_as
from optuna.trial import TrialState, create_trial
from test_replay import NONE, SHORT, Oracle, Policy, course, synthetic
from test_search import die_after
from tiny_study import config, heads, recorded, rows, searched, searching, write_study

from dsaccel.analysis.recorded import record_landscape
from dsaccel.analysis.replay import Replay
from dsaccel.analysis.replay_policies import policies
from dsaccel.config.study import PruningConfig, TrainingConfig
from dsaccel.errors import ConfigError
from dsaccel.search.pruners import Judge, Race, find_pruner, prefixes_at, rung_steps
from dsaccel.search.pruners.optunas import make_pruner, pruner_names
from dsaccel.space.space import SearchSpace
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.training import descent

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("own_folder")]

TRAINING = TrainingConfig(epochs=5)
SPACE = SearchSpace(config().space, lambda _: pytest.fail("no measured bounds"))
NAMES = [H("1-1-1"), H("1-1-2"), H("1-2-1"), H("1-2-2")]


def optunas(kind, grace_epochs=None, **options):
    return PruningConfig(kind=kind, options=options, grace_epochs=grace_epochs)


def finished(hierarchy, values, state=TrialState.COMPLETE):
    trial = create_trial(
        state=state,
        value=values[-1],
        params=SPACE.to_params(hierarchy),
        distributions=dict(SPACE.distributions()),
        intermediate_values=dict(enumerate(values, 1)),
    )
    trial.number = 0
    return trial


def judge(pruning, earlier=(), names=NAMES, training=TRAINING, references=()):
    stops = rung_steps(pruning, training, 3)
    race = Race(names, earlier, SPACE.distributions(), training, stops, references)
    return Judged(find_pruner(pruning).judge(race), training)


class Judged(NamedTuple):
    judge: Judge
    training: TrainingConfig

    def losers(self, step, values):
        return self.judge.losers(step, values, prefixes_at(step, values, self.training))


def test_every_pruner_of_optuna_that_stands_alone_can_be_named():
    assert set(pruner_names()) == {
        *("HyperbandPruner", "MedianPruner", "NopPruner", "PercentilePruner"),
        *("SuccessiveHalvingPruner", "ThresholdPruner", "WilcoxonPruner"),
    }
    pruner = make_pruner("MedianPruner", {"n_startup_trials": 4})
    assert isinstance(pruner, optuna.pruners.MedianPruner)
    make_pruner("WilcoxonPruner", {})  # experimental, without a warning


@pytest.mark.parametrize(
    ("pruning", "message"),
    [
        (optunas("BestPruner"), r"one of Optuna's HyperbandPruner, Median.*, but got BestPruner$"),
        (optunas("BasePruner"), "but got BasePruner$"),
        (optunas("PatientPruner", patience=1), "but got PatientPruner$"),
        (
            optunas("MedianPruner", startup=4),
            r"arguments of Optuna's MedianPruner \(n_startup_trials, .*but got startup = 4: ",
        ),
        (optunas("PercentilePruner"), r"but got none: .*missing.*percentile"),
        (optunas("PercentilePruner", percentile=-1.0), r"but got percentile = -1.0: "),
    ],
)
def test_what_optuna_does_not_have_is_one_clear_line(pruning, message):
    with pytest.raises(ConfigError, match=message) as caught:
        find_pruner(pruning)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("pruning", "message"),
    [
        ({"kind": "halvin"}, r"kind must be halving, percentile, none, an Optuna pruner as Med"),
        ({"options": {"n_startup_trials": 4}}, "options must be left out unless kind is an Optuna"),
        ({"by": "deepest"}, "by must be 'head', 'output' or 'ensemble', but got 'deepest'"),
    ],
)
def test_a_study_that_misnames_its_pruning_is_refused(pruning, message):
    with pytest.raises(ConfigError, match=message):
        config(pruning=pruning)


def test_a_search_refuses_a_pruner_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="but got BestPruner"):
        searching("bad", pruning={"kind": "BestPruner"})
    assert list(tmp_path.iterdir()) == []


def test_all_values_are_reported_before_the_first_trial_is_asked(monkeypatch):
    seen = []

    def prune(self, study, trial):
        trials = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        seen.append((trial.number, [t.intermediate_values.get(2) for t in trials]))
        return False

    monkeypatch.setattr(optuna.pruners.MedianPruner, "prune", prune)
    a_judge = judge(optunas("MedianPruner", grace_epochs=2))
    assert a_judge.losers(1, dict.fromkeys(NAMES, 0.1)) == []
    assert seen == []  # not asked before the first rung
    values = {H("1-2-2"): 0.4, H("1-1-1"): 0.1, H("1-2-1"): 0.3, H("1-1-2"): 0.2, H("9-9-9"): 0.9}
    a_judge.losers(2, values)
    assert seen == [(number, [0.1, 0.2, 0.3, 0.4]) for number in range(4)]


def test_median_compares_with_the_complete_trials_of_earlier_cohorts():
    earlier = [finished(H("2-2-2"), [0.2, 0.5, 0.6]), finished(H("2-2-1"), [0.3, 0.7, 0.8])]
    a_judge = judge(optunas("MedianPruner", n_startup_trials=1), earlier)
    # medians of what is complete: 0.25 and 0.6; the best of a trial so far counts
    first = {H("1-1-1"): 0.24, H("1-1-2"): 0.26, H("1-2-1"): 0.65, H("1-2-2"): 0.3}
    assert a_judge.losers(1, first) == [H("1-1-1")]
    assert a_judge.losers(2, {H("1-1-2"): 0.61, H("1-2-1"): 0.3, H("1-2-2"): 0.59}) == [H("1-2-2")]
    # in a first cohort there is nothing to compare with
    assert judge(optunas("MedianPruner", n_startup_trials=0)).losers(1, first) == []


def test_successive_halving_in_lock_step_favours_who_is_asked_first():
    values = {H("1-1-1"): 0.1, H("1-1-2"): 0.2, H("1-2-1"): 0.3, H("1-2-2"): 0.4}
    pruning = optunas("SuccessiveHalvingPruner", min_resource=1, reduction_factor=2)
    # each is the best of those asked before it: the order decides, and nobody stops
    assert judge(pruning).losers(1, values) == []
    assert judge(pruning, names=NAMES[::-1]).losers(1, values) == NAMES[2::-1]


def test_successive_halving_remembers_earlier_cohorts():
    pruning = optunas("SuccessiveHalvingPruner", min_resource=1, reduction_factor=2)
    values = {H("1-1-1"): 0.1, H("1-1-2"): 0.2, H("1-2-1"): 0.3, H("1-2-2"): 0.4}
    better = [finished(Hierarchy((2, i, j)), [0.9, 0.9]) for i in (1, 2) for j in (1, 2)]
    assert judge(pruning, better).losers(1, values) == NAMES


def test_references_are_compared_with_but_never_stop():
    threshold = optunas("ThresholdPruner", lower=0.5)
    values = {H("1-1-1"): 0.1, H("1-1-2"): 0.2, H("1-2-1"): 0.6, H("1-2-2"): 0.4}
    assert judge(threshold).losers(1, values) == [H("1-1-1"), H("1-1-2"), H("1-2-2")]
    free = judge(threshold, references=(H("1-1-2"),))
    assert free.losers(1, values) == [H("1-1-1"), H("1-2-2")]
    assert free.losers(2, dict.fromkeys([H("1-1-2"), H("1-2-1")], 0.1)) == [H("1-2-1")]


def test_those_who_are_one_network_so_far_stop_together_or_not_at_all():
    sequential = TrainingConfig(schedule="sequential")
    assert prefixes_at(1, NAMES, sequential) == dict.fromkeys(NAMES, H("1"))
    first, second = H("1-1"), H("1-2")
    assert list(prefixes_at(2, NAMES, sequential).values()) == [first, first, second, second]
    assert len(set(prefixes_at(2, NAMES, TRAINING).values())) == 4
    pruning = optunas("SuccessiveHalvingPruner", min_resource=1, reduction_factor=2)
    values = {H("1-1-1"): 0.4, H("1-1-2"): 0.4, H("1-2-1"): 0.2, H("1-2-2"): 0.2}
    assert judge(pruning).losers(1, values) == [H("1-2-1"), H("1-2-2")]
    # of the second pair only the last is told to stop: it goes on with its twin
    values = {H("1-2-1"): 0.2, H("1-1-1"): 0.4, H("1-1-2"): 0.4, H("1-2-2"): 0.2}
    kept = judge(pruning, names=list(values), training=sequential)
    told = judge(pruning, names=list(values)).losers(1, values)
    assert told == [H("1-2-2")]
    assert kept.losers(1, values) == []


def test_hierarchies_with_other_settings_are_judged_each_for_itself():
    names = [h.with_settings({"learning_rate": rate}) for h in NAMES[:2] for rate in (0.001, 10.0)]
    values = dict(zip(names, (0.9, 0.1, 0.8, 0.1), strict=True))
    sequential = TrainingConfig(schedule="sequential")
    for training, step in ((TrainingConfig(), 1), (sequential, 3)):
        assert len(set(prefixes_at(step, names, training).values())) == 4
        a_judge = judge(optunas("ThresholdPruner", lower=0.5), names=names, training=training)
        assert a_judge.losers(1, values) == [names[1], names[3]]
    first, other, *rest = prefixes_at(1, names, sequential).values()
    assert first != other
    assert rest == [first, other]


# ------------------------------------------------------------------ in a search

MEDIAN = {"kind": "MedianPruner", "options": {"n_startup_trials": 1}}
HALVING = {"kind": "SuccessiveHalvingPruner", "options": {"min_resource": 1, "reduction_factor": 2}}
THRESHOLD = {"kind": "ThresholdPruner", "options": {"lower": 0.99}}
"""Stops whole cohorts: all but references."""
BUDGET = {"n_trials": 8, "cohort_size": 3, "strategy": "random", "baseline": False}
DIFFERING = SHORT | {"data": {"train_images": 32, "val_fraction": 0.2}}
"""Validation images enough for accuracies that differ."""


@pytest.mark.parametrize("pruning", [MEDIAN, HALVING, THRESHOLD], ids=lambda p: p["kind"])
def test_a_search_and_its_replay_prune_alike_and_so_does_a_resumed_one(pruning, monkeypatch):
    whole = searched("whole", budget=BUDGET, pruning=pruning, **DIFFERING)
    states = {t.user_attrs["hierarchy"]: t.state for t in whole.study.trials}
    assert TrialState.PRUNED in states.values()
    assert states["2-1-1"] == TrialState.COMPLETE
    every = BUDGET | {"cohort_size": 8}
    table = searched("all", budget=every, pruning={"kind": "none"}, **DIFFERING)
    oracle = Oracle(record_landscape([recorded(table)]))
    policy = Policy("random", 3, 8, whole.config.pruning)
    replay, _ = course(oracle, policy)
    assert [(t.state, t.params, t.intermediate_values) for t in replay.trials] == [
        (t.state, t.params, t.intermediate_values) for t in whole.study.trials
    ]
    # cut off within the second cohort, at a checkpoint
    monkeypatch.setattr("dsaccel.training.checkpoint.INTERVAL_S", 0.0)
    died = searching("died", budget=BUDGET, pruning=pruning, **DIFFERING)
    die_after(died, 5, monkeypatch)
    again = searched("died", budget=BUDGET, pruning=pruning, **DIFFERING)
    kept = [row for row in rows(again) if row[0] != "FAIL"]
    assert sorted(map(str, kept)) == sorted(map(str, rows(whole)))


def test_pruning_by_the_output_layer_ranks_and_records_it(monkeypatch):
    real = descent.evaluate

    def contrary(*args):
        """The output layer ranks against the head below it."""
        all_heads = {name: read.heads for name, read in real(*args).items()}
        return {name: read_as((*h[:-1], 1 - h[-2])) for name, h in all_heads.items()}

    monkeypatch.setattr(descent, "evaluate", contrary)
    budget = BUDGET | {"cohort_size": 8}
    living = {}
    for by, index in (("head", -2), ("output", -1)):
        pruning = {"kind": "halving", "grace_epochs": 2, "by": by}
        search = searched(by, budget=budget, pruning=pruning, **SHORT)
        living[by] = set()
        read = heads(search)
        for trial in search.study.trials:
            rungs = read[trial.user_attrs["hierarchy"]]
            assert list(trial.intermediate_values.values()) == [rung[index] for rung in rungs]
            if len(rungs) == 3:
                living[by].add(trial.user_attrs["hierarchy"])
    # the reference, and the best or worst four of the other seven
    assert len(living["head"]) == len(living["output"]) == 5
    assert living["head"] != living["output"]


def test_the_output_layer_of_a_sequential_study_cannot_be_ranked():
    with pytest.raises(
        ConfigError, match=r"pruning.by must be head or ensemble with the sequential schedule"
    ):
        searching("seq", pruning={"by": "output"}, training={"schedule": "sequential"})


def test_a_replay_ranks_by_the_output_layer_too():
    landscape = synthetic()
    for rungs in landscape.accuracies[1].values():
        # at the first epoch the output layer ranks in reverse
        rungs[1] = (*rungs[1][:-1], 1 - rungs[1][-1])
    oracle = Oracle(landscape)
    best = {}
    for by in ("head", "output"):
        pruning = PruningConfig(kind="halving", grace_epochs=1, reduction_factor=20.0, by=by)
        _, marks = course(oracle, Policy("random", 27, 27, pruning))
        best[by] = marks[-1].regret
    assert best["head"] == 0
    assert best["output"] > 0
    assert config().ranked_by == "head"


def test_the_command_line_names_a_pruner_and_its_options():
    write_study(Path("studies/tiny.toml"))
    result = run("search", "tiny", "--pruning", "BestPruner")
    assert result.exit_code == 2
    assert "one of Optuna's HyperbandPruner" in result.stderr
    wrong = ["--pruning", "MedianPruner", "--set", "pruning.options.startup=4"]
    result = run("search", "tiny", *wrong)
    assert result.exit_code == 2
    assert "but got startup = 4" in result.stderr


def test_a_replay_takes_another_kind_than_its_study_had():
    landscape = synthetic(pruning={"kind": "percentile", "percentile": 75.0})
    given = {"kind": "MedianPruner", "options": {"n_startup_trials": 4}, "by": None}
    (a_policy,) = policies(landscape, "random", "3", 9, given)
    assert a_policy.pruning == optunas("MedianPruner", n_startup_trials=4)
    with pytest.raises(ConfigError, match="but got BestPruner"):
        Replay(Oracle(landscape), Policy("random", 3, 9, optunas("BestPruner")), 1)


def test_optunas_pruners_are_asked_after_every_epoch_but_the_last():
    assert rung_steps(optunas("MedianPruner"), TRAINING, 3) == (1, 2, 3, 4)
    assert rung_steps(optunas("MedianPruner", grace_epochs=3), TRAINING, 3) == (3, 4)
    sequential = TrainingConfig(schedule="sequential")
    assert rung_steps(optunas("MedianPruner"), sequential, 3) == (1, 2)
    assert list(itertools.chain(rung_steps(NONE, TRAINING, 3))) == []
