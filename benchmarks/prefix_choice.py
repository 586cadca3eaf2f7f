"""Does it pay to choose, among a cohort's suggestions, those that share their prefixes?

A strategy is asked for `pool` times as many hierarchies as the cohort holds. The cohort is its
first suggestion and then, one by one, whichever adds the fewest blocks to the trie. Replayed on a
landscape: regret when so many blocks are trained; `pool` 1 is the search as it is.

    python benchmarks/prefix_choice.py LANDSCAPE [--strategies tpe random] [--cohort-sizes 4 8]
        [--pools 1 2 4] [--seeds 60] [--n-trials 40]
"""

import argparse
import itertools
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from dsaccel.config import PruningConfig
from dsaccel.hierarchy import Hierarchy
from dsaccel.landscape import read_landscape
from dsaccel.plan import Plan
from dsaccel.proposals import next_cohort, propose
from dsaccel.replay import Estimate, Mark, Oracle, Policy, Replay, bootstrap
from dsaccel.trie import Trie

SHARES = (0.25, 0.5, 0.75, 1.0)
"""Of the blocks of the whole space in one trie: where the regrets are compared."""


class SharingReplay(Replay):
    """A search that takes the cheapest of its suggestions."""

    def __init__(self, oracle: Oracle, policy: Policy, seed: int, pool: int) -> None:
        super().__init__(oracle, policy, seed)
        self.pool = pool

    def marks(self) -> Iterator[Mark]:
        space, policy = self.oracle.space, self.policy
        ask = partial(next_cohort, space, n_trials=policy.n_trials, seed=self.seed)
        while cohort := ask(self.trials, cohort_size=policy.cohort_size, strategy=policy.strategy):
            if self.pool > 1 and self.trials:
                num = self.pool * len(cohort)
                suggested = propose(
                    space, self.trials, num, seed=self.seed, strategy=policy.strategy
                )
                cohort = cheapest(suggested, len(cohort), self.oracle)
            self._train(cohort)
            yield Mark(self._blocks, self._regret, self._num_trained)


def cheapest(suggested: list[Hierarchy], num: int, oracle: Oracle) -> list[Hierarchy]:
    """The first suggestion, then whichever adds the fewest blocks; of equals the earlier one."""
    chosen = suggested[:1]
    rest = suggested[1:]
    while rest and len(chosen) < num:
        plans: dict[str, Plan] = {str(h): oracle.plan(h) for h in chosen}
        costs = [Trie({**plans, "new": oracle.plan(h)}).blocks_trained for h in rest]
        chosen.append(rest.pop(costs.index(min(costs))))
    return chosen


def regrets(
    seed: int, *, path: Path, strategy: str, cohort_size: int, n_trials: int, pool: int
) -> list[float]:
    """Of one search, when each share of the space's blocks is trained; its last one if it ended."""
    oracle = _oracle(path)
    policy = Policy(strategy, cohort_size, n_trials, PruningConfig(kind="none"))
    course = list(SharingReplay(oracle, policy, seed, pool).marks())
    return [
        next(
            (mark.regret for mark in reversed(course) if mark.blocks <= share * oracle.num_blocks),
            course[0].regret,
        )
        for share in SHARES
    ]


_oracles: dict[Path, Oracle] = {}


def _oracle(path: Path) -> Oracle:
    """Of this process, made once."""
    if path not in _oracles:
        _oracles[path] = Oracle(read_landscape(path))
    return _oracles[path]


def _text(estimate: Estimate) -> str:
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
    print(f"| strategy | cohort | pool | {heads} |")
    print("|---|---|---" + "|---" * len(SHARES) + "|")
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
            cells = " | ".join(_text(bootstrap(column)) for column in found)
            print(f"| {strategy} | {size} | {pool} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
