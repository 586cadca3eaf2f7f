"""Ask Optuna's samplers. What cannot be trained never reaches the stored study.

They know neither hard constraints nor "not twice". So they are asked in a study in memory, rebuilt
from the stored trials: infeasible and repeated suggestions are told there, where the sampler learns
from them, and are forgotten with it.
"""

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

import optuna
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from dsaccel.search.strategies import Told
from dsaccel.seeds import derive
from dsaccel.space.space import SearchSpace
from dsaccel.spec.costs import Cost
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.study.trial_record import TrialRecord

NUM_STARTUP = 10
"""Distinct trained hierarchies below which proposals are uniform; a generation of `nsga2`."""
MAX_REJECTIONS = 50
"""After this many rejected suggestions in a row one hierarchy is drawn uniformly."""
MAX_DRAWS = 10_000
"""Hierarchies drawn to find one that is new and feasible, where they are not listed."""
MAX_FITTED = 100
"""Trials that a Gaussian process is fitted to."""
REJECTIONS_PER_TRIAL = 2
"""Points drawn for each trained hierarchy to stand for the rejected suggestions before it."""


def suggest(told: Told, make: Callable[[int], BaseSampler]) -> Iterator[Hierarchy | None]:
    """A sampler's suggestions that are feasible and new; None where it has none.

    Args:
        told: what is known.
        make: makes the sampler from a seed.
    """
    # numpy takes seeds of 32 bits
    sampler = make(derive(told.seed, "ask", len(told.values)) % 2**32)
    if isinstance(sampler, GPSampler | NSGAIISampler):
        is_gp = isinstance(sampler, GPSampler)
        finished = _telling(told.finished) if is_gp else told.finished
        study = _replay(told.space, finished, sampler, told.costs)
        return _nearest_suggestions(study, told)
    study = _rebuild(told.space, told.finished, sampler, derive(told.seed, "rejected"))
    return _suggestions(study, told)


def _suggestions(study: optuna.Study, told: Told) -> Iterator[Hierarchy | None]:
    """The sampler's unseen feasible suggestions; None after too many others in a row.

    What is yielded stays RUNNING in the study.
    """
    distributions = told.space.distributions()
    while True:
        for _ in range(MAX_REJECTIONS):
            trial = study.ask(distributions)
            hierarchy = told.space.suggested(trial.params)
            if told.is_new(hierarchy):
                yield hierarchy
                break
            value = told.values.get(told.space.identity(hierarchy))
            study.tell(trial, value, TrialState.PRUNED if value is None else TrialState.COMPLETE)
        else:
            yield None


def _nearest_suggestions(study: optuna.Study, told: Told) -> Iterator[Hierarchy | None]:
    """The unseen feasible hierarchies nearest to the sampler's suggestions.

    A Gaussian process reads neither PRUNED nor repeated trials: it would suggest the same optimum
    of its acquisition function again and again, at a fit each.
    """
    space = told.space
    distributions = space.distributions()
    while True:
        trial = study.ask(distributions)
        hierarchy = _nearest(told, space.suggested(trial.params))
        study.tell(trial, state=TrialState.FAIL)
        if hierarchy is not None:
            running = create_trial(
                state=TrialState.RUNNING,
                params=space.to_params(hierarchy),
                distributions=distributions,
            )
            running.datetime_start = datetime.now()
            study.add_trial(running)
        yield hierarchy


def _rebuild(
    space: SearchSpace, finished: Sequence[FrozenTrial], sampler: BaseSampler, seed: int
) -> optuna.Study:
    """A study in memory of the finished trials, and of what was rejected before each of them.

    Rejected suggestions are not stored. Without them TPE forgets at each cohort where the space
    ends, and, as its better group is a tenth of what it sees, follows very few trials. Uniform
    infeasible points in their place found the optimum more often (benchmarks/proposals.py).
    """
    study = study_in_memory(direction="maximize", sampler=sampler)
    distributions = space.distributions()
    rng = random.Random(seed)
    for trial in finished:
        for point in [uniform(space, rng) for _ in range(REJECTIONS_PER_TRIAL)]:
            if space.violation(point) is not None:
                study.add_trial(
                    create_trial(
                        state=TrialState.PRUNED,
                        params=space.to_params(point),
                        distributions=distributions,
                    )
                )
        study.add_trial(
            create_trial(
                state=trial.state,
                value=trial.value,
                params=space.to_params(space.from_params(trial.params)),
                distributions=distributions,
                intermediate_values=trial.intermediate_values,
            )
        )
    return study


def _replay(
    space: SearchSpace,
    finished: Sequence[FrozenTrial],
    sampler: BaseSampler,
    costs: Sequence[Cost] = (),
) -> optuna.Study:
    """A study in memory for samplers that read COMPLETE trials only.

    A pruned trial is told with the last accuracy that was read of it. NSGA-II counts only trials
    that it has noted a generation on, so there each is asked for again: generations are by order.
    Each cost is an objective more; the stored study has one, or nothing could be pruned.
    """
    directions = ["maximize", *["minimize" for _ in costs]]
    study = study_in_memory(directions=directions, sampler=sampler)
    distributions = space.distributions()
    for trial in finished:
        known = [_value(trial), *(TrialRecord(trial).figure(cost.attribute) for cost in costs)]
        values = [float(v) for v in known if v is not None]
        if len(values) < len(known):
            continue
        params = space.to_params(space.from_params(trial.params))
        if isinstance(sampler, NSGAIISampler):
            study.enqueue_trial(params)
            asked = study.ask(distributions)
            sampler.get_trial_generation(study, study.get_trials(deepcopy=False)[asked.number])
            study.tell(asked, values)
        else:
            study.add_trial(create_trial(values=values, params=params, distributions=distributions))
    return study


def _value(trial: FrozenTrial) -> float | None:
    """A trial's accuracy; of a pruned one the last that was read."""
    if trial.state == TrialState.COMPLETE:
        return trial.value
    read = trial.intermediate_values
    return read.get(max(read, default=0))


def _telling(finished: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """At most `MAX_FITTED` trials in their order: the best, and as many of the last of the others.
    The time of a fit grows with their cube.
    """
    if len(finished) <= MAX_FITTED:
        return list(finished)
    values = {i: value for i, t in enumerate(finished) if (value := _value(t)) is not None}
    best = sorted(values, key=lambda i: -values[i])[: MAX_FITTED // 2]
    others = sorted(values.keys() - set(best))
    return [finished[i] for i in sorted((*best, *others[-(MAX_FITTED - len(best)) :]))]


def study_in_memory(**options: Any) -> optuna.Study:
    """A new study of Optuna's, which it does not announce; its verbosity is the user's afterwards.

    Args:
        options: of `optuna.create_study`.
    """
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(max(verbosity, optuna.logging.WARNING))
    try:
        return optuna.create_study(**options)
    finally:
        optuna.logging.set_verbosity(verbosity)


def _nearest(told: Told, hierarchy: Hierarchy) -> Hierarchy | None:
    """The unseen feasible hierarchy fewest blocks away, the first of equals; None: none was met.

    Settings are kept as they are.
    """
    nearest = itertools.islice(told.space.counts.nearest(hierarchy.blocks), MAX_DRAWS)
    points = (hierarchy.with_blocks(counts) for counts in nearest)
    return next(filter(told.is_new, points), None)


def uniform(space: SearchSpace, rng: random.Random) -> Hierarchy:
    """A uniform hierarchy within the bounds of the stages, feasible or not."""
    counts = tuple(rng.randint(low, high) for low, high in space.config.num_blocks)
    return Hierarchy(counts).with_settings(space.dimensions.draw(rng))
