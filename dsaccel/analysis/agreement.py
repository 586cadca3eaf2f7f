"""Rank agreement: how well accuracies on the way foretell the final ones, and what that allows.

Works on a landscape of several training seeds. Two questions are kept apart. Pruning asks whether a
rung foretells the end of *its own run*; a user asks whether it foretells what a hierarchy is worth
*in another run*. Siblings share prefixes bit for bit, so hierarchies are no independent sample:
intervals are over whole seeds.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dsaccel.analysis.landscape import Landscape
from dsaccel.errors import ConfigError
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.rung import EXIT_OF, RankedBy
from dsaccel.statistics import Interval, interval, tau_b

# S seeds, N hierarchies

Vector = NDArray[np.float64]

MIN_SEEDS = 3
"""Seeds below which nothing is called trustworthy."""
MAX_RUNGS = 40
"""If there are more epochs, only so many are looked at, evenly spaced."""


@dataclass(frozen=True)
class Agreement:
    """How well a ranking of the hierarchies foretells the final one."""

    own: Interval
    """Kendall's tau-b with the final accuracies of the same run."""
    other: Interval
    """Tau-b with the mean final accuracies of the other seeds' runs."""
    recall: Interval
    """Share of the finally best `num_top` that are among the best `num_top` here (same run)."""
    kept: Interval
    """Share of them that are in the better half here: what halving once would keep (0.5: chance)"""
    loss: Interval
    """Accuracy (0..1) by which the finally best of the better half trails the best of all."""


@dataclass(frozen=True)
class RungAgreement:
    step: int
    """Epoch, or stage under the sequential schedule."""
    by: RankedBy
    """Ranked by the deepest trained local head, or by the output layer."""
    agreement: Agreement


@dataclass(frozen=True)
class StageAgreement:
    """How well the last local head of a stage ranks when it is fully trained."""

    stage: int
    agreement: Agreement


@dataclass(frozen=True)
class Importance:
    """What a stage's number of blocks does to the final accuracy."""

    stage: int
    share: Interval
    """The part of the variance between hierarchies that lies between the mean accuracies of equal
    counts (correlation ratio; in a full grid the first-order Sobol index)."""
    chance: float
    """The share that counts without any effect are expected to have: (levels - 1) / (N - 1)."""
    slope: Interval
    """Accuracy (0..1) gained by one more block: coefficient of the least-squares plane in the
    counts of all stages, which sees through counts that a constraint ties together."""


class RankAgreement:
    """A landscape's feasible hierarchies, ready to be compared."""

    def __init__(self, landscape: Landscape) -> None:
        """
        Raises:
            ConfigError: fewer than three feasible hierarchies in all seeds.
        """
        self.landscape = landscape
        self.seeds = tuple(landscape.accuracies)
        self.hierarchies = [
            h
            for h, network in landscape.networks.items()
            if network.is_feasible and all(h in t for t in landscape.accuracies.values())
        ]
        if len(self.hierarchies) < 3:
            raise ConfigError(
                "to compare rankings a landscape must hold at least 3 feasible hierarchies of "
                f"every seed, but got {len(self.hierarchies)}; train more of them"
            )
        self.num_top = min(len(self.hierarchies), max(3, math.ceil(len(self.hierarchies) / 10)))
        """How many count as the finally best: a tenth, at least three."""
        self.final: Vector = self._read(landscape.objective)
        """(S, N): the objective."""

    @property
    def step_name(self) -> Literal["epoch", "stage"]:
        return self.landscape.config.training.step_name

    @cached_property
    def noise(self) -> float:
        """The standard deviation of a final accuracy (0..1) over seeds, what all share removed."""
        return noise_of(self.final)

    def ceiling(self) -> Interval:
        """Tau-b between the final accuracies of a run and of other seeds: the most to expect."""
        return interval(self._taus_other(self.final), -1, 1)

    def between_seeds(self) -> float:
        """The mean tau-b between the final accuracies of two seeds, below the ceiling; or NaN."""
        return agreement_of(self.final)

    def own_taus(self, step: int, by: RankedBy) -> list[float]:
        """Each seed's tau-b between a rung and the end of its own run; none: see `at`."""
        values = self.at(step, by)
        if values is None:
            return []
        return [tau_b(x, y) or 0.0 for x, y in zip(values, self.final, strict=True)]

    def rungs(self) -> Iterator[RungAgreement]:
        """The agreement at each rung, by deepest head and by output layer once it is trained."""
        num = self.landscape.num_steps
        steps = np.linspace(1, num, min(num, MAX_RUNGS)).round().astype(int)
        for step in map(int, steps):
            for by in ("head", "output"):
                values = self.at(step, by)
                if values is not None:
                    yield RungAgreement(step, by, self._agreement(values))

    def stages(self) -> Iterator[StageAgreement]:
        """The last local head of each stage at the last rung; stages without one are left out."""
        last = self.landscape.num_steps
        plans = {h: self.landscape.plan(h) for h in self.hierarchies}
        for stage in range(1, len(self.landscape.config.space.num_blocks) + 1):
            nums = {h: plan.num_heads(stage) for h, plan in plans.items()}
            if all(nums.values()):
                values = self._read(
                    lambda seed, h, nums=nums: self._heads(seed, h, last)[nums[h] - 1]
                )
                yield StageAgreement(stage, self._agreement(values))

    def importances(self) -> Iterator[Importance]:
        """The importance of every stage whose count varies."""
        counts = np.array([h.blocks for h in self.hierarchies], dtype=float)
        plane = np.column_stack([counts, np.ones(len(counts))])
        slopes = np.linalg.lstsq(plane, self.final.T, rcond=None)[0]
        for i, column in enumerate(counts.T):
            levels = len(np.unique(column))
            if levels > 1:
                shares = [_correlation_ratio(column, y) for y in self.final]
                yield Importance(
                    i + 1,
                    share=interval(shares, 0, 1),
                    chance=(levels - 1) / (len(self.hierarchies) - 1),
                    slope=interval(slopes[i]),
                )

    def at(self, step: int, by: RankedBy) -> Vector | None:
        """(S, N) accuracies at a rung; None: not trained in all hierarchies by then."""
        places = [(seed, h) for seed in self.seeds for h in self.hierarchies]
        if any(step not in self.landscape.accuracies[seed][h] for seed, h in places):
            return None
        read = {place: self.landscape.read(*place, step).exits for place in places}
        exit = EXIT_OF[by]
        if any(exit not in exits for exits in read.values()):
            return None
        return self._read(lambda seed, h: read[seed, h][exit])

    def _agreement(self, values: Vector) -> Agreement:
        final, num, half = self.final, self.num_top, math.ceil(len(self.hierarchies) / 2)
        own = [tau_b(x, y) or 0.0 for x, y in zip(values, final, strict=True)]
        recall = [share_of_best(x, y, num, num) for x, y in zip(values, final, strict=True)]
        kept = [share_of_best(x, y, half, num) for x, y in zip(values, final, strict=True)]
        loss = [_loss(x, y, half) for x, y in zip(values, final, strict=True)]
        return Agreement(
            own=interval(own, -1, 1),
            other=interval(self._taus_other(values), -1, 1),
            recall=interval(recall, 0, 1),
            kept=interval(kept, 0, 1),
            loss=interval(loss, 0),
        )

    def _taus_other(self, values: Vector) -> list[float]:
        """Each seed's tau-b (S, N) with the mean final accuracies of the others, NaN if alone."""
        if len(self.seeds) == 1:
            return [math.nan]
        others = [np.delete(self.final, s, axis=0).mean(axis=0) for s in range(len(self.seeds))]
        return [tau_b(x, y.tolist()) or 0.0 for x, y in zip(values, others, strict=True)]

    def _heads(self, seed: int, hierarchy: Hierarchy, step: int) -> tuple[float, ...]:
        return self.landscape.accuracies[seed][hierarchy][step]

    def _read(self, value: Callable[[int, Hierarchy], float]) -> Vector:
        return np.array([[value(seed, h) for h in self.hierarchies] for seed in self.seeds])


def noise_of(final_SN: Vector) -> float:
    """The standard deviation of a final accuracy over seeds, what all share removed; NaN: one."""
    y, (num_seeds, num) = final_SN, final_SN.shape
    rest = y - y.mean(axis=0) - y.mean(axis=1, keepdims=True) + y.mean()
    freedom = (num_seeds - 1) * (num - 1)
    return math.sqrt((rest**2).sum() / freedom) if freedom else math.nan


def agreement_of(final_SN: Vector) -> float:
    """The mean tau-b between the final accuracies of two seeds; NaN: one seed."""
    taus = [tau_b(x.tolist(), y.tolist()) or 0.0 for x, y in combinations(final_SN, 2)]
    return float(np.mean(taus)) if taus else math.nan


def share_of_best(x: Vector, y: Vector, num_x: int, num_y: int) -> float:
    """The share of the best `num_y` by y that is among the best `num_x` by x.

    Who ties at the border belongs to the best in part: what breaking ties at random would give in
    the mean, whatever the names.
    """
    return float(_membership(x, num_x) @ _membership(y, num_y)) / num_y


def _membership(values: Vector, num: int) -> Vector:
    """How much each belongs to the best `num`: 1, 0, or a part if it ties at the border."""
    border = np.sort(values)[-num]
    above, tied = values > border, values == border
    return above + tied * (num - above.sum()) / tied.sum()


def _loss(x: Vector, y: Vector, num: int) -> float:
    """How far the best y of the best `num` by x, ties included, trails the best of all."""
    return float(y.max() - y[x >= np.sort(x)[-num]].max())


def _correlation_ratio(counts: Vector, y: Vector) -> float:
    """Variance of the means of equal counts over the variance; 0 if nothing varies."""
    if not np.ptp(y):
        return 0.0
    means = {count: y[counts == count].mean() for count in np.unique(counts)}
    return float(np.var([means[count] for count in counts]) / np.var(y))
