"""Compare policies: many replayed searches of each, and what they come to with its uncertainty.

On several processes if asked for; that changes no result.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from typing import Any

from dsaccel.analysis.landscape import Landscape
from dsaccel.analysis.replay import Mark, Oracle, Policy, Replay
from dsaccel.config.study import PruningConfig
from dsaccel.config.toml import parse_config
from dsaccel.errors import ConfigError, NoMemoryError
from dsaccel.parts import load_class
from dsaccel.statistics import Interval, interval, wilson


@dataclass(frozen=True)
class Outcome:
    """The results of a policy over the seeds."""

    policy: Policy
    num_seeds: int
    regret: Interval
    found: Interval
    """Share of the seeds that found an optimum."""
    blocks: Interval
    blocks_share: Interval
    """Blocks trained over those of all feasible hierarchies in one trie."""
    random: Interval | None
    """The regret of random search that has trained as many blocks, in cohorts of the same size and
    with the same pruning; None: of random search itself."""
    marks: tuple[tuple[Mark, ...], ...]
    """The course of each seed's search."""


def policies(
    landscape: Landscape,
    strategies: str,
    cohort_sizes: str,
    n_trials: int,
    pruning: Mapping[str, Any],
    beam_widths: str = "4",
) -> list[Policy]:
    """Every strategy with every cohort size, both as lists with commas; `beam`, which takes all
    at once, with every width.

    Args:
        landscape: its study's pruning is the default of what `pruning` leaves open.
        strategies: `tpe,random`.
        cohort_sizes: `1,4,8`.
        n_trials: distinct hierarchies to train.
        pruning: keys of `PruningConfig`; None: not given.
        beam_widths: `1,2,4`.

    Raises:
        ConfigError: what is no number, or no pruning.
    """
    tables = landscape.config.pruning.model_dump(exclude_none=True)
    if pruning.get("kind") not in (None, tables["kind"]):
        # these belong to the kind
        tables = {k: v for k, v in tables.items() if k not in ("percentile", "options")}
    tables |= {key: value for key, value in pruning.items() if value is not None}
    config = parse_config(PruningConfig, tables, "the command line")
    sizes, widths = _numbers("cohort_size", cohort_sizes), _numbers("beam_width", beam_widths)
    whole = len(landscape.networks)
    asked: list[Policy] = []
    for name in (text.strip() for text in strategies.split(",")):
        if "beam_width" in load_class("strategy", name).model_fields:
            none = PruningConfig(kind="none")
            asked += [Policy(name, whole, whole, none, width) for width in widths]
        else:
            asked += [Policy(name, size, n_trials, config) for size in sizes]
    return asked


def _numbers(name: str, text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(
            f"{name} must be whole numbers joined by commas, but got {text!r}"
        ) from None


def replay_policy(
    oracle: Oracle, policy: Policy, num_seeds: int, run_all: Callable[..., Iterator] = map
) -> Outcome:
    """Replay a policy with search seeds 1..num_seeds, by `run_all(replay_seed, seeds)`.

    Means have a t interval over the seeds, the share of seeds Wilson's. A strategy without chance
    is replayed once on each training seed.
    """
    if load_class("strategy", policy.strategy).takes_all:
        num_seeds = min(num_seeds, len(oracle.seeds))
    run = partial(_replay_here, oracle) if run_all is map else _replay_there
    seeds = range(1, num_seeds + 1)
    marks = tuple(run_all(partial(run, policy), seeds))
    ends = [course[-1] for course in marks]
    as_random = None
    if policy.strategy != "random":
        whole = len(oracle.landscape.networks)
        chance = replace(policy, strategy="random", n_trials=whole, beam_width=None)
        if load_class("strategy", policy.strategy).takes_all:
            chance = replace(chance, cohort_size=1)
        courses = run_all(partial(run, chance), seeds)
        pairs = zip(courses, ends, strict=True)
        as_random = interval([_at(course, end.blocks).regret for course, end in pairs], 0)
    blocks = [mark.blocks for mark in ends]
    return Outcome(
        policy,
        num_seeds,
        regret=interval([mark.regret for mark in ends], 0),
        found=wilson(sum(mark.regret <= 0 for mark in ends), num_seeds),
        blocks=interval(blocks, 0),
        blocks_share=interval([num / oracle.num_blocks for num in blocks], 0),
        random=as_random,
        marks=marks,
    )


def replay_policies(
    landscape: Landscape, asked: Sequence[Policy], num_seeds: int, jobs: int = 1
) -> Iterator[Outcome]:
    """The outcome of each policy, one after another, on `jobs` processes.

    Raises:
        ConfigError: a policy or a landscape that cannot be replayed.
        NoMemoryError: a worker was killed.
    """
    oracle = Oracle(landscape)
    for policy in asked:
        Replay(oracle, policy, seed=1)
    if jobs == 1:
        for policy in asked:
            yield replay_policy(oracle, policy, num_seeds)
        return
    # spawn: a fork would copy the locks of whatever threads there are; a copy has nothing cached,
    # which could not be sent
    with ProcessPoolExecutor(
        jobs, mp_context=get_context("spawn"), initializer=_start, initargs=(replace(landscape),)
    ) as pool:
        try:
            for policy in asked:
                yield replay_policy(oracle, policy, num_seeds, pool.map)
        except BrokenProcessPool:
            raise NoMemoryError(
                "the workers of a replay must live to its end, but one was killed, perhaps for "
                f"want of memory; run it again with fewer than {jobs} --jobs"
            ) from None


def mean_course(outcome: Outcome, num_points: int = 60) -> list[tuple[float, Interval]]:
    """Blocks trained, and the mean regret when so many are trained.

    It begins where each seed has finished its first cohort; a search that is over stays where it
    ended.
    """
    first = max(course[0].blocks for course in outcome.marks)
    last = max(course[-1].blocks for course in outcome.marks)
    grid = [first + (last - first) * i / (num_points - 1) for i in range(num_points)]
    points = []
    for blocks in dict.fromkeys(grid):
        regrets = [_at(course, blocks).regret for course in outcome.marks]
        points.append((blocks, interval(regrets, 0)))
    return points


def _at(course: Sequence[Mark], blocks: float) -> Mark:
    """Where a search stood when it had trained so many blocks, or when it first had a network that
    the space allows: before, it has no regret.
    """
    known = [mark for mark in course if not math.isnan(mark.regret)]
    return next((mark for mark in reversed(known) if mark.blocks <= blocks), (known or course)[0])


def _replay_here(oracle: Oracle, policy: Policy, seed: int) -> tuple[Mark, ...]:
    return tuple(Replay(oracle, policy, seed).marks())


_oracle: Oracle | None = None
"""The oracle of a worker process, which is made once."""


def _start(landscape: Landscape) -> None:
    global _oracle
    _oracle = Oracle(landscape)


def _replay_there(policy: Policy, seed: int) -> tuple[Mark, ...]:
    assert _oracle is not None
    return _replay_here(_oracle, policy, seed)
