"""Whether the ranking of one landscape foretells that of another, as a cheap search a dear one.

A run of the first is compared with runs of the second that have another seed: a common seed shares
the order of the images, and often weights, so that its noise is common too. A ranking is worth
something only if it is above what can be told without training: the number of blocks, the costs.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np

from dsaccel.analysis.agreement import RankAgreement, Vector, agreement_of, noise_of
from dsaccel.analysis.landscape import Landscape
from dsaccel.errors import ConfigError
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.statistics import Interval, Paired, interval, paired, tau_b

# S seeds of the first landscape, T of the second, N hierarchies that both hold

MIN_HIERARCHIES = 3


@dataclass(frozen=True)
class Predictor:
    """Something that ranks hierarchies, against the final accuracies of the second landscape."""

    name: str
    tau: Interval
    """Kendall's tau-b with a run of the second landscape, over its seeds."""
    lead: Paired | None
    """How far the first landscape's mean leads it in tau-b, over those seeds."""


@dataclass(frozen=True)
class Spread:
    """What there is to be ranked in a landscape."""

    between: float
    """The standard deviation (0..1) between the hierarchies' mean final accuracies."""
    noise: float
    """The same over seeds, with what all hierarchies share removed; NaN: one seed."""
    seeds_agree: float
    """The mean tau-b between two seeds; NaN: one seed."""


class Foretelling:
    """Two landscapes, and the feasible hierarchies that both hold."""

    def __init__(self, first: Landscape, second: Landscape) -> None:
        """
        Raises:
            ConfigError: fewer than three hierarchies in both.
        """
        ranks = RankAgreement(first), RankAgreement(second)
        self.landscapes, self.seeds = (first, second), (ranks[0].seeds, ranks[1].seeds)
        columns = [{h: i for i, h in enumerate(each.hierarchies)} for each in ranks]
        self.hierarchies: list[Hierarchy] = [h for h in columns[0] if h in columns[1]]
        if len(self.hierarchies) < MIN_HIERARCHIES:
            raise ConfigError(
                f"two landscapes must hold at least {MIN_HIERARCHIES} hierarchies in common to be "
                f"compared, but hold {len(self.hierarchies)}; take two of one space"
            )
        self.final: tuple[Vector, Vector] = (
            ranks[0].final[:, [columns[0][h] for h in self.hierarchies]],
            ranks[1].final[:, [columns[1][h] for h in self.hierarchies]],
        )
        """(S, N) and (T, N): the objectives."""

    def spread(self, number: int) -> Spread:
        """The spread of the first landscape (0) or the second (1), over the common hierarchies."""
        y = self.final[number]
        between = float(y.mean(axis=0).std(ddof=1))
        return Spread(between, noise_of(y), agreement_of(y))

    def one_run(self) -> Interval:
        """Tau-b of one run of the first with one of the second at another seed, over the seeds of
        the second.
        """
        first, second = self.final
        pairs = [
            (t, _tau(first[s], second[t]))
            for s, t in product(range(len(first)), range(len(second)))
            if self.seeds[0][s] != self.seeds[1][t]
        ]
        by_seed = [[tau for at, tau in pairs if at == t] for t in range(len(second))]
        return interval([float(np.mean(taus)) for taus in by_seed if taus] or [math.nan], -1, 1)

    def predictors(self) -> list[Predictor]:
        """The first landscape's mean over other seeds, and what is known without training."""
        own = self._taus(lambda t: self._mean_of_others(t))
        known = {
            "minus the shallow blocks": lambda h: -sum(h.blocks[: self._num_shallow]),
            "all blocks": lambda h: sum(h.blocks),
            "FLOPs": lambda h: self.landscapes[1].networks[h].flops,
            "minus FLOPs": lambda h: -self.landscapes[1].networks[h].flops,
            "parameters": lambda h: self.landscapes[1].networks[h].num_parameters,
        }
        rows = [Predictor("the first landscape", _interval(own), None)]
        for name, value in known.items():
            ranking = np.array([float(value(h)) for h in self.hierarchies])
            taus = self._taus(lambda _, ranking=ranking: ranking)
            rows.append(Predictor(name, _interval(taus), paired(own, taus)))
        return rows

    @property
    def _num_shallow(self) -> int:
        return self.landscapes[1].space.num_shallow

    def _mean_of_others(self, t: int) -> Vector | None:
        """The first landscape's mean final accuracies (N,) without the seed of a run."""
        rows = [i for i, seed in enumerate(self.seeds[0]) if seed != self.seeds[1][t]]
        return self.final[0][rows].mean(axis=0) if rows else None

    def _taus(self, ranking: Callable[[int], Vector | None]) -> dict[int, float]:
        """Seed of the second landscape -> tau-b of its run with a ranking."""
        found = ((t, ranking(t)) for t in range(len(self.final[1])))
        return {
            self.seeds[1][t]: _tau(values, self.final[1][t])
            for t, values in found
            if values is not None
        }


def _interval(taus: dict[int, float]) -> Interval:
    return interval(list(taus.values()) or [math.nan], -1, 1)


def _tau(x: Vector, y: Vector) -> float:
    """0 where one of them does not rank at all."""
    return tau_b(x.tolist(), y.tolist()) or 0.0
