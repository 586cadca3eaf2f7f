"""Take a hierarchy out of a study: the network and how it was trained, as a config of its own."""

import importlib.metadata
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from dsaccel.config.own_settings import network_of, training_of
from dsaccel.config.study import RunConfig, StudyConfig
from dsaccel.config.toml import write_toml
from dsaccel.spec.hierarchy import format_hierarchy, parse_hierarchy


def run_config(config: StudyConfig, hierarchy: str, result: dict[str, Any] | None) -> RunConfig:
    """The settings that train one hierarchy as a study's search trained it: its own, where they
    were searched, and the study's.
    """
    candidate = parse_hierarchy(hierarchy)
    return RunConfig(
        family=config.space.family,
        hierarchy=format_hierarchy(tuple(candidate)),
        seed=config.seed,
        data=config.data,
        network=network_of(candidate, config.network),
        training=training_of(candidate, config.training),
        runtime=config.runtime,
        result=result,
    )


def export_trial(config: StudyConfig, study_name: str, trial: FrozenTrial, path: Path) -> RunConfig:
    """Write a trial's hierarchy as a config that `dsaccel train` reads, with where it is from."""
    attributes = trial.user_attrs
    if trial.state == TrialState.COMPLETE:
        reached = {"val_accuracy": trial.value}
    else:  # the last value is what pruning ranked by: mostly a local head's
        step = f"{config.training.step_name} {trial.last_step}"
        reached = {"pruned_after": step, "accuracy_then": trial.value}
    result = {
        "study": study_name,
        "trial": trial.number,
        **reached,
        "num_parameters": attributes["num_parameters"],
        "flops": attributes["flops"],
        "shallow_scale": attributes["shallow_scale"],
        "versions": {
            package: importlib.metadata.version(package)
            for package in ("dsaccel", "torch", "optuna")
        },
    }
    run = run_config(config, attributes["hierarchy"], result)
    write_toml(path, run)
    return run
