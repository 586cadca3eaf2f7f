"""The contract of strategies and pruners: pure functions of what was told."""

from optuna.trial import FrozenTrial, create_trial

from dsaccel.config.space import SpaceConfig
from dsaccel.search.proposals import propose
from dsaccel.search.pruners import Pruner
from dsaccel.search.strategies import Strategy
from dsaccel.space.bounds import Measures
from dsaccel.space.space import SearchSpace
from dsaccel.spec.hierarchy import Hierarchy


def check_strategy(strategy: Strategy) -> None:
    """It proposes what may be trained, of a space of which a part is trained already."""
    config = SpaceConfig(family="resnet18", num_blocks=((1, 3),) * 3)
    space = SearchSpace(config, lambda _: Measures(1, 1, 1.0), [])
    feasible = space.feasible() or []
    trials = [_told(space, hierarchy, n) for n, hierarchy in enumerate(feasible[::-1][:11])]
    proposed = propose(space, trials, 2, seed=1, strategy=strategy)
    again = propose(space, trials, 2, seed=1, strategy=strategy)
    assert again == proposed, f"equal trials and seed must give equal proposals: {again}"
    assert len(set(proposed)) == 2, f"proposals must be as many as asked for, not {proposed}"
    known = {space.from_params(trial.params) for trial in trials}
    bad = [h for h in proposed if h in known or space.violation(h) is not None]
    assert not bad, f"proposals must be feasible and new, but got {', '.join(map(str, bad))}"


def _told(space: SearchSpace, hierarchy: Hierarchy, number: int) -> FrozenTrial:
    trial = create_trial(
        params=space.to_params(hierarchy),
        distributions=space.distributions(),
        value=number / 20,
        user_attrs={"hierarchy": str(hierarchy)},
    )
    trial.number = number
    return trial


def check_pruner(pruner: Pruner) -> None:
    """It stops by value alone, whatever the order in which values are given."""
    values = {Hierarchy((n, m)): n / 10 + m / 100 for n in (1, 2, 3) for m in (1, 2, 3)}
    alone = {h: h for h in values}
    stopped = pruner.losers(1, values, alone)
    assert set(stopped) < set(values), "somebody must go on, and only who is given may stop"
    backwards = dict(reversed(values.items()))
    again = pruner.losers(1, backwards, alone)
    assert set(again) == set(stopped), "who stops must not depend on the order of the values"
    assert pruner.losers(1, {}, {}) == [], "of nobody nobody stops"
    best = max(values, key=lambda h: values[h])
    assert best not in stopped, f"the best must go on, but {best} is stopped"
    twins = {h: h.beginning(1) for h in values}
    equal = {h: twins[h].blocks[0] / 10 for h in values}
    apart = {twins[h] for h in pruner.losers(1, equal, twins)}
    going_on = {twins[h] for h in values} - apart
    left = set(values) - set(pruner.losers(1, equal, twins))
    assert {twins[h] for h in left} == going_on, (
        "those who are one network so far (equal prefixes) must go on together or stop together"
    )
