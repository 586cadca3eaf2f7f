"""Where accuracies differ: between prefixes, between suffixes of a prefix, between seeds.

A hierarchy h = prefix (its first stages) + suffix, trained with seed s, is taken to reach

    y[g, i, s] = mean + P[g] + H[g, i] + S[s] + PS[g, s] + E[g, i, s]

with independent effects: P of prefix g, H of suffix i after it, S of the seed on all hierarchies
alike (the data split above all), PS of the seed on what shares a prefix (in a trie the prefix is
trained once, so its luck is shared), E of the seed on the suffix. A difference of two hierarchies
within one seed is free of S; of two that share their prefix, free of PS as well.

The components are estimated by the method of moments. Sums of squares are set equal to their
expectations. Every hierarchy has every seed; prefixes may have unequal numbers of hierarchies
(n0 = (N - sum n_g^2 / N) / (G - 1) stands for their common size, as in one-way ANOVA, Searle,
Casella and McCulloch 1992, section 3.6):

    mean square of  divided by       expectation
    suffix x seed   (N - G)(r - 1)   E
    prefix x seed   (G - 1)(r - 1)   E + n0 PS
    suffix          N - G            E + r H
    prefix          G - 1            E + r H + n0 (PS + r P)
    seed            r - 1            E + sum n_g^2 / N PS + N S
"""

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from dsaccel.spec.hierarchy import Blocks, Hierarchy
from dsaccel.statistics import seeds_needed

# G prefixes, n_g hierarchies of prefix g, N hierarchies, r seeds


@dataclass(frozen=True)
class Components:
    """Variances, in squares of the accuracies' unit (0..1); none is below 0."""

    prefix: float
    suffix: float
    seed: float
    """The variance of the seed alone, which cancels in paired differences."""
    prefix_seed: float
    """The variance of a prefix's training over seeds."""
    suffix_seed: float
    """The variance of a suffix's training over seeds: the residual."""
    num_prefixes: int
    num_hierarchies: int
    num_seeds: int
    truncated: tuple[str, ...] = ()
    """Components whose estimate was negative, and is reported as 0."""

    @property
    def paired_std(self) -> float:
        """Standard deviation of the difference of two hierarchies within one seed."""
        return math.sqrt(2 * (self.prefix_seed + self.suffix_seed))

    @property
    def paired_std_siblings(self) -> float:
        """The same for two hierarchies that share their prefix."""
        return math.sqrt(2 * self.suffix_seed)

    @property
    def unpaired_std(self) -> float:
        """The same for two hierarchies trained with different seeds."""
        return math.sqrt(2 * (self.seed + self.prefix_seed + self.suffix_seed))

    def seeds_for(self, resolution: float) -> dict[str, int | None]:
        """The seeds that resolve a true difference (0..1) at the 5 % level with 80 % power."""
        return {
            "siblings": seeds_needed(self.paired_std_siblings, resolution),
            "paired": seeds_needed(self.paired_std, resolution),
            "unpaired": seeds_needed(self.unpaired_std, resolution),
        }


def variance_components(
    accuracies: Mapping[Hierarchy, Mapping[int, float]], prefix_stages: int
) -> Components | None:
    """Estimate the components by the method of moments (nested random-effects ANOVA).

    Args:
        accuracies: hierarchy -> seed -> accuracy; a seed that one lacks is left out for all.
        prefix_stages: how many first stages are the prefix.

    Returns:
        None if there are fewer than two prefixes, no prefix with two hierarchies, or one seed.
    """
    seeds = sorted(set.intersection(*(set(values) for values in accuracies.values())))
    groups: dict[Blocks, list[list[float]]] = defaultdict(list)
    for hierarchy, values in accuracies.items():
        groups[hierarchy.blocks[:prefix_stages]].append([values[seed] for seed in seeds])
    N, G, r = len(accuracies), len(groups), len(seeds)
    if G < 2 or N == G or r < 2:
        return None
    sum_n2 = sum(len(members) ** 2 for members in groups.values())
    n0 = (N - sum_n2 / N) / (G - 1)
    squares = _sums_of_squares(list(groups.values()))

    E = squares["suffix_seed"] / ((N - G) * (r - 1))
    PS = (squares["prefix_seed"] / ((G - 1) * (r - 1)) - E) / n0
    suffix = squares["suffix"] / (N - G)
    estimates = {
        "prefix": (squares["prefix"] / (G - 1) - suffix - n0 * PS) / (n0 * r),
        "suffix": (suffix - E) / r,
        "seed": (squares["seed"] / (r - 1) - E - sum_n2 / N * PS) / N,
        "prefix_seed": PS,
        "suffix_seed": E,
    }
    return Components(
        **{name: max(0.0, estimate) for name, estimate in estimates.items()},
        num_prefixes=G,
        num_hierarchies=N,
        num_seeds=r,
        truncated=tuple(name for name, estimate in estimates.items() if estimate < 0),
    )


def _sums_of_squares(groups: list[list[list[float]]]) -> dict[str, float]:
    """The sums by component; `groups` holds prefixes x their hierarchies x seeds."""
    rows = [row for members in groups for row in members]
    of_all = _columns(rows)
    overall = _mean(of_all)
    squares: dict[str, float] = defaultdict(float)
    for members in groups:
        of_group = _columns(members)
        center = _mean(of_group)
        squares["prefix"] += len(of_all) * len(members) * (center - overall) ** 2
        squares["prefix_seed"] += len(members) * sum(
            (at - center - seed_mean + overall) ** 2
            for at, seed_mean in zip(of_group, of_all, strict=True)
        )
        for row in members:
            squares["suffix"] += len(row) * (_mean(row) - center) ** 2
            squares["suffix_seed"] += sum(
                (y - _mean(row) - at + center) ** 2 for y, at in zip(row, of_group, strict=True)
            )
    squares["seed"] = len(rows) * sum((seed_mean - overall) ** 2 for seed_mean in of_all)
    return squares


def _columns(rows: list[list[float]]) -> list[float]:
    """The mean of each column."""
    return [_mean(list(column)) for column in zip(*rows, strict=True)]


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)
