"""Simulate pruning on a landscape, and find the settings that can be trusted.

The rule. Settings are trusted if they, and those with any later first rung, at the worst
of the seeds

- rank better than chance: tau-b with the final ranking of the same run is above 0 at each rung,
- let a hierarchy go on to the end that is finally within the noise between seeds of the best, and
- keep of the finally best tenth a share at least half-way between chance and all.

The last keeps out what loses little only because good hierarchies are many. Of the trusted
settings the cheapest are advised.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dsaccel.analysis.agreement import (
    MIN_SEEDS,
    Importance,
    RankAgreement,
    RungAgreement,
    StageAgreement,
    Vector,
    share_of_best,
)
from dsaccel.config.study import PruningConfig
from dsaccel.search.pruners import Pruner, find_pruner, prefixes_at, rung_steps
from dsaccel.spec.rung import RankedBy
from dsaccel.statistics import Interval, interval

FACTORS = (1.5, 2.0, 3.0, 4.0)
"""Reduction factors that are tried."""


@dataclass(frozen=True)
class SimulatedPruning:
    """Halving, as it would have gone on each seed, from the first rung to the last."""

    pruning: PruningConfig
    loss: Interval
    """Final accuracy (0..1) by which the best that goes on to the end trails the best of all."""
    most_lost: float
    """The same at the worst seed."""
    kept: Interval
    """Share of the finally best tenth that go on to the end."""
    least_kept: float
    """The same at the worst seed."""
    going_on: float
    """Share of all hierarchies that do: the chance of each."""
    work: float
    """The share that is left of the training without pruning, in hierarchies times steps."""


@dataclass(frozen=True)
class Advice:
    """The outcome of the rule."""

    first: dict[RankedBy, int | None]
    """The first rung at which halving with factor 2 is trusted, by what is ranked."""
    cheapest: SimulatedPruning | None
    """The cheapest trusted one."""


@dataclass(frozen=True)
class Calibrated:
    """All that a calibration comes to."""

    ranks: RankAgreement
    ceiling: Interval
    rungs: list[RungAgreement]
    stages: list[StageAgreement]
    importances: list[Importance]
    advice: Advice

    def by_ranking(self) -> list[tuple[RankedBy, list[RungAgreement]]]:
        """The rungs of each ranking that has more than the last one."""
        groups: list[tuple[RankedBy, list[RungAgreement]]] = []
        for by in ("head", "output"):
            rows = [row for row in self.rungs if row.by == by]
            if len(rows) > 1 or self.ranks.landscape.num_steps == 1:
                groups.append((by, rows))
        return groups


def calibrated(ranks: RankAgreement) -> Calibrated:
    """Compute everything; seconds."""
    return Calibrated(
        ranks,
        ranks.ceiling(),
        list(ranks.rungs()),
        list(ranks.stages()),
        list(ranks.importances()),
        advise(ranks),
    )


def advise(ranks: RankAgreement) -> Advice:
    """Apply the rule; too few seeds allow no trust."""
    if len(ranks.seeds) < MIN_SEEDS:
        return Advice(dict.fromkeys(_rankings(ranks), None), None)
    first: dict[RankedBy, int | None] = {}
    settings: list[SimulatedPruning] = []
    for by in _rankings(ranks):
        for factor in FACTORS:
            trusted = list(trusted_prunings(ranks, by, factor))
            settings += trusted[-1:]
            if factor == 2.0:
                rungs = [_rungs(ranks, s.pruning)[0] for s in trusted]
                first[by] = min(rungs, default=None)
    # equal work: the first, which ranks by the deepest head
    return Advice(first, min(settings, key=lambda s: s.work, default=None))


def trusted_prunings(
    ranks: RankAgreement, by: RankedBy, factor: float
) -> Iterator[SimulatedPruning]:
    """Prunings that are trusted, the latest first rung first, down to the first that is not."""
    for grace in _graces(ranks):
        pruning = PruningConfig(by=by, reduction_factor=factor, grace_epochs=grace)
        foretells = all(_foretells(ranks, step, by) for step in _rungs(ranks, pruning))
        setting = simulate(ranks, pruning)
        if not (foretells and is_trusted(setting, ranks.noise)):
            return
        yield setting


def is_trusted(setting: SimulatedPruning, noise: float) -> bool:
    """The rule for what a setting keeps.

    Args:
        setting: simulated on all seeds.
        noise: standard deviation of a hierarchy's final accuracy over seeds.
    """
    return setting.most_lost <= noise and setting.least_kept >= (1 + setting.going_on) / 2


def simulate(ranks: RankAgreement, pruning: PruningConfig) -> SimulatedPruning:
    """Prune each seed's hierarchies, in one cohort, as a search would."""
    num, num_steps = len(ranks.hierarchies), ranks.landscape.num_steps
    rungs = _rungs(ranks, pruning)
    by = pruning.ranked_by(ranks.landscape.config.network.output)
    values = {step: ranks.at(step, by) for step in rungs}
    loss, kept, going_on, work = [], [], [], []
    for s, final in enumerate(ranks.final):
        living = np.ones(num, dtype=bool)
        steps, before = 0, 0
        for step in rungs:
            steps, before = steps + living.sum() * (step - before), step
            at_rung = values[step]
            # no head is trained yet in some of them: nobody is compared
            if at_rung is not None:
                _prune(ranks, pruning, at_rung[s], step, living)
        work.append((steps + living.sum() * (num_steps - before)) / (num * num_steps))
        going_on.append(living.mean())
        loss.append(float(final.max() - final[living].max()))
        # ranked by who goes on: all of them before the others
        kept.append(share_of_best(living * 1.0, final, int(living.sum()), ranks.num_top))
    return SimulatedPruning(
        pruning,
        loss=interval(loss, 0),
        most_lost=max(loss),
        kept=interval(kept, 0, 1),
        least_kept=min(kept),
        going_on=float(np.mean(going_on)),
        work=float(np.mean(work)),
    )


def _prune(
    ranks: RankAgreement, pruning: PruningConfig, values: Vector, step: int, living: np.ndarray
) -> None:
    """Take the losers of a rung out of `living` (N,), in place."""
    left = [h for h, lives in zip(ranks.hierarchies, living, strict=True) if lives]
    prefixes = prefixes_at(step, left, ranks.landscape.config.training)
    read = dict(zip(left, values[living], strict=True))
    pruner = find_pruner(pruning)
    assert isinstance(pruner, Pruner)  # one that remembers nothing
    stopped = set(pruner.losers(step, read, prefixes))
    living &= [h not in stopped for h in ranks.hierarchies]


def _foretells(ranks: RankAgreement, step: int, by: RankedBy) -> bool:
    taus = ranks.own_taus(step, by)
    return bool(taus) and min(taus) > 0


def _rankings(ranks: RankAgreement) -> tuple[RankedBy, ...]:
    exit = ranks.landscape.config.network.output
    if exit == "layer":
        return ranks.landscape.schedule.ranked_by
    return ("head", "ensemble") if exit == "ensemble" else ("head",)


def _rungs(ranks: RankAgreement, pruning: PruningConfig) -> tuple[int, ...]:
    config = ranks.landscape.config
    return rung_steps(pruning, config.training, len(config.space.num_blocks))


def _graces(ranks: RankAgreement) -> list[int | None]:
    """First rungs to try, the latest first, where the schedule leaves a choice."""
    if not ranks.landscape.schedule.all_at_once:
        return [None]
    return list(range(ranks.landscape.num_steps - 1, 0, -1))
