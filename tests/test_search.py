"""The search as a whole, on a tiny study: what is stored, resumed, pruned, refused."""

import csv
import itertools
import json

import optuna
import pytest
import tiny_study
from helpers import read_as, spy_on_training
from optuna.trial import TrialState
from optuna_dashboard import get_note
from tiny_study import config, heads, rows, searched, searching, whole

from dsaccel.errors import ConfigError, MismatchError, NoResultError, StorageError
from dsaccel.report.results import search_summary
from dsaccel.search.engine import Search
from dsaccel.search.outcome import check_winner
from dsaccel.search.pruners import rung_steps
from dsaccel.search.setup import resolve
from dsaccel.space.space import SearchSpace
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.study.export import run_config, trial_config
from dsaccel.study.folder import StudyDir
from dsaccel.study.resume import Recorded, check_same, study_fingerprint
from dsaccel.study.rows import best_trial, read_rows
from dsaccel.study.trial_record import TrialRecord
from dsaccel.study.trials import CONSTRAINT, FINITE, Ledger
from dsaccel.training import descent
from dsaccel.training.train import Training

pytestmark = pytest.mark.usefixtures("own_folder")

SHORTEST = {"training": {"epochs": 1}}
ASKED = (TrialState.COMPLETE, TrialState.PRUNED)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("finished")


@pytest.fixture(scope="module")
def finished(folder):
    """A whole search of the tiny study, shared by tests that only read it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return searched()


def asked_trials(search):
    return [t for t in search.study.trials if not t.user_attrs.get("harvested")]


@pytest.mark.long
def test_a_search_trains_as_many_distinct_hierarchies_as_asked_for(finished):
    names = [t.user_attrs["hierarchy"] for t in asked_trials(finished) if t.state in ASKED]
    assert len(names) == len(set(names)) == finished.num_trained == 6
    assert all(finished.space.violation(Hierarchy.parse(name)) is None for name in names)


def test_references_are_trained_first_and_never_pruned(finished):
    first = finished.study.trials[0]
    assert first.user_attrs["hierarchy"] == "2-1-1"
    assert first.user_attrs["reference"] is True
    assert first.state == TrialState.COMPLETE


def test_a_reference_on_the_way_to_another_is_trained_in_its_own_right():
    budget = {"n_trials": 2, "cohort_size": 1, "baseline": False}
    search = searching("nested", references=["2-1-2", "2-1-1"], budget=budget, **SHORTEST)
    # more rungs than two cohorts of one epoch have: the search would not end
    assert len(list(itertools.islice(search.run(), 5))) == 2
    assert [t.user_attrs["hierarchy"] for t in search.study.trials][:1] == ["2-1-2"]
    trained = {trial.name: trial for trial in search.ledger.record().trained}
    assert trained["2-1-1"].is_reference


def test_even_the_worst_reference_goes_on_at_a_rung(monkeypatch):
    real = descent.evaluate

    def worst_reference(*args):
        read = real(*args)
        worst = Hierarchy((2, 1, 1))
        return read | {worst: read_as(0.0 for _ in read[worst].heads)}

    monkeypatch.setattr(descent, "evaluate", worst_reference)
    search = searched("worst", budget={"n_trials": 3, "cohort_size": 3, "baseline": False})
    states = {t.user_attrs["hierarchy"]: t.state for t in asked_trials(search)}
    assert states.pop("2-1-1") == TrialState.COMPLETE
    assert sorted(state.name for state in states.values()) == ["COMPLETE", "PRUNED"]


def test_each_row_holds_what_the_dashboard_and_the_report_need(finished, folder, monkeypatch):
    monkeypatch.chdir(folder)
    read = heads(finished)
    for trial in finished.study.trials:
        attributes = trial.user_attrs
        hierarchy = Hierarchy.parse(attributes["hierarchy"])
        plan = finished.plan(hierarchy)
        assert trial.params == {f"num_blocks_s{i}": n for i, n in enumerate(hierarchy.blocks, 1)}
        assert attributes["num_parameters"] == plan.num_parameters
        assert attributes["flops"] == plan.flops
        assert attributes["shallow_scale"] == plan.shallow_scale
        rungs = read[attributes["hierarchy"]]
        assert attributes["epochs_trained"] == len(rungs)
        assert {len(row) for row in rungs} == {plan.num_local_losses + 1}
        assert tuple(attributes["head_stages"]) == plan.head_stages
        # the step is the epoch, the value the deepest local head's accuracy
        assert trial.intermediate_values == {e: row[-2] for e, row in enumerate(rungs, 1)}
        assert attributes["val_accuracy"] == rungs[-1][-1]
        # what is read on the way to others takes no time of its own
        assert (attributes["time_s"] > 0) != attributes.get("harvested", False)
        assert attributes["alone_s"] >= max(attributes["time_s"], 1e-9)
        if trial.state == TrialState.COMPLETE:
            assert len(rungs) == 4
            assert trial.value == rungs[-1][-1]
        json.dumps(attributes)


def test_the_objective_is_the_last_epochs_accuracy_not_the_best(monkeypatch):
    real, calls = descent.evaluate, itertools.count(1)

    def collapses_at_the_end(trie, learners, batches):
        factor = 0.5 if next(calls) % 4 == 0 else 1
        read = real(trie, learners, batches)
        return {name: read_as(factor * a for a in r.heads) for name, r in read.items()}

    monkeypatch.setattr(descent, "evaluate", collapses_at_the_end)
    search = searched("collapsed", budget={"n_trials": 1, "cohort_size": 1, "baseline": False})
    (trial,) = search.study.trials
    (rungs,) = heads(search).values()
    outputs = [row[-1] for row in rungs]
    assert trial.value is not None
    assert trial.value == outputs[-1]
    assert trial.value < max(value for value in outputs if value is not None)


def test_an_exported_pruned_trial_says_how_far_it_was_trained(finished):
    (pruned, *_) = [t for t in finished.study.trials if t.state == TrialState.PRUNED]
    result = trial_config(finished.config, finished.ledger.record(), TrialRecord(pruned)).result
    assert result is not None
    assert "val_accuracy" not in result
    assert result["pruned_after"] == "epoch 3"
    assert result["accuracy_then"] == pruned.intermediate_values[3]
    complete = best_trial(finished.ledger.record())
    assert complete is not None
    result = trial_config(finished.config, finished.ledger.record(), complete).result
    assert result is not None
    assert result["val_accuracy"] == complete.value
    assert "pruned_after" not in result


def test_optunas_best_trial_is_feasible_though_a_reference_may_be_better(finished):
    infeasible = [t for t in finished.study.trials if t.user_attrs.get("feasible") is False]
    assert infeasible == []
    space = {"num_blocks": [[1, 1], [1, 1], [2, 2]], "constraint": "accelerated"}
    search = searched("constrained", space=space, references=["2-1-1"], budget={"n_trials": 2})
    reference, trial = search.study.trials
    assert [t.constraints for t in (reference, trial)] == [{CONSTRAINT: 1.0}, {CONSTRAINT: 0.0}]
    # were it the better one
    study = optuna.create_study(direction="maximize")
    reference.value = 1.0
    study.add_trials([reference, trial])
    assert study.best_trial.user_attrs["hierarchy"] == "1-1-2"


def test_the_dashboard_has_a_note_on_what_its_values_are(finished):
    note = get_note(finished.study)
    assert "**value** of a complete trial is the validation accuracy of its output layer" in note
    assert "deepest trained local head, after each epoch" in note


def test_a_password_is_not_shown(finished, monkeypatch):
    monkeypatch.setattr(finished, "url", "postgresql+psycopg://me:secret@host/x")
    assert search_summary(finished)["storage"] == "postgresql+psycopg://me:***@host/x"


def test_a_cohorts_worse_half_is_pruned_at_the_rung(finished):
    (rung,) = rung_steps(finished.config.pruning, finished.config.training, 4)
    assert rung == 3  # two of four epochs before the first decay, one after it
    for start in (0, 3):
        cohort = asked_trials(finished)[start : start + 3]
        ranked = [t for t in cohort if not t.user_attrs.get("reference")]
        pruned = [t for t in cohort if t.state == TrialState.PRUNED]
        assert len(pruned) == len(ranked) // 2
        kept = [t for t in ranked if t.state == TrialState.COMPLETE]
        for loser, winner in itertools.product(pruned, kept):
            assert loser.intermediate_values[rung] <= winner.intermediate_values[rung]
            assert max(loser.intermediate_values) == rung


def test_blocks_are_counted_once_a_cohort_and_as_far_as_they_are_trained(finished):
    record, epochs = finished.ledger.record(), finished.config.training.epochs
    trained: dict[tuple[int, tuple], int] = {}
    for trial in record.trained:
        blocks = [(s, i) for s, num in enumerate(trial.hierarchy.blocks, 1) for i in range(num)]
        for end in range(len(blocks) + 1):  # the stem is the empty beginning
            beginning = (trial.cohort, tuple(blocks[:end]))
            trained[beginning] = max(trained.get(beginning, 0), max(trial.by_step))
    assert min(trained.values()) < epochs
    assert record.blocks_trained == pytest.approx(sum(trained.values()) / epochs)
    assert record.blocks_separate == sum(1 + t.hierarchy.num_blocks for t in record.trained)


def test_the_baseline_is_the_winner_trained_globally(finished):
    baseline = finished.study.user_attrs["baseline"]
    complete = [t for t in finished.study.trials if t.state == TrialState.COMPLETE]
    costs = ("shallow_scale", "num_parameters")  # of equal accuracies, the cheaper
    ranked = sorted(complete, key=lambda t: (-t.value, *(t.user_attrs[cost] for cost in costs)))
    best = ranked[0].user_attrs["hierarchy"]
    assert baseline["hierarchy"] == best
    run = run_config(finished.config, best, None).model_copy(update={"mode": "global"})
    training = Training(run)
    *_, last = training.cohort.rungs()
    assert baseline["val_accuracy"] == last.objective(Hierarchy.parse(best))
    assert training.plan.num_local_losses == 0


def test_training_alone_reproduces_every_trial_exactly(finished, folder, monkeypatch):
    monkeypatch.chdir(folder)
    read = heads(finished)
    for trial in finished.study.trials:
        name = trial.user_attrs["hierarchy"]
        training = Training(run_config(finished.config, name, None))
        for rung in training.cohort.rungs():
            if rung.step == trial.user_attrs["epochs_trained"]:
                break
        assert training.cohort.head_accuracies(training.hierarchy) == read[name]


def test_a_finished_search_says_so_and_trains_nothing(finished, folder, monkeypatch):
    monkeypatch.chdir(folder)
    before = rows(finished)
    again = searching()
    assert again.is_finished
    assert list(again.run()) == []
    assert rows(again) == before


@pytest.mark.long
def test_equal_studies_give_equal_rows():
    assert rows(searched("again")) == whole()[0] != rows(searched("other", seed=2))


class Killed(BaseException):
    """The process dies: nothing is told, nothing is cleaned up."""


def die_after(search: Search, num_rungs: int, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "fail_unfinished", lambda self: None)
        run = search.run()
        for _ in range(num_rungs):
            next(run)
        run.close()


@pytest.mark.long
@pytest.mark.parametrize("checkpoints", [False, True])
@pytest.mark.parametrize("num_rungs", [1, 3, 5, 7])
def test_a_search_that_died_goes_on_as_if_it_had_not(num_rungs, checkpoints, monkeypatch):
    expected, _ = whole()
    monkeypatch.setattr("dsaccel.training.checkpoint.INTERVAL_S", 0 if checkpoints else 1e9)
    dying = searching("dying")
    die_after(dying, num_rungs, monkeypatch)
    states = [t.state for t in dying.study.trials]
    assert TrialState.RUNNING in states
    resumed = searching("dying")
    left = len(states) - states.count(TrialState.COMPLETE) - states.count(TrialState.PRUNED)
    starts = spy_on_training(monkeypatch)
    epochs = [progress.step for progress in resumed.run() if progress.phase == "search"]
    failed = [t for t in resumed.study.trials if t.state == TrialState.FAIL]
    assert len(failed) == left
    # from the checkpoint only what is missing is trained, otherwise the cohort again
    done = num_rungs % 4 if checkpoints else 0
    assert starts[0] == done
    # every rung is seen again, so that it is decided again
    assert epochs[0] == 1
    finished = [row for row in rows(resumed) if row[0] != "FAIL"]
    assert sorted(map(str, finished)) == sorted(map(str, expected))


@pytest.mark.long
def test_a_damaged_checkpoint_costs_time_but_no_result(monkeypatch):
    expected, _ = whole()
    monkeypatch.setattr("dsaccel.training.checkpoint.INTERVAL_S", 0)
    dying = searching("dying")
    die_after(dying, 2, monkeypatch)
    checkpoint = dying.directory.checkpoint
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    resumed = searched("dying")
    assert [row for row in rows(resumed) if row[0] != "FAIL"] == expected


@pytest.mark.long
def test_a_checkpoint_that_another_study_left_behind_is_not_used(monkeypatch):
    other = {"training": {"learning_rate": 1e-2}}
    expected, _ = whole(**other)
    monkeypatch.setattr("dsaccel.training.checkpoint.INTERVAL_S", 0)
    left = searching("left")
    die_after(left, 2, monkeypatch)
    for path in left.directory.path.glob("study.*"):
        path.unlink()
    assert left.directory.checkpoint.is_file()
    assert rows(searched("left", **other)) == expected


@pytest.mark.parametrize(
    "sections",
    [
        {"seed": 2},
        {"network": {"dropout": 0.1}},
        {"data": {"crop_padding": 2}},
        {"pruning": {"grace_epochs": 2}},
        {"runtime": {"threads": 2}},
    ],
)
def test_a_study_is_known_by_its_settings_and_images(sections):
    fingerprint = study_fingerprint(config(), "images")
    assert fingerprint != study_fingerprint(config(**sections), "images")
    assert fingerprint != study_fingerprint(config(), "others")
    free = {"budget": {"timeout_s": 9.0}, "training": {"cuda_graph": True}, "storage": "sqlite://"}
    assert fingerprint == study_fingerprint(config(**free), "images")


@pytest.mark.long
def test_a_larger_budget_continues_the_same_study():
    searched("grown", budget={"n_trials": 3, "cohort_size": 3})
    grown = searched("grown", budget={"n_trials": 6, "cohort_size": 3})
    assert rows(grown) == whole()[0]


@pytest.mark.long
def test_an_exhausted_space_ends_the_search():
    search = searched("small", budget={"n_trials": 100, "cohort_size": 4})
    known = {t.user_attrs["hierarchy"] for t in search.study.trials}
    assert len(known) == 8 == search.space.size
    assert search.is_finished
    assert search.is_exhausted


def test_the_few_feasible_ones_of_a_large_box_are_all_trained():
    space = {"family": "vgg", "num_blocks": [[1, 12]] * 5, "max_total_blocks": 7}
    accelerated = space | {"constraint": "accelerated"}
    budget = {"n_trials": 64, "cohort_size": None, "baseline": False}
    search = searched("large", space=accelerated, references=[], budget=budget, **SHORTEST)
    assert search.num_trained == 10
    assert search.is_exhausted
    assert not search.meets_no_more


@pytest.mark.long
def test_a_space_that_fits_the_budget_is_taken_whole_as_one_trie():
    search = searched("all", budget={"n_trials": 8, "cohort_size": None}, pruning={"kind": "none"})
    assert search.config.budget.strategy == "exhaustive"
    assert search.config.budget.cohort_size == 8
    assert search.num_trained == 8
    assert search.ledger.record().blocks_trained == 1 + 2 + 4 + 8


def test_a_cohort_is_at_most_a_quarter_of_the_budget_otherwise():
    search = searching("quarter", budget={"n_trials": 7, "cohort_size": None})
    assert search.config.budget.cohort_size == 1
    assert not search.is_exhausted


@pytest.mark.parametrize(
    ("budget", "strategy", "cohort_size"),
    [
        ({"n_trials": 7, "cohort_size": None}, "tpe", 1),
        ({"n_trials": 8, "cohort_size": 4}, "exhaustive", 4),
        ({"n_trials": 7, "cohort_size": 1}, "tpe", 1),
        ({"n_trials": 1, "cohort_size": 1}, "tpe", 1),
        # fewer than four cohorts teach nothing: what it is, it is called
        ({"n_trials": 7, "cohort_size": 2}, "random", 2),
        ({"n_trials": 100, "cohort_size": None, "strategy": "tpe"}, "tpe", 25),
        ({"n_trials": 100, "cohort_size": None, "strategy": "gp"}, "gp", 1),
        ({"n_trials": 7, "cohort_size": 7, "strategy": "random"}, "random", 7),
    ],
)
def test_strategy_and_cohort_size_are_chosen_together(budget, strategy, cohort_size):
    chosen = resolved(budget=budget).budget
    assert (chosen.strategy, chosen.cohort_size) == (strategy, cohort_size)


def resolved(**sections):
    """The settings of a new study, for which nothing is read and nothing opened."""
    study = config(**sections)
    references = [Hierarchy.parse(text) for text in study.references]
    space = SearchSpace(study.space, lambda _: pytest.fail("measured"), references)
    return resolve(study, space, is_new=True)


@pytest.mark.parametrize("strategy", ["tpe", "gp", "nsga2"])
def test_a_strategy_that_could_not_learn_is_refused(strategy):
    message = (
        f"cohort_size must be at most 3, a quarter of n_trials = 15, for strategy {strategy}, "
        ".* but got 4; leave it out, or choose --strategy random"
    )
    with pytest.raises(ConfigError, match=message):
        resolved(budget={"n_trials": 15, "cohort_size": 4, "strategy": strategy})


def test_an_exhaustive_search_that_does_not_fit_is_refused_with_the_way_out(tmp_path):
    budget = {"n_trials": 7, "cohort_size": None, "strategy": "exhaustive"}
    message = r"trains all 8 hierarchies .* but got n_trials = 7; set --n-trials 8, narrow"
    with pytest.raises(ConfigError, match=message):
        searching("all", budget=budget)
    huge = {"family": "vgg", "num_blocks": [[1, 20]] * 5}
    with pytest.raises(ConfigError, match="a space too large to list, but got n_trials = 7"):
        resolved(budget=budget, space=huge, references=[])
    assert list(tmp_path.iterdir()) == []


def test_the_strategy_proposes_and_is_kept_when_the_study_is_continued(monkeypatch):
    search = searching("subtrees", budget={"n_trials": 8, "cohort_size": 4})
    assert proposed(search) == ["2-1-1", "1-1-1", "1-1-2", "1-2-1"]
    asked_for = []

    def propose(*_args, strategy, **_options):
        asked_for.append(type(strategy).__name__)
        return []

    monkeypatch.setattr("dsaccel.search.proposals.propose", propose)
    few = {"n_trials": 8, "cohort_size": None}
    assert proposed(searching("kept", budget={**few, "strategy": "nsga2"})) == ["2-1-1"]
    continued = searching("kept", budget={**few, "n_trials": 100})
    assert (continued.config.budget.strategy, continued.config.budget.cohort_size) == ("nsga2", 2)
    assert proposed(continued) == ["2-1-1"]
    assert asked_for == ["Nsga2", "Nsga2"]


def proposed(search):
    return list(map(str, search.loop.next().asked))


def read_harvest(search):
    with search.directory.harvest.open(newline="") as file:
        return {row["hierarchy"]: row for row in csv.DictReader(file)}


def test_a_network_read_outside_the_space_is_kept_beside_the_study_once():
    space = {"num_blocks": [[1, 1], [1, 1], [2, 3]]}
    for n_trials in (1, 2):
        budget = {"n_trials": n_trials, "cohort_size": 1, "strategy": "random"}
        search = searched("outside", space=space, references=[], budget=budget)
        (row,) = read_harvest(search).values()
        assert row["hierarchy"] == "1-1-1"
        assert row["epochs"] == "4"
        assert row["why"] == "num_blocks of stage 3 must be within 2..3, but got 1-1-1"
    assert "1-1-1" not in [t.user_attrs["hierarchy"] for t in search.study.trials]
    training = Training(run_config(search.config, "1-1-1", None))
    *_, last = training.cohort.rungs()
    assert float(row["val_accuracy"]) == last.objective(training.hierarchy)
    assert float(row["head_accuracy"]) == last.deepest_head(training.hierarchy)
    assert int(row["num_parameters"]) == training.plan.num_parameters
    assert int(row["flops"]) == training.plan.flops


def search_for(cohort, monkeypatch, n_trials, **sections):
    """A study in which these hierarchies are proposed."""
    left = list(cohort)
    all_left = lambda *_, **__: [left.pop(0) for _ in left[:]]  # noqa: E731
    monkeypatch.setattr("dsaccel.search.proposals.propose", all_left)
    budget = {"n_trials": n_trials, "cohort_size": 2, "baseline": False}
    return searching("asked", references=[], budget=budget, **sections)


@pytest.mark.long
def test_what_was_pruned_away_under_a_harvested_network_is_said(monkeypatch):
    search = search_for([Hierarchy((1, 1, 2)), Hierarchy((2, 2, 2))], monkeypatch, 2)
    # from the rung on, so that a search that is cut off has told it
    rows_at = {p.step: len(read_harvest(search)) for p in search.run() if p.step > 2}
    assert rows_at == {3: 1, 4: 1}
    by_state = {t.state: t for t in asked_trials(search)}
    pruned = by_state[TrialState.PRUNED].user_attrs["hierarchy"]
    ((name, row),) = read_harvest(search).items()
    assert name == f"{pruned[:-2]}-1"
    assert row["epochs"] == "3"
    assert row["why"] == "not trained to the end: what it is a part of was pruned at epoch 3"
    training = Training(run_config(search.config, name, None))
    *_, rung = itertools.islice(training.cohort.rungs(), 3)
    assert float(row["val_accuracy"]) == rung.objective(training.hierarchy)
    # the other one's was trained to the end, and is a trial
    (harvested,) = [t for t in search.study.trials if t.user_attrs.get("harvested")]
    assert harvested.state == TrialState.COMPLETE
    # a network that becomes a trial leaves the file, and the file goes with the last one
    list(search_for([Hierarchy.parse(name)], monkeypatch, 3).run())
    assert not search.directory.harvest.exists()


def test_after_a_stage_a_harvested_network_has_heads_but_no_output(monkeypatch):
    search = search_for(
        [Hierarchy((1, 1, 2)), Hierarchy((2, 2, 2))],
        monkeypatch,
        2,
        training={"schedule": "sequential"},
    )
    list(search.run())
    (row,) = read_harvest(search).values()
    assert row["val_accuracy"] == ""
    assert 0 <= float(row["head_accuracy"]) <= 1
    assert int(row["epochs"]) % 4 == 0
    assert row["why"].endswith("was pruned at stage 1")
    (pruned,) = [t for t in search.study.trials if t.state == TrialState.PRUNED]
    assert "val_accuracy" not in pruned.user_attrs
    assert heads(search)[pruned.user_attrs["hierarchy"]]


def test_networks_nobody_asked_for_are_harvested_as_complete_trials():
    space = {"num_blocks": [[1, 1], [1, 1], [1, 4]]}
    search = searched(
        "harvest", space=space, references=[], budget={"n_trials": 1, "cohort_size": 1}, seed=3
    )
    (asked,) = asked_trials(search)
    harvested = [t for t in search.study.trials if t.user_attrs.get("harvested")]
    last = Hierarchy.parse(asked.user_attrs["hierarchy"]).blocks[-1]
    assert last > 1
    assert [t.user_attrs["hierarchy"] for t in harvested] == [f"1-1-{k}" for k in range(1, last)]
    assert all(t.state == TrialState.COMPLETE for t in harvested)
    assert search.num_trained == 1
    assert search.ledger.record().blocks_separate == 3 + last


def test_an_infeasible_reference_is_trained_but_never_best():
    space = {"constraint": "strict", "num_blocks": [[1, 2], [1, 2], [1, 2]]}
    search = searched("strict", space=space, budget={"n_trials": 2, "cohort_size": 2})
    reference = search.study.trials[0]
    assert reference.user_attrs["feasible"] is False
    assert reference.state == TrialState.COMPLETE
    assert search.study.user_attrs["baseline"]["hierarchy"] == "1-2-2"


@pytest.mark.long
def test_time_out_stops_at_a_rung_and_the_search_goes_on_later():
    first = searched("timed", budget={"timeout_s": 0.001})
    states = [t.state for t in first.study.trials]
    assert states == [TrialState.FAIL] * 3
    assert first.directory.checkpoint.is_file()
    again = searched("timed")
    expected, _ = whole()
    assert [row for row in rows(again) if row[0] != "FAIL"] == expected


@pytest.mark.parametrize(
    ("sections", "difference"),
    [
        ({"seed": 2}, "seed: 1 in the study, 2 asked for"),
        ({"training": {"epochs": 5}}, "training.epochs: 4 in the study, 5 asked for"),
        ({"network": {"loss": "pred"}}, "network.loss: predsim in the study, pred asked for"),
        ({"runtime": {"threads": 2}}, "runtime.threads: 1 in the study, 2 asked for"),
        ({"budget": {"cohort_size": 2}}, "budget.cohort_size: 3 in the study, 2 asked for"),
        ({"budget": {"strategy": "tpe"}}, "budget.strategy: random in the study, tpe asked for"),
        ({"space": {"constraint": "total"}}, "space.constraint: none in the study, total asked"),
        ({"data": {"val_fraction": 0.3}}, "data.val_fraction: 0.05 in the study, 0.3 asked for"),
    ],
)
def test_other_settings_on_an_existing_study_are_refused(sections, difference):
    begun = Recorded(config(budget={"strategy": "random"}), "images")
    budget = {"strategy": "random"} | sections.pop("budget", {})
    with pytest.raises(MismatchError, match=difference):
        check_same(StudyDir("fixed"), begun, config(budget=budget, **sections), "images")


def test_a_study_that_is_refused_stays_as_it_was():
    searching("fixed")
    before = StudyDir("fixed").config.read_text()
    with pytest.raises(MismatchError, match="seed: 1 in the study, 2 asked for"):
        searching("fixed", seed=2)
    assert StudyDir("fixed").config.read_text() == before


def test_what_is_chosen_for_the_user_is_chosen_as_when_the_study_began():
    searching("auto", runtime={"threads": 1, "device": "cpu"})
    again = searching("auto", runtime={"threads": None, "device": "auto"})
    assert again.config.runtime.threads == 1


def test_other_images_under_an_existing_study_are_refused():
    search = searching("images")
    search.study.set_user_attr("fingerprint", "0123456789abcdef")
    with pytest.raises(MismatchError, match="not those that the study was begun with"):
        searching("images")


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"space": {"family": "resnet19"}}, "family must be one of resnet18"),
        ({"space": {"num_blocks": [[1, 2], [1, 2]]}, "references": []}, "3 to 4 stages"),
        ({"references": ["2-1"]}, "2-1"),
        ({"data": {"name": "no-such-set"}}, "no-such-set"),
        ({"space": {"max_parameters": 10}}, "parameters"),
        ({"runtime": {"device": "tpu"}}, "device must be auto, cpu, cuda or cuda:N"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_written(tmp_path, sections, message):
    with pytest.raises(ConfigError, match=message):
        searching("bad", **sections)
    assert list(tmp_path.iterdir()) == []


def test_a_storage_that_cannot_be_opened_is_one_line_without_the_password(tmp_path, monkeypatch):
    url = "postgresql+psycopg://user:secret@127.0.0.1:1/none"
    monkeypatch.setenv("DSACCEL_STORAGE", url)
    with pytest.raises(StorageError) as caught:
        searching("remote", storage=url.replace(":secret", ""))
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["nonsense", "bogus://host/name"])
def test_a_storage_url_that_is_none_is_refused_with_the_forms_that_are(url):
    with pytest.raises(StorageError, match="expected sqlite:///FILE or postgresql"):
        searching("odd", storage=url)


def test_an_error_of_the_training_is_not_blamed_on_the_storage(monkeypatch):
    def broken(*_args):
        raise ValueError("a bug")

    monkeypatch.setattr(descent, "evaluate", broken)
    with pytest.raises(ValueError, match="a bug"):
        searched("broken")


def test_trials_that_diverged_are_marked_and_none_of_them_is_the_best():
    wild = {"learning_rate": 1e30, "epochs": 2}
    budget = {"n_trials": 2, "cohort_size": 2}
    search = searched("wild", training=wild, budget=budget)
    record = search.ledger.record()
    assert [trial.diverged and trial.diverged.unit for trial in record.trained] == [1, 1]
    assert {trial.diverged.step for trial in record.finished if trial.diverged} == {1}
    assert best_trial(record) is None
    assert read_rows(record)[0].state == "diverged at epoch 1 in unit 1 of 10"
    assert {t.constraints[FINITE] for t in search.study.trials} == {1.0}
    assert search.is_finished
    with pytest.raises(NoResultError, match="the training of all 2 hierarchies diverged; set a"):
        check_winner(search)
    training = Training(run_config(search.config, "1-1-1", None))
    list(training.rungs())
    with pytest.raises(NoResultError, match="1-1-1 must stay finite, but its training diverged in"):
        training.result()


def test_the_study_is_alone_in_its_database(finished):
    summaries = optuna.get_all_study_summaries(finished.study._storage)
    assert [summary.study_name for summary in summaries] == ["tiny"]


def test_config_resolves_every_choice(finished):
    resolved = finished.config
    assert resolved.data.image_size == 8
    assert resolved.data.channels == 1
    assert resolved.data.crop_padding == 1
    assert resolved.data.flip is False
    assert config().data.image_size is None
    assert tiny_study.TABLES["references"] == ["2-1-1"]
