"""Optuna's own pruners, asked for a cohort in lock-step.

They judge one trial against others, so what they say depends on what has been told by then. At a
rung all values of the cohort are reported first and then each trial is asked, in the order in which
the hierarchies were proposed. The judge keeps a study in memory that is rebuilt for each cohort
from the stored trials: a search that was cut off judges as it would have, and so does a replay.
"""

import inspect
import warnings
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, HyperbandPruner, SuccessiveHalvingPruner
from optuna.trial import FrozenTrial, TrialState

from dsaccel.errors import ConfigError
from dsaccel.search.pruners import Judge, Prefixes, PrunerKind, Race, Values
from dsaccel.search.suggestions import study_in_memory
from dsaccel.spec.hierarchy import Hierarchy

WRAPPERS = ("PatientPruner",)
"""Need another pruner as an argument, which a study file cannot hold."""


def pruner_names() -> list[str]:
    """The pruners that can be named."""
    return [
        name
        for name, value in vars(optuna.pruners).items()
        if inspect.isclass(value)
        and issubclass(value, BasePruner)
        and not inspect.isabstract(value)
        and name not in WRAPPERS
    ]


def make_pruner(kind: str, options: Mapping[str, Any]) -> BasePruner:
    """The pruner that a study names, with its options.

    Raises:
        ConfigError: if there is none of this name, or it does not take the options.
    """
    known = pruner_names()
    if kind not in known:
        raise ConfigError(
            "pruning.kind must be halving, percentile, none or one of Optuna's "
            f"{', '.join(known)}, but got {kind}"
        )
    make: Any = getattr(optuna.pruners, kind)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return make(**options)
    except (TypeError, ValueError) as error:
        accepted = ", ".join(inspect.signature(make).parameters)
        given = ", ".join(f"{key} = {value!r}" for key, value in options.items())
        raise ConfigError(
            f"pruning.options must be arguments of Optuna's {kind} ({accepted}), but got "
            f"{given or 'none'}: {error}"
        ) from None


class Optunas(PrunerKind):
    """One of Optuna's."""

    asked = "after every step"

    kind: str
    options: dict[str, Any]

    def judge(self, race: Race) -> "OptunaJudge":
        return OptunaJudge(make_pruner(self.kind, self.options), race)


class OptunaJudge(Judge):
    """Asks a pruner about one cohort, rung by rung."""

    sees_all = True

    def __init__(self, pruner: BasePruner, race: Race) -> None:
        self._race = race
        self._distributions = dict(race.distributions)
        self._study = study_in_memory(
            study_name="cohort",  # Hyperband's brackets depend on it
            direction="maximize",
            pruner=pruner,
            sampler=optuna.samplers.RandomSampler(seed=0),
        )
        for trial in race.finished:
            if isinstance(pruner, SuccessiveHalvingPruner | HyperbandPruner):
                self._repeat(trial)
            else:
                self._study.add_trial(trial)
        self._living = {h: self._ask({}) for h in race.asked}

    def losers(self, step: int, values: Values, prefixes: Prefixes) -> list[Hierarchy]:
        """Report a rung; those who stop at it, in the order in which they are asked.

        Who are one network so far go on together if one of them does.

        Args:
            step: the rung, which must be the one after the last; the pruner may not be asked at it.
            values: accuracy (higher is better) of those who are trained; others are passed over.
            prefixes: equal for those who are one network so far.
        """
        asked = [h for h in self._living if h in values]
        for h in asked:
            self._living[h].report(values[h], step)
        if step not in self._race.stops:
            return []
        told = {h: self._living[h].should_prune() for h in asked}
        going_on = {prefixes[h] for h in asked if not told[h] or h in self._race.references}
        stopped = [h for h in asked if prefixes[h] not in going_on]
        for h in stopped:
            self._study.tell(self._living.pop(h), state=TrialState.PRUNED)
        return stopped

    def _repeat(self, trial: FrozenTrial) -> None:
        """Let a pruner that takes notes on trials see a finished one again."""
        again = self._ask(trial.params)
        for step, value in sorted(trial.intermediate_values.items()):
            again.report(value, step)
            if step in self._race.stops:
                again.should_prune()
        if trial.state == TrialState.COMPLETE:
            self._study.tell(again, trial.value)
        else:
            self._study.tell(again, state=TrialState.PRUNED)

    def _ask(self, params: Mapping[str, Any]) -> optuna.Trial:
        self._study.enqueue_trial(dict(params))
        return self._study.ask(self._distributions)
