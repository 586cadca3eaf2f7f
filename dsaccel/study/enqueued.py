"""Trials that a user has enqueued, by Optuna's `enqueue_trial` or in the dashboard."""

import logging
from collections.abc import Collection, Hashable, Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from dsaccel.errors import ConfigError
from dsaccel.space.space import SearchSpace
from dsaccel.spec.hierarchy import Hierarchy

log = logging.getLogger("dsaccel")


def waiting(study: optuna.Study) -> list[FrozenTrial]:
    """The trials in the order in which they were enqueued."""
    return study.get_trials(deepcopy=False, states=(TrialState.WAITING,))


def enqueued(
    study: optuna.Study, space: SearchSpace, trained: Collection[Hashable]
) -> tuple[dict[Hierarchy, FrozenTrial], list[tuple[FrozenTrial, str]]]:
    """The trials to be trained, by hierarchy, and those that are not, with the reason.

    Args:
        study: with the trials that wait.
        space: what is feasible.
        trained: the identities of networks that are trained.
    """
    good: dict[Hierarchy, FrozenTrial] = {}
    bad: list[tuple[FrozenTrial, str]] = []
    known = set(trained)
    for trial in waiting(study):
        try:
            hierarchy = _hierarchy(trial, space)
        except ConfigError as error:
            bad.append((trial, str(error)))
            continue
        if space.identity(hierarchy) in known:
            bad.append((trial, f"{hierarchy} is trained already, or enqueued twice"))
        else:
            known.add(space.identity(hierarchy))
            good[hierarchy] = trial
    return good, bad


def refuse(study: optuna.Study, trial: FrozenTrial, why: str) -> None:
    """Tell FAIL for a trial that is not trained, and say why in its attribute `why`."""
    log.info("enqueued trial %d is not trained: %s", trial.number, why)
    storage = study._storage
    storage.set_trial_user_attr(trial._trial_id, "why", why)
    storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)


def begin_trial(
    study: optuna.Study,
    params: Mapping[str, Any],
    distributions: Mapping[str, BaseDistribution],
    attributes: Mapping[str, Any],
    enqueued: FrozenTrial | None,
) -> optuna.Trial:
    """A RUNNING trial with these parameters, whatever others have enqueued: the one that waits for
    it, or a new one.
    """
    storage = study._storage
    if enqueued is None:
        template = optuna.create_trial(
            state=TrialState.RUNNING,
            params=dict(params),
            distributions=dict(distributions),
            user_attrs=dict(attributes),
        )
        return optuna.Trial(study, storage.create_new_trial(study._study_id, template))
    number = enqueued._trial_id
    storage.set_trial_state_values(number, TrialState.RUNNING)
    for name, distribution in distributions.items():
        internal = distribution.to_internal_repr(params[name])
        storage.set_trial_param(number, name, internal, distribution)
    for key, value in attributes.items():
        storage.set_trial_user_attr(number, key, value)
    return optuna.Trial(study, number)


def _hierarchy(trial: FrozenTrial, space: SearchSpace) -> Hierarchy:
    """What a trial asks for.

    Raises:
        ConfigError: if that is no hierarchy of the space.
    """
    params = trial.params | trial.system_attrs.get("fixed_params", {})
    names = space.distributions()
    asked = {name: params.get(name) for name in names}
    try:
        hierarchy = space.from_params(params)
    except (KeyError, TypeError, ValueError):
        hierarchy = None
    if hierarchy is None or space.to_params(hierarchy) != asked:
        raise ConfigError(
            f"an enqueued trial must have a value of the space for each of {', '.join(names)}, but "
            f"got {params}"
        )
    if violation := space.violation(hierarchy):
        raise ConfigError(violation)
    return hierarchy
