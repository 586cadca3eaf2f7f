"""Learning rate and dropout for global back-propagation, tuned as much as the layer-wise side was.

A comparison is unfair if one side was tuned and the other takes its settings over. The tuning is
an Optuna study of its own, NAME:global, in the study's storage: it can be continued and looked at.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import optuna
from optuna.distributions import FloatDistribution
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial, TrialState

from dsaccel.confirm.entrants import GlobalSettings
from dsaccel.seeds import derive
from dsaccel.spec.hierarchy import setting_of

RATE_FACTOR = 10.0
"""Rates are tried from a tenth of the study's to ten times it."""
MAX_DROPOUT = 0.5
NUM_RANDOM = 10
"""The first trials, which are drawn without looking at any other: Optuna's default."""


@dataclass(frozen=True)
class Tuned:
    """The tuning after a trial."""

    number: int
    """Complete trials."""
    best: FrozenTrial
    """The highest value, of equals the earliest."""


def layerwise_settings(trials: Iterable[FrozenTrial]) -> int:
    """How many distinct settings a search has tried layer-wise; 1 if they are fixed."""
    finished = (t for t in trials if t.state in (TrialState.COMPLETE, TrialState.PRUNED))
    tried = {tuple(p for p in t.params.items() if _is_tuned(p[0])) for t in finished}
    return max(1, len(tried))


def _is_tuned(name: str) -> bool:
    """Whether a parameter is a setting that leaves the layers and units as they are."""
    setting = setting_of(name)
    return setting is not None and setting.concerns != "shape"


def tune(
    study: optuna.Study,
    train: Callable[[Sequence[GlobalSettings]], Iterable[float]],
    start: GlobalSettings,
    n_trials: int,
    *,
    seed: int,
    at_once: int = 1,
) -> Iterator[Tuned]:
    """Try settings until the study has so many; yields at once what it has, then each trial.

    The first are `start`, so tuning never ends below them on what it is tuned on. A trial that was
    cut off is told FAIL and made again: the same settings, for they depend on the seed and the
    complete trials alone.

    Args:
        study: where trials are kept.
        train: settings -> validation accuracy (0..1) of global back-propagation with each.
        start: the study's settings.
        n_trials: complete trials in all.
        seed: of the proposals.
        at_once: settings that may be trained at the same time. It changes none: as many as are
            drawn without looking at the trials before.
    """
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
    if done := _complete(study):
        yield Tuned(len(done), _best(done))
    while len(done) < n_trials:
        num = min(at_once, max(1, NUM_RANDOM - len(done)), n_trials - len(done))
        trials = [_ask(study, number, start, seed) for number in range(len(done), len(done) + num)]
        values = train([GlobalSettings(**trial.params) for trial in trials])
        for trial, value in zip(trials, values, strict=True):
            study.tell(trial, value)
            done = _complete(study)
            yield Tuned(len(done), _best(done))


def _ask(study: optuna.Study, number: int, start: GlobalSettings, seed: int) -> optuna.Trial:
    """The next settings; the first are `start`."""
    seeded = derive(seed, "tuning", number) % 2**32  # Optuna takes 32 bits
    study.sampler = TPESampler(seed=seeded, n_startup_trials=NUM_RANDOM)
    if not number and not study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        study.enqueue_trial(start._asdict())
    rate = start.learning_rate
    return study.ask(
        {
            "learning_rate": FloatDistribution(rate / RATE_FACTOR, rate * RATE_FACTOR, log=True),
            "dropout": FloatDistribution(0.0, max(MAX_DROPOUT, start.dropout)),
        }
    )


def _complete(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def _best(trials: list[FrozenTrial]) -> FrozenTrial:
    return max(trials, key=lambda trial: (trial.values[0], -trial.number))
