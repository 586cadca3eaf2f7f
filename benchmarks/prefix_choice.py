"""Does it pay to choose, among a cohort's suggestions, those that share their prefixes?

A strategy is asked for `pool` times as many hierarchies as the cohort holds (`proposals.POOL`). The
cohort is its first suggestion and then, one by one, whichever adds the fewest blocks. Replayed on a
landscape: regret when so many blocks are trained, and at the end of the search.

    python benchmarks/prefix_choice.py LANDSCAPE [--strategies tpe random] [--cohort-sizes 4 8]
        [--pools 1 2 4] [--seeds 60] [--n-trials 40]
"""

import argparse
import itertools
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from dsaccel.analysis.landscape_files import read_landscape
from dsaccel.analysis.replay import Oracle, Policy, Replay
from dsaccel.config.study import PruningConfig
from dsaccel.search import proposals
from dsaccel.statistics import Interval, interval

SHARES = (0.25, 0.5, 0.75, 1.0)
"""Of the blocks of the whole space in one trie: where the regrets are compared."""


def regrets(
    seed: int, *, path: Path, strategy: str, cohort_size: int, n_trials: int, pool: int
) -> list[float]:
    """Of one search, when each share of the space's blocks is trained, and at its end."""
    oracle = _oracle(path)
    policy = Policy(strategy, cohort_size, n_trials, PruningConfig(kind="none"))
    proposals.POOL = pool
    course = list(Replay(oracle, policy, seed).marks())
    return [
        next(
            (mark.regret for mark in reversed(course) if mark.blocks <= share * oracle.num_blocks),
            course[0].regret,
        )
        for share in SHARES
    ] + [course[-1].regret]


_oracles: dict[Path, Oracle] = {}


def _oracle(path: Path) -> Oracle:
    """Of this process, made once."""
    if path not in _oracles:
        _oracles[path] = Oracle(read_landscape(path))
    return _oracles[path]


def _text(estimate: Interval) -> str:
    return f"{100 * estimate.mean:.2f} [{100 * estimate.low:.2f}, {100 * estimate.high:.2f}]"


def main() -> None:
    """Print a table, a row a strategy, cohort size and pool."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("landscape", type=Path)
    parser.add_argument("--strategies", nargs="+", default=["tpe", "random"])
    parser.add_argument("--cohort-sizes", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--pools", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--seeds", type=int, default=60)
    parser.add_argument("--n-trials", type=int, default=40)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    heads = " | ".join(f"regret at {share:.0%} of the blocks" for share in SHARES)
    print(f"| strategy | cohort | pool | {heads} | at the end |")
    print("|---|---|---" + "|---" * len(SHARES) + "|---|")
    with ProcessPoolExecutor(options.workers) as executor:
        for strategy, size, pool in itertools.product(
            options.strategies, options.cohort_sizes, options.pools
        ):
            run = partial(
                regrets,
                path=options.landscape,
                strategy=strategy,
                cohort_size=size,
                n_trials=options.n_trials,
                pool=pool,
            )
            found = zip(*executor.map(run, range(1, options.seeds + 1)), strict=True)
            cells = " | ".join(_text(interval(column)) for column in found)
            print(f"| {strategy} | {size} | {pool} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
