"""Take a hierarchy out of a study: the network and how it was trained, as a config of its own."""

from typing import Any

from dsaccel.config.own_settings import network_of, training_of
from dsaccel.config.study import RunConfig, StudyConfig
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.study.record import StudyRecord
from dsaccel.study.trial_record import TrialRecord


def run_config(config: StudyConfig, hierarchy: str, result: dict[str, Any] | None) -> RunConfig:
    """The settings that train one hierarchy as a study's search trained it: its own, where they
    were searched, and the study's.
    """
    candidate = Hierarchy.parse(hierarchy)
    return RunConfig(
        family=config.space.family,
        hierarchy=str(Hierarchy(candidate.blocks)),
        seed=config.seed,
        data=config.data,
        network=network_of(candidate, config.network),
        training=training_of(candidate, config.training),
        runtime=config.runtime.recorded,
        result=result,
    )


def trial_config(config: StudyConfig, study: StudyRecord, trial: TrialRecord) -> RunConfig:
    """A trial's hierarchy as a config that `dsaccel train` reads, with where it is from."""
    if trial.is_complete:
        reached = {"val_accuracy": trial.value, "exits": trial.exits}
    else:  # the last value is what pruning ranked by: mostly a local head's
        last = max(trial.by_step)
        step = f"{config.training.step_name} {last}"
        reached = {"pruned_after": step, "accuracy_then": trial.by_step[last]}
    costs = ("num_parameters", "flops", "shallow_scale")
    result = {
        "study": study.name,
        "trial": trial.number,
        **reached,
        **{cost: trial.figure(cost) for cost in costs},
        "time_s": trial.figure("time_s"),
        **study.environment,
    }
    return run_config(config, trial.name, result)
