"""Beam search: who goes on, that nothing else changes, what it trains, and what it misses."""

import math

import optuna
import pytest
from helpers import NETWORK, H, cohort, differing, plans, tensors, trained, whole_and_resumed
from optuna.trial import TrialState
from test_replay import Oracle, Policy, course, synthetic
from test_search import die_after
from test_sequential import TRAINING
from tiny_study import recorded, rows, searched, searching

from dsaccel.analysis.recorded import record_landscape
from dsaccel.analysis.replay import Replay
from dsaccel.analysis.replay_policies import policies, replay_policy
from dsaccel.config.study import PruningConfig
from dsaccel.errors import ConfigError
from dsaccel.search.strategies.beam import beam_losers, beam_survivors
from dsaccel.study.record import StudyRecord

pytestmark = pytest.mark.usefixtures("own_folder")

SPACE = {"family": "resnet18", "num_blocks": [[1, 3], [1, 2], [1, 2]], "constraint": "none"}
SEQUENTIAL = {"schedule": "sequential", "epochs": 1}
BEAM = {"strategy": "beam", "n_trials": 12, "cohort_size": None, "baseline": False, "beam_width": 1}
NONE = PruningConfig(kind="none")


# ------------------------------------------------------------------ who goes on


def test_the_best_go_on_and_the_best_of_each_block_count():
    values = {
        H("1-1"): 0.9,
        H("2-1"): 0.8,
        H("1-2"): 0.7,
        H("2-2"): 0.6,
        H("1-3"): 0.1,
        H("2-3"): 0.2,
    }
    one_of_each = {H("1-1"), H("1-2"), H("2-3")}
    assert beam_survivors(values, 1) == one_of_each
    assert beam_survivors(values, 2) == one_of_each | {H("2-1")}
    assert beam_survivors(values, 3) == one_of_each | {H("2-1")}
    assert beam_survivors(values, 6) == set(values)
    assert beam_survivors({}, 2) == set()


def test_after_the_first_stage_nothing_is_given_up():
    values = {H("1"): 0.1, H("2"): 0.9, H("3"): 0.2}
    assert beam_survivors(values, 1) == set(values)


def test_equal_accuracies_rank_by_hierarchy_and_what_diverged_last():
    assert beam_survivors({H("2-1"): 0.5, H("1-1"): 0.5}, 1) == {H("1-1")}
    values = {H("1-1"): math.nan, H("2-1"): 0.1, H("3-1"): math.inf}
    assert beam_survivors(values, 1) == {H("2-1")}


def test_hierarchies_stop_with_their_beginning():
    values = {H("1-1-2"): 0.9, H("2-1-1"): 0.5, H("1-1-1"): 0.9, H("2-1-3"): 0.5}
    assert beam_losers(values, 2, 1) == [H("2-1-1"), H("2-1-3")]
    assert beam_losers(values, 2, 2) == []


def test_beginnings_with_other_settings_are_others():
    values = {
        H("2-2-1 learning_rate=0.001"): 0.9,
        H("2-2-2 learning_rate=0.001"): 0.9,
        H("2-2-1 learning_rate=0.1"): 0.1,
        H("1-2-1 learning_rate=0.1"): 0.2,
        H("1-1-1 learning_rate=0.1"): 0.3,
    }
    assert beam_losers(values, 2, 1) == [H("2-2-1 learning_rate=0.1"), H("1-2-1 learning_rate=0.1")]
    # of a setting a stage, those of the stages so far
    values = {
        H("1-2-1 granularity=conv,block,conv"): 0.9,
        H("1-2-1 granularity=conv,block,block"): 0.9,
        H("1-2-1 granularity=conv,conv,conv"): 0.1,
    }
    assert beam_losers(values, 2, 1) == [H("1-2-1 granularity=conv,conv,conv")]


# ------------------------------------------------------------------ the schedule


@pytest.mark.parametrize("granularity", ["conv", "block"])
@pytest.mark.parametrize("family", ["resnet18", "vgg"])
def test_looking_ahead_changes_no_unit_and_reads_one_head_more(family, granularity):
    network = NETWORK.model_copy(update={"granularity": granularity})
    networks = plans("1-2-1", "2-1-1", "1-1-2", family=family, network=network)
    plain, ahead = trained(networks, TRAINING), cohort(networks, TRAINING, looks_ahead=True)
    for _ in ahead.rungs():
        pass
    assert [rung.step for rung in ahead.history] == [1, 2, 3]
    for name, plan in networks.items():
        assert not differing(tensors(ahead, name), tensors(plain, name))
        heads, plain_heads = ahead.head_accuracies(name), plain.head_accuracies(name)
        assert heads[-1] == plain_heads[-1]
        for step in (1, 2):
            # one unit of the next stage: its accuracy is the same at the end
            num = plan.num_heads(step)
            assert len(heads[step - 1]) == num + 1
            assert heads[step - 1] == heads[-1][: num + 1]
            assert ahead.history[step - 1].deepest_head(name) == heads[-1][num]
    assert all(seconds > 0 for seconds in ahead.time_s.values())


@pytest.mark.parametrize("stop", [1, 2])
def test_a_beam_resumed_after_a_stage_is_bit_identical(tmp_path, stop):
    def some():
        return cohort(plans("1-2-1", "2-1-1", "1-1-2"), TRAINING, looks_ahead=True)

    whole, second = whole_and_resumed(some, H("2-1-1"), stop, tmp_path / "checkpoint.pt")
    assert second.history == whole.history
    assert second.blocks_trained == whole.blocks_trained
    for name in second.trie.asked:
        assert not differing(tensors(second, name), tensors(whole, name))


# ------------------------------------------------------------------ what is trained


@pytest.mark.parametrize(("looks_ahead", "num_blocks"), [(False, 7), (True, 7.5)])
def test_blocks_that_were_never_trained_are_not_counted(looks_ahead, num_blocks):
    networks = plans("1-1-1", "1-2-1", "2-1-2")
    result = cohort(networks, TRAINING, looks_ahead=looks_ahead)
    for rung in result.rungs():
        if rung.step == 1:
            result.retire({H("2-1-2")})
    # stem, 1.1, 1.2 of 2-1-2, 2.1 and 2.2 of 1-2-1, 3.1 of 1-1-1 and of 1-2-1; looking ahead also
    # one of the two units of 2.1 of 2-1-2; never 3.1 and 3.2 of 2-1-2
    assert result.blocks_trained == num_blocks
    assert result.trie.blocks_trained == 10


def test_a_sequential_search_that_prunes_counts_what_it_trained():
    sections = {"space": SPACE, "references": [], "training": SEQUENTIAL}
    budget = {"n_trials": 12, "cohort_size": 12, "baseline": False}
    search = searched("halving", budget=budget, pruning={"reduction_factor": 3.0}, **sections)
    reached = {
        t.user_attrs["hierarchy"]: max(t.intermediate_values)
        for t in search.study.get_trials(deepcopy=False)
    }
    assert min(reached.values()) < 3
    paths = {
        name: [(s, i) for s, k in enumerate(H(name).blocks, 1) for i in range(k)]
        for name in reached
    }
    distinct = {
        tuple(path[: i + 1])
        for name, path in paths.items()
        for i in range(len(path))
        if path[i][0] <= reached[name]
    }
    assert search.ledger.record().blocks_trained == 1 + len(distinct)


# ------------------------------------------------------------------ in a search


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    """A beam of each width, and the exhaustive study that it is measured on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("beam"))
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sections = {"space": SPACE, "training": SEQUENTIAL, "references": [H("3-2-2")]}
        none = {"kind": "none"}
        budget = {"n_trials": 12, "cohort_size": 12, "baseline": False}
        whole = searched("whole", budget=budget, pruning=none, **sections)
        beams = {w: searched(f"b{w}", budget=BEAM | {"beam_width": w}, **sections) for w in (1, 3)}
        return whole, beams, record_landscape([recorded(whole)])


@pytest.mark.long
@pytest.mark.parametrize("width", [1, 3])
def test_a_beam_and_its_replay_on_the_exhaustive_study_are_alike(studies, width):
    whole, beams, landscape = studies
    oracle = Oracle(landscape)
    replay, marks = course(oracle, Policy("beam", 12, 12, NONE, width))

    def read(trials):
        return [
            (t.state, t.value, t.params, t.intermediate_values, t.user_attrs["hierarchy"])
            for t in trials
        ]

    study = beams[width].study
    assert read(replay.trials) == read(study.trials)
    assert marks[-1].blocks == StudyRecord.read(study).blocks_trained
    states = [t.state for t in study.trials]
    assert TrialState.PRUNED in states
    assert states[0] == TrialState.COMPLETE  # the reference
    assert StudyRecord.read(study).blocks_trained < whole.ledger.record().blocks_trained


def test_what_a_beam_completes_is_what_the_exhaustive_study_has(studies):
    whole, beams, _ = studies
    values = {t.user_attrs["hierarchy"]: t.value for t in whole.study.trials}
    for beam in beams.values():
        complete = [t for t in beam.study.trials if t.state == TrialState.COMPLETE]
        assert complete
        assert all(t.value == values[t.user_attrs["hierarchy"]] for t in complete)
    fewer, more = (
        {t.user_attrs["hierarchy"] for t in beams[w].study.trials if t.state.name == "COMPLETE"}
        for w in (1, 3)
    )
    assert fewer < more


@pytest.mark.long
def test_a_beam_that_died_goes_on_as_if_it_had_not(monkeypatch):
    sections = {"space": SPACE, "training": SEQUENTIAL, "references": [], "budget": BEAM}
    whole = searched("whole", **sections)
    monkeypatch.setattr("dsaccel.training.checkpoint.INTERVAL_S", 0.0)
    died = searching("died", **sections)
    die_after(died, 2, monkeypatch)
    again = searched("died", **sections)
    kept = [row for row in rows(again) if row[0] != "FAIL"]
    assert sorted(map(str, kept)) == sorted(map(str, rows(whole)))
    assert again.ledger.record().blocks_trained == whole.ledger.record().blocks_trained


def test_a_beam_is_recorded_without_pruning_and_continued_from_its_study_file():
    sections = {"space": SPACE, "training": SEQUENTIAL, "references": []}
    search = searching("kept", budget=BEAM, **sections)
    resolved = NONE.model_copy(update={"by": "head"})
    assert search.config.pruning == resolved
    again = searching("kept", budget=BEAM | {"strategy": None, "cohort_size": None}, **sections)
    assert again.config.budget.strategy == "beam"
    assert again.config.pruning == resolved


def searching_also(**choices):
    settings = {name: {"choices": values} for name, values in choices.items()}
    return {"space": SPACE | {"settings": settings}}


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"training": {"schedule": "simultaneous"}}, "must be sequential, but got simultaneous"),
        ({"network": {"granularity": "stage"}}, "must be conv or block, but got stage"),
        ({"network": {"granularity": ["conv", "stage", "conv"]}}, r"must be conv or block, but"),
        ({"network": {"first_loss": 2}}, "first_loss must be 1, but got 2"),
        (searching_also(granularity=["conv", "stage"]), "or block, but got conv, stage"),
        (searching_also(granularity_per_stage=["stage", "block"]), "but got block, conv, stage"),
        (searching_also(first_loss=[1, 2]), "first_loss must be 1, but got a searched one"),
        ({"pruning": {"kind": "halving"}}, "pruning.kind must be none, but got halving"),
        ({"budget": BEAM | {"n_trials": 11}}, "strategy beam trains all 12 hierarchies"),
        ({"budget": BEAM | {"cohort_size": 6}}, "cohort_size must be n_trials = 12, but got 6"),
    ],
)
def test_what_a_beam_cannot_do_is_refused_before_anything_is_written(tmp_path, sections, message):
    sections = {"space": SPACE, "training": SEQUENTIAL, "references": [], "budget": BEAM} | sections
    with pytest.raises(ConfigError, match=message):
        searching("bad", **sections)
    assert list(tmp_path.iterdir()) == []


def test_a_beam_is_replayed_once_a_training_seed_and_only_where_stages_end():
    landscape = synthetic(seeds=(1, 2))
    with pytest.raises(ConfigError, match="study with the sequential schedule, but it is simul"):
        Replay(Oracle(landscape), Policy("beam", 27, 27, NONE, 1), 1)
    asked = policies(landscape, "beam,random", "3,9", 9, {"kind": "none"}, "1,4")
    assert [(p.strategy, p.cohort_size, p.n_trials, p.beam_width) for p in asked] == [
        ("beam", 27, 27, 1),
        ("beam", 27, 27, 4),
        ("random", 3, 9, None),
        ("random", 9, 9, None),
    ]
    outcome = replay_policy(Oracle(landscape), Policy("exhaustive", 27, 27, NONE), 100)
    assert outcome.num_seeds == len(outcome.marks) == 2
    with pytest.raises(ConfigError, match=r"beam_width must be whole numbers .* but got 'x'"):
        policies(landscape, "beam", "1", 9, {}, "x")
