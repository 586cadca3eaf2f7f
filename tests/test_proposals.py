import itertools
import logging
import statistics

import optuna
import pytest
import torch
from optuna.trial import TrialState, create_trial

from dsaccel.config.section import Searched
from dsaccel.config.space import SettingsConfig, SpaceConfig
from dsaccel.config.study import NetworkConfig
from dsaccel.errors import ConfigError
from dsaccel.families import build_plan
from dsaccel.search import proposals, suggestions
from dsaccel.search.proposals import next_cohort, propose, shared_blocks
from dsaccel.search.strategies import Told
from dsaccel.search.strategies.gp import Gp
from dsaccel.search.strategies.tpe import Tpe
from dsaccel.search.suggestions import MAX_FITTED, _telling
from dsaccel.space.bounds import Measures
from dsaccel.space.space import SearchSpace
from dsaccel.spec.costs import COSTS
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.trie import Trie


def make_space(bounds=((1, 4),) * 4, **settings):
    config = SpaceConfig(family="resnet18", num_blocks=bounds, **settings)
    return SearchSpace(config, lambda _: Measures(1, 1, 1.0), [Hierarchy((2,) * len(bounds))])


def make_trial(space, hierarchy, number, state=TrialState.COMPLETE):
    trial = create_trial(
        params=space.to_params(hierarchy),
        distributions=space.distributions(),
        state=state,
        value=-sum(abs(n - 3) for n in hierarchy.blocks) if state == TrialState.COMPLETE else None,
        intermediate_values={1: 0.1} if state == TrialState.PRUNED else {},
    )
    trial.number = number
    return trial


def search(space, num, cohort_size, trials=(), pruned=False, **options):
    """Add up to `num` evaluated hierarchies to `trials`, cohort by cohort."""
    trials = list(trials)
    while len(trials) < num:
        cohort = propose(space, trials, min(cohort_size, num - len(trials)), seed=1, **options)
        if not cohort:
            break
        for hierarchy in cohort:
            number = len(trials)
            state = TrialState.PRUNED if pruned and number % 3 else TrialState.COMPLETE
            trials.append(make_trial(space, hierarchy, number, state))
    return trials


def hierarchies(space, trials):
    return [space.from_params(trial.params) for trial in trials]


@pytest.mark.parametrize("pruned", [False, True])
@pytest.mark.parametrize("strategy", ["tpe", "nsga2", "random", "exhaustive"])
def test_a_search_to_exhaustion_meets_each_feasible_hierarchy_once(strategy, pruned):
    space = make_space(((1, 3),) * 3)
    met = hierarchies(space, search(space, 99, 4, strategy=strategy, pruned=pruned))
    assert sorted(met) == space.feasible()
    assert len(met) == 14


def test_an_exhausted_space_proposes_nothing():
    space = make_space()
    trials = [make_trial(space, h, n) for n, h in enumerate(space.feasible() or [])]
    assert propose(space, trials, 3, seed=1) == []


def test_all_that_is_left_is_taken_in_order_without_a_sampler(monkeypatch):
    monkeypatch.setattr(Tpe, "sampler", None)
    space = make_space()
    feasible = space.feasible() or []
    trials = [make_trial(space, h, n) for n, h in enumerate(feasible[20:])]
    assert propose(space, trials, 20, seed=1) == feasible[:20]
    assert propose(space, [], 99, seed=1, exclude=[Hierarchy((1, 1, 1, 1))]) == feasible[1:]


def test_equal_trials_and_seed_give_equal_proposals():
    space = make_space()
    trials = search(space, 12, 6)
    first = propose(space, trials, 4, seed=1)
    assert propose(make_space(), trials, 4, seed=1) == first
    assert propose(space, trials[::-1], 4, seed=1) == first
    assert propose(space, trials, 4, seed=2) != first
    assert len(set(first)) == 4
    assert propose(space, [], 4, seed=1) == propose(make_space(), [], 4, seed=1)


def test_a_resumed_search_goes_on_as_if_never_cut_off():
    space = make_space()
    whole = search(space, 20, 4)
    resumed = search(make_space(), 20, 4, trials=whole[:12])
    assert hierarchies(space, resumed) == hierarchies(space, whole)


def test_what_is_not_finished_does_not_matter():
    space = make_space()
    trials = search(space, 10, 10)
    others = [
        make_trial(space, Hierarchy((1, 1, 3, 3)), 15 + n, state)
        for n, state in enumerate([TrialState.FAIL, TrialState.RUNNING, TrialState.WAITING])
    ]
    assert propose(space, trials + others, 3, seed=1) == propose(space, trials, 3, seed=1)


@pytest.mark.parametrize("num_trained", [0, 15])
def test_what_is_excluded_is_not_proposed(num_trained):
    space = make_space()
    trials = search(space, num_trained, 15)
    met = set(hierarchies(space, trials))
    left = [h for h in space.feasible() or [] if h not in met]
    for hierarchy in propose(space, trials, 4, seed=1, exclude=left[::2]):
        assert hierarchy in left[1::2]


def test_the_sampler_learns_from_values():
    space = make_space()
    trials = search(space, 15, 15)
    cohort = propose(space, trials, 4, seed=1)
    for trial in trials:
        trial.value = -(trial.value or 0)
    assert propose(space, trials, 4, seed=1) != cohort


def test_proposals_are_better_than_chance():
    space = make_space(((1, 6),) * 4)
    feasible = space.feasible() or []
    trials = [make_trial(space, h, n) for n, h in enumerate(feasible[::12])]
    cohort = propose(space, trials, 8, seed=1)

    def mean_distance(hierarchies):
        return sum(abs(n - 3) for h in hierarchies for n in h.blocks) / len(hierarchies)

    assert mean_distance(cohort) < 0.8 * mean_distance(feasible)


def test_a_sampler_that_only_repeats_itself_falls_back_to_unseen_ones(monkeypatch):
    class Stuck(optuna.samplers.RandomSampler):
        num_asked = 0

        def sample_independent(self, study, trial, param_name, param_distribution):
            Stuck.num_asked += 1
            return 1

    monkeypatch.setattr(Tpe, "sampler", lambda self, seed: Stuck(seed=seed))
    space = make_space()
    trials = [make_trial(space, h, n) for n, h in enumerate((space.feasible() or [])[:10])]
    cohort = propose(space, trials, 3, seed=1)
    assert len(set(cohort)) == 3
    assert not set(cohort) & set(hierarchies(space, trials))
    assert all(space.violation(h) is None for h in cohort)
    assert Stuck.num_asked == 4 * 3 * suggestions.MAX_REJECTIONS


def test_a_space_too_large_to_list_is_searched_all_the_same():
    space = make_space(((1, 20),) * 6)
    assert space.size is None
    met = hierarchies(space, search(space, 12, 10))
    assert len(set(met)) == 12
    assert all(space.violation(h) is None for h in met)


@pytest.mark.parametrize("strategy", ["tpe", "gp", "nsga2", "random"])
def test_the_few_feasible_ones_of_a_large_box_are_all_proposed(strategy):
    space = make_space(((1, 12),) * 5, max_total_blocks=8)
    met = hierarchies(space, search(space, 99, 5, strategy=strategy))
    assert sorted(met) == space.feasible()
    assert len(met) == 20


@pytest.mark.long
@pytest.mark.parametrize("strategy", ["tpe", "gp", "nsga2", "random"])
def test_a_setting_without_steps_beside_few_counts_never_runs_out(strategy):
    settings = SettingsConfig.model_validate({"learning_rate": Searched(low=0.1, high=1.0)})
    config = SpaceConfig(
        family="vgg", num_blocks=((1, 12),) * 5, max_total_blocks=7, settings=settings
    )
    space = SearchSpace(config, lambda _: Measures(1, 1, 1.0))
    assert space.size is None
    met = hierarchies(space, search(space, 20, 5, strategy=strategy))
    assert len(set(met)) == 20
    assert all(space.violation(h) is None for h in met)


def test_draws_end_where_none_is_within_the_measured_bounds(monkeypatch):
    monkeypatch.setattr(proposals, "MAX_DRAWS", 10)
    config = SpaceConfig(
        family="vgg",
        num_blocks=((1, 30),) * 5,
        max_parameters=5,
        settings=SettingsConfig.model_validate({"learning_rate": Searched(low=0.1, high=1.0)}),
    )
    space = SearchSpace(config, lambda h: Measures(h.num_blocks, 1, 1.0))
    assert space.size is None
    assert propose(space, [], 2, seed=1) == []


def test_references_outside_the_space_are_learnt_from_and_not_proposed():
    config = SpaceConfig(family="resnet18", num_blocks=((1, 3),) * 4)
    space = SearchSpace(config, lambda _: Measures(1, 1, 1.0), [Hierarchy((5, 5, 5, 5))])
    trials = [make_trial(space, Hierarchy((5, 5, 5, 5)), 0)]
    trials = search(space, 14, 10, trials=trials)
    assert all(space.violation(h) is None for h in hierarchies(space, trials)[1:])


def test_optuna_is_silent_and_its_verbosity_is_the_user_s():
    messages = []

    class Listener(logging.Handler):
        def emit(self, record):
            messages.append(record)

    handler = Listener()
    space = make_space()
    trials = search(space, 12, 12)
    before = optuna.logging.get_verbosity()
    logging.getLogger("optuna").addHandler(handler)
    optuna.logging.set_verbosity(optuna.logging.INFO)
    try:
        propose(space, trials, 4, seed=1)
        assert messages == []
        assert optuna.logging.get_verbosity() == optuna.logging.INFO
    finally:
        optuna.logging.set_verbosity(before)
        logging.getLogger("optuna").removeHandler(handler)


def test_an_unknown_strategy_is_refused():
    known = "exhaustive, tpe, gp, nsga2, random, beam"
    with pytest.raises(ConfigError, match=f"strategy must be one of {known}, or an import"):
        propose(make_space(), [], 1, seed=1, strategy="grid")


def test_exhaustive_takes_the_space_in_order():
    space = make_space()
    feasible = space.feasible() or []
    assert hierarchies(space, search(space, 10, 4, strategy="exhaustive")) == feasible[:10]
    with pytest.raises(ConfigError, match="exhaustive needs a space that can be listed"):
        propose(make_space(((1, 20),) * 6), [], 1, seed=1, strategy="exhaustive")


@pytest.mark.long
def test_nsga2_inherits_from_the_best_of_the_stored_trials():
    """Its generations are not stored: without them it would propose uniformly."""
    space = make_space(((1, 10),) * 6)
    trials = search(space, 40, 10, strategy="random")
    cohorts = [propose(space, trials, 10, seed=seed, strategy="nsga2") for seed in range(4)]

    def mean_distance(hierarchies):
        return sum(abs(n - 3) for h in hierarchies for n in h.blocks) / len(hierarchies)

    for cohort in cohorts:
        assert len(set(cohort)) == 10
        assert all(space.violation(h) is None for h in cohort)
        assert not set(cohort) & set(hierarchies(space, trials))
    proposed = [hierarchy for cohort in cohorts for hierarchy in cohort]
    assert mean_distance(proposed) < 0.7 * mean_distance(hierarchies(space, trials))


@pytest.mark.parametrize("state", [TrialState.COMPLETE, TrialState.PRUNED])
def test_gp_goes_uphill_from_complete_and_pruned_trials(state):
    space = make_space(((1, 6),) * 3)
    trials = search(space, 12, 12, strategy="random")
    for trial in trials[3:]:
        trial.state = state
        trial.intermediate_values = {1: -9.0, 2: trial.value or 0.0}
    threads = torch.get_num_threads()
    (best,) = propose(space, trials, 1, seed=1, strategy="gp")
    assert torch.get_num_threads() == threads
    assert best == Hierarchy((3, 3, 3))
    # what is taken is answered with a neighbour, and what runs is not proposed again
    one, other = propose(space, trials, 2, seed=1, strategy="gp", exclude=[best])
    assert sum(abs(n - 3) for n in one.blocks) <= 2
    assert one != other


def test_gp_knows_what_of_a_cohort_is_running_already():
    space = make_space(((1, 6),) * 3)
    trials = search(space, 12, 12, strategy="random")
    study = suggestions._replay(space, trials, Gp().sampler(1))
    told = Told(space, [], {}, {Hierarchy((3, 3, 3))}, seed=1)
    first = next(suggestions._nearest_suggestions(study, told))
    asked, running = study.get_trials(deepcopy=False)[12:]
    assert (asked.state, running.state) == (TrialState.FAIL, TrialState.RUNNING)
    assert first is not None
    assert running.params == space.to_params(first)


def test_strategies_that_read_complete_trials_only_are_as_reproducible():
    space = make_space(((1, 6),) * 3)
    trials = search(space, 12, 12, strategy="random")
    for strategy in ("gp", "nsga2"):
        first = propose(space, trials, 2, seed=1, strategy=strategy)
        assert propose(space, trials[::-1], 2, seed=1, strategy=strategy) == first


@pytest.mark.parametrize("bounds", [((1, 4),) * 4, ((1, 20),) * 6])
def test_the_nearest_unseen_feasible_hierarchy_is_found_from_anywhere(bounds):
    space = make_space(bounds)
    num = len(bounds)

    def nearest(*blocks, taken=()):
        told = Told(space, [], {}, {*map(Hierarchy, taken)}, seed=1)
        found = suggestions._nearest(told, Hierarchy(blocks))
        return found and found.blocks

    twos = (2,) * num
    assert nearest(*twos) == twos
    assert nearest(*twos, taken=[twos]) == (1, *twos[1:])
    # outside the bounds, as a reference may be
    assert nearest(*(99,) * num) == (bounds[0][1],) * num
    assert nearest(*(3,) * (num // 2), *(2,) * (num // 2))


def test_nsga2_with_a_cost_follows_the_front_and_without_the_accuracy_alone():
    """Accuracy grows with every block, and so does what is paid: all on the diagonal is optimal."""
    space = make_space(((1, 6),) * 4, constraint="none")

    def evaluated(*costs):
        trials = []
        while len(trials) < 120:
            for hierarchy in propose(space, trials, 10, seed=1, strategy="nsga2", costs=costs):
                trial = create_trial(
                    params=space.to_params(hierarchy),
                    distributions=space.distributions(),
                    value=hierarchy.num_blocks,
                    user_attrs={
                        "num_parameters": hierarchy.num_blocks,
                        "flops": 7 - hierarchy.blocks[3],
                    },
                )
                trial.number = len(trials)
                trials.append(trial)
        return [h.num_blocks for h in hierarchies(space, trials[60:])]

    alone, weighed = evaluated(), evaluated(COSTS["parameters"])
    # alone it goes where accuracy is; where small is as good as accurate it stays spread
    assert statistics.mean(alone) > statistics.mean(weighed) + 2
    assert min(weighed) < 10
    # a second cost, which falls with the blocks of the last stage alone, draws it there
    both = evaluated(COSTS["parameters"], COSTS["flops"])
    assert statistics.mean(both) < statistics.mean(alone) - 1


def test_a_gaussian_process_is_fitted_to_the_best_and_the_last_of_many_trials():
    values = [0.9 if number % 10 == 0 else 0.1 for number in range(400)]
    trials = [create_trial(value=value) for value in values]
    for number, trial in enumerate(trials):
        trial.number = number
    kept = [trial.number for trial in _telling(trials)]
    assert len(kept) == MAX_FITTED
    assert kept == sorted(kept)
    # all 40 of the best, 10 of the others that tie behind them, and the last 50 of what is left
    assert {number for number in range(400) if values[number] == 0.9} <= set(kept)
    assert [number for number in kept if number > 344 and values[number] == 0.1] == [
        number for number in range(345, 400) if values[number] == 0.1
    ]
    assert _telling(trials[:50]) == trials[:50]


def test_shared_blocks_are_those_of_the_trie():
    net = NetworkConfig(width=1 / 16)
    plan = {
        h: build_plan("resnet18", h, net, channels=1, side=8, num_classes=2)
        for h in map(Hierarchy, itertools.product((1, 2, 3), repeat=3))
    }
    for a, b in itertools.combinations(plan, 2):
        trie = Trie({a: plan[a], b: plan[b]})
        # the stem is shared always, and is no block that a hierarchy counts
        assert shared_blocks(a, b) == trie.blocks_separate - trie.blocks_trained - 1


def test_a_cohort_takes_the_first_suggestion_and_then_those_that_share_most():
    space = make_space(constraint="none")
    trials = search(space, 20, 4, strategy="tpe")
    asked = propose(space, trials, 3 * 6, seed=1)
    cohort = next_cohort(space, trials, cohort_size=6, n_trials=99, seed=1)
    references = [h for h in space.references if h in cohort]
    assert cohort[len(references)] == asked[0]
    assert set(cohort) - set(references) <= set(asked)

    def num_blocks(hierarchies):
        met = set()
        for h in hierarchies:
            for stage, num in enumerate(h.blocks):
                met |= {(*h.blocks[:stage], n) for n in range(1, num + 1)}
        return len(met)

    in_order = [*references, *[h for h in asked if h not in references]]
    assert num_blocks(cohort) < num_blocks(in_order[: len(cohort)])


def test_the_last_hierarchies_of_a_space_are_all_proposed():
    space = make_space(((1, 3),) * 3)
    trials = []
    while cohort := next_cohort(space, trials, cohort_size=4, n_trials=99, seed=1):
        trials += [make_trial(space, h, len(trials) + i) for i, h in enumerate(cohort)]
    assert sorted(hierarchies(space, trials)) == space.feasible()
