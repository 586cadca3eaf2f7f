"""How soon proposals find the optimum of a toy: 4 stages of 1..6 blocks, never fewer than before.

126 of 1296 hierarchies are feasible. The score falls with the weighted distance from a hidden
feasible target; weights and target are new for each seed. 40 distinct hierarchies are evaluated.

    python benchmarks/proposals.py [--seeds 40] [--cohort-sizes 1 4 8 16]
        [--strategies tpe nsga2 random]

`gp` is slow (some 0.1 s a proposal): add it with few seeds.
"""

import argparse
import functools
import itertools
import random
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

from optuna.trial import create_trial

from dsaccel.config.study import SpaceConfig
from dsaccel.search.proposals import next_cohort
from dsaccel.space.bounds import Measures
from dsaccel.space.space import SearchSpace
from dsaccel.spec.hierarchy import Hierarchy

NUM_EVALUATIONS = 40


class NonDecreasing(SearchSpace):
    """A narrow space (a tenth of the box), as a constraint that dsaccel does not have."""

    def _against_constraint(self, hierarchy: Hierarchy) -> Iterator[str]:
        if list(hierarchy.blocks) != sorted(hierarchy.blocks):
            yield "block counts must not decrease"

    def feasible(self) -> list[Hierarchy]:
        """Those of the box that do not decrease."""
        return [h for h in super().feasible() or [] if self.violation(h) is None]


def main() -> None:
    """Print a table, a row a strategy and cohort size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--cohort-sizes", type=int, nargs="+", default=[1, 4, 8, 16])
    parser.add_argument("--strategies", nargs="+", default=["tpe", "nsga2", "random"])
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    print("| strategy | cohort size | optimum found | mean evaluations to it | regret | time_s |")
    print("|---|---|---|---|---|---|")
    with ProcessPoolExecutor(options.workers) as pool:
        for strategy, cohort_size in itertools.product(options.strategies, options.cohort_sizes):
            start = time.perf_counter()
            run = functools.partial(search, cohort_size=cohort_size, strategy=strategy)
            found, regrets = zip(*pool.map(run, range(options.seeds)), strict=True)
            hits = [evaluations for evaluations in found if evaluations is not None]
            print(
                f"| {strategy} | {cohort_size} | {len(hits)}/{options.seeds} "
                f"| {statistics.mean(hits) if hits else float('nan'):.1f} "
                f"| {statistics.mean(regrets):.3f} | {time.perf_counter() - start:.0f} |",
                flush=True,
            )


def search(seed: int, cohort_size: int, strategy: str = "tpe") -> tuple[int | None, float]:
    """Search one toy: evaluations up to the optimum (None: not met), and the regret at the end."""
    space = toy_space()
    rng = random.Random(seed)
    target = rng.choice(space.feasible() or [])
    weights = [rng.uniform(0.3, 1) for _ in target.blocks]
    total_weight = rng.uniform(0, 0.3)

    def score(hierarchy: Hierarchy) -> float:
        pairs = zip(weights, hierarchy.blocks, target.blocks, strict=True)
        distance = sum(weight * abs(num - best) for weight, num, best in pairs)
        return -distance - total_weight * abs(hierarchy.num_blocks - target.num_blocks)

    seen: list[Hierarchy] = []
    trials = []
    while len(seen) < NUM_EVALUATIONS:
        cohort = next_cohort(
            space,
            trials,
            cohort_size=cohort_size,
            n_trials=NUM_EVALUATIONS,
            seed=seed,
            strategy=strategy,
        )
        for hierarchy in cohort:
            trial = create_trial(
                params=space.to_params(hierarchy),
                distributions=space.distributions(),
                value=score(hierarchy),
            )
            trial.number = len(trials)
            trials.append(trial)
            seen.append(hierarchy)
    return (seen.index(target) + 1 if target in seen else None), -max(map(score, seen))


def toy_space() -> SearchSpace:
    """The 126 hierarchies."""
    config = SpaceConfig(family="toy", num_blocks=((1, 6),) * 4, constraint="none")
    return NonDecreasing(config, lambda _: Measures(0, 0, 1.0))


if __name__ == "__main__":
    main()
