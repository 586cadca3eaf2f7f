"""Propose the hierarchies of a cohort: feasible ones, each network once in a study.

References come first. A strategy that learns is asked for suggestions (see `suggestions`); what is
left of a small space is taken whole. Equal trials and seed: equal proposals.
"""

import itertools
import random
from collections.abc import Collection, Hashable, Iterator, Sequence

from optuna.trial import FrozenTrial, TrialState

from dsaccel.errors import ConfigError
from dsaccel.parts import load_part
from dsaccel.search.strategies import Strategy, Told
from dsaccel.search.suggestions import MAX_DRAWS, NUM_STARTUP
from dsaccel.seeds import derive
from dsaccel.space.space import SearchSpace
from dsaccel.spec.costs import Cost
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.study.trial_record import finished_in_order

POOL = 2
"""Suggestions asked for each place in a cohort; those that share most are taken. On the shipped
landscape and on a toy that lowers the regret at equal blocks and costs little at equal trials; 3
costs more there (benchmarks/prefix_choice.py, studies/LOG.md)."""


def next_cohort(
    space: SearchSpace,
    trials: Sequence[FrozenTrial],
    *,
    cohort_size: int,
    n_trials: int,
    seed: int,
    strategy: Strategy | str = "tpe",
    costs: Sequence[Cost] = (),
    wanted: Sequence[Hierarchy] = (),
) -> list[Hierarchy]:
    """The hierarchies to train next: references that are due, what a user wants, then proposals.

    Args:
        space: what is feasible, and the references.
        trials: the stored ones.
        cohort_size: hierarchies trained together.
        n_trials: distinct networks to train in all; harvested ones do not count.
        seed: the study's.
        strategy: who proposes; or the name of a strategy without options.
        costs: as in `propose`.
        wanted: hierarchies that are trained whatever `n_trials` is.
    """
    asked = (t.trial for t in finished_in_order(trials) if not t.is_harvested)
    trained = {space.identity(space.from_params(trial.params)) for trial in asked}
    room = min(cohort_size, n_trials - len(trained))
    due = [h for h in space.distinct(space.references) if space.identity(h) not in trained]
    cohort = due[: max(room, 0)]
    new = [h for h in wanted if space.identity(h) not in map(space.identity, cohort)]
    cohort += new[: cohort_size - len(cohort)]
    if len(cohort) < room:
        num = room - len(cohort)
        # who proposes everything, or nothing yet knowingly, or is slow, is not asked for more
        strategy = _strategy(strategy)
        is_asked_once = strategy.takes_all or strategy.one_by_one or not trained or num == 1
        asked = num if is_asked_once else POOL * num
        how = {"seed": seed, "exclude": cohort, "strategy": strategy, "costs": costs}
        cohort += _sharing(propose(space, trials, asked, **how), num, cohort)
    return cohort


def _sharing(pooled: list[Hierarchy], num: int, cohort: Sequence[Hierarchy]) -> list[Hierarchy]:
    """The first suggestion, then whichever adds the fewest blocks; of equals the earlier one."""
    if len(pooled) <= num:
        return pooled
    taken, rest = pooled[:1], pooled[1:]
    while len(taken) < num:
        costs = [h.num_blocks - max(shared_blocks(h, t) for t in (*cohort, *taken)) for h in rest]
        taken.append(rest.pop(costs.index(min(costs))))
    return taken


def shared_blocks(a: Hierarchy, b: Hierarchy) -> int:
    """Blocks that two hierarchies share from the bottom up; none if their settings differ."""
    if a.settings != b.settings:
        return 0
    shared = 0
    for blocks_a, blocks_b in zip(a.blocks, b.blocks, strict=True):
        shared += min(blocks_a, blocks_b)
        if blocks_a != blocks_b:
            break
    return shared


def propose(
    space: SearchSpace,
    trials: Sequence[FrozenTrial],
    num: int,
    *,
    seed: int,
    exclude: Collection[Hierarchy] = (),
    strategy: Strategy | str = "tpe",
    costs: Sequence[Cost] = (),
) -> list[Hierarchy]:
    """Propose up to `num` distinct feasible hierarchies whose network no finished trial has.

    When no more than `num` are left these are returned, in lexicographic order; possibly none. Of
    the stored trials, those that were trained to their end or pruned are read. Hierarchies to
    `exclude` are not proposed either. Costs are what the strategy weighs against accuracy.

    Raises:
        ConfigError: if the strategy is unknown, or takes all of a space too large to list.
    """
    strategy = _strategy(strategy)
    finished = [record.trial for record in finished_in_order(trials)]
    values = _values(space, finished)
    taken = set(values) | {space.identity(h) for h in exclude}
    unseen = _unseen(space, taken)
    if unseen is not None and (len(unseen) <= num or strategy.takes_all):
        return unseen[:num]
    if strategy.takes_all:
        raise ConfigError(
            f"strategy {type(strategy).__name__.lower()} needs a space that can be listed, but "
            "this one has a setting without steps or too many hierarchies; narrow it or choose "
            "another strategy"
        )
    told = Told(space, finished, values, taken, seed, costs)
    cohort: list[Hierarchy] = []
    for hierarchy in itertools.islice(_suggested(told, strategy), num):
        cohort.append(hierarchy)
        taken.add(space.identity(hierarchy))
    return cohort


def _suggested(told: Told, strategy: Strategy) -> Iterator[Hierarchy]:
    """What a strategy suggests, or what is drawn in its place, while there is something new."""
    rng = random.Random(derive(told.seed, "draw", len(told.values)))
    suggestions: Iterator[Hierarchy | None] = itertools.repeat(None)
    if not strategy.learns or len(told.values) >= NUM_STARTUP:
        suggestions = strategy.suggestions(told)
    while (hierarchy := next(suggestions) or _draw(told, rng)) is not None:
        yield hierarchy


def _strategy(strategy: Strategy | str) -> Strategy:
    return load_part("strategy", strategy) if isinstance(strategy, str) else strategy


def _values(space: SearchSpace, finished: Sequence[FrozenTrial]) -> dict[Hashable, float | None]:
    """The value of each trained network; None where all its trials were pruned."""
    values: dict[Hashable, float | None] = {}
    for trial in finished:
        complete = trial.state == TrialState.COMPLETE
        network = space.identity(space.from_params(trial.params))
        values[network] = trial.value if complete else values.get(network)
    return values


def _unseen(space: SearchSpace, taken: Collection[Hashable]) -> list[Hierarchy] | None:
    feasible = space.feasible()
    return None if feasible is None else [h for h in feasible if space.identity(h) not in taken]


def _draw(told: Told, rng: random.Random) -> Hierarchy | None:
    """A uniform unseen feasible hierarchy; None: there is none, or none was met."""
    unseen = _unseen(told.space, told.taken)
    if unseen is not None:
        return rng.choice(unseen) if unseen else None
    points = (told.space.draw(rng) for _ in range(MAX_DRAWS))
    return next(filter(told.is_new, points), None)
