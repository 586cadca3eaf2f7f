"""What pruning would have cost on a landscape, and the settings that can be trusted.

The rule. Settings are trusted if they, and those with any later first rung, in the worst resample
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
    By,
    Fidelity,
    Importance,
    RungAgreement,
    StageAgreement,
    Vector,
    share_of_best,
)
from dsaccel.config.study import PruningConfig
from dsaccel.search.pruners import losers, prefixes_at, rung_steps
from dsaccel.statistics import Interval, resampled

FACTORS = (1.5, 2.0, 3.0, 4.0)
"""Reduction factors that are tried."""


@dataclass(frozen=True)
class Setting:
    """Halving, as it would have gone on each seed, from the first rung to the last."""

    pruning: PruningConfig
    loss: Interval
    """Final accuracy (0..1) by which the best that goes on to the end trails the best of all."""
    kept: Interval
    """Share of the finally best tenth that go on to the end."""
    going_on: float
    """Share of all hierarchies that do: the chance of each."""
    work: float
    """Of the training without pruning, counted in hierarchies times steps."""


@dataclass(frozen=True)
class Advice:
    """The outcome of the rule."""

    first: dict[By, int | None]
    """By what is ranked: the first rung of halving with factor 2 that is trusted."""
    setting: Setting | None
    """The cheapest trusted one."""


@dataclass(frozen=True)
class Calibrated:
    """All that a calibration comes to."""

    fidelity: Fidelity
    ceiling: Interval
    rungs: list[RungAgreement]
    stages: list[StageAgreement]
    importances: list[Importance]
    advice: Advice

    def by_ranking(self) -> list[tuple[By, list[RungAgreement]]]:
        """The rungs of each ranking that has more than the last one."""
        groups: list[tuple[By, list[RungAgreement]]] = []
        for by in ("head", "output"):
            rows = [row for row in self.rungs if row.by == by]
            if len(rows) > 1 or self.fidelity.landscape.num_steps == 1:
                groups.append((by, rows))
        return groups


def calibrated(fidelity: Fidelity) -> Calibrated:
    """Compute everything; seconds."""
    return Calibrated(
        fidelity,
        fidelity.ceiling(),
        list(fidelity.rungs()),
        list(fidelity.stages()),
        list(fidelity.importances()),
        advise(fidelity),
    )


def advise(fidelity: Fidelity) -> Advice:
    """Apply the rule; too few seeds allow no trust."""
    if len(fidelity.seeds) < MIN_SEEDS:
        return Advice(dict.fromkeys(_rankings(fidelity), None), None)
    first: dict[By, int | None] = {}
    settings: list[Setting] = []
    for by in _rankings(fidelity):
        for factor in FACTORS:
            trusted = list(trusted_settings(fidelity, by, factor))
            settings += trusted[-1:]
            if factor == 2.0:
                rungs = [_rungs(fidelity, s.pruning)[0] for s in trusted]
                first[by] = min(rungs, default=None)
    # equal work: the first, which ranks by the deepest head
    return Advice(first, min(settings, key=lambda s: s.work, default=None))


def trusted_settings(fidelity: Fidelity, by: By, factor: float) -> Iterator[Setting]:
    """Settings that are trusted, the latest first rung first, down to the first that is not."""
    for grace in _graces(fidelity):
        pruning = PruningConfig(by=by, reduction_factor=factor, grace_epochs=grace)
        foretells = all(_foretells(fidelity, step, by) for step in _rungs(fidelity, pruning))
        setting = simulate(fidelity, pruning)
        if not (foretells and is_trusted(setting, fidelity.noise)):
            return
        yield setting


def is_trusted(setting: Setting, noise: float) -> bool:
    """The rule for what a setting keeps.

    Args:
        setting: simulated on all seeds.
        noise: standard deviation of a hierarchy's final accuracy over seeds.
    """
    return setting.loss.high <= noise and setting.kept.low >= (1 + setting.going_on) / 2


def simulate(fidelity: Fidelity, pruning: PruningConfig) -> Setting:
    """Prune each seed's hierarchies, in one cohort, as a search would."""
    num, num_steps = len(fidelity.hierarchies), fidelity.landscape.num_steps
    rungs = _rungs(fidelity, pruning)
    values = {step: fidelity.at(step, pruning.by) for step in rungs}
    loss, kept, going_on, work = [], [], [], []
    for s, final in enumerate(fidelity.final):
        living = np.ones(num, dtype=bool)
        steps, before = 0, 0
        for step in rungs:
            steps, before = steps + living.sum() * (step - before), step
            at_rung = values[step]
            # no head is trained yet in some of them: nobody is compared
            if at_rung is not None:
                _prune(fidelity, pruning, at_rung[s], step, living)
        work.append((steps + living.sum() * (num_steps - before)) / (num * num_steps))
        going_on.append(living.mean())
        loss.append(float(final.max() - final[living].max()))
        # ranked by who goes on: all of them before the others
        kept.append(share_of_best(living * 1.0, final, int(living.sum()), fidelity.num_top))
    return Setting(
        pruning,
        loss=resampled(loss),
        kept=resampled(kept),
        going_on=float(np.mean(going_on)),
        work=float(np.mean(work)),
    )


def _prune(
    fidelity: Fidelity, pruning: PruningConfig, values: Vector, step: int, living: np.ndarray
) -> None:
    """Take the losers of a rung out of `living` (N,), in place."""
    left = [h for h, lives in zip(fidelity.hierarchies, living, strict=True) if lives]
    prefixes = prefixes_at(step, left, fidelity.landscape.config.training)
    stopped = set(losers(dict(zip(left, values[living], strict=True)), pruning, prefixes))
    living &= [h not in stopped for h in fidelity.hierarchies]


def _foretells(fidelity: Fidelity, step: int, by: By) -> bool:
    tau = fidelity.own_tau(step, by)
    return tau is not None and tau.low > 0


def _rankings(fidelity: Fidelity) -> tuple[By, ...]:
    is_sequential = fidelity.landscape.config.training.schedule == "sequential"
    return ("head",) if is_sequential else ("head", "output")


def _rungs(fidelity: Fidelity, pruning: PruningConfig) -> tuple[int, ...]:
    config = fidelity.landscape.config
    return rung_steps(pruning, config.training, len(config.space.num_blocks))


def _graces(fidelity: Fidelity) -> list[int | None]:
    """First rungs to try, the latest first; a sequential schedule has no choice."""
    if fidelity.landscape.config.training.schedule == "sequential":
        return [None]
    return list(range(fidelity.landscape.num_steps - 1, 0, -1))
