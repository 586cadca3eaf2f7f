"""What the dashboard says of a study: a note on what its values are."""

import optuna

from dsaccel.config.study import StudyConfig


def write_note(study: optuna.Study, config: StudyConfig) -> None:
    """Leave a note for whoever opens the study in optuna-dashboard."""
    from optuna_dashboard import save_note

    save_note(study, study_note(config))


def study_note(config: StudyConfig) -> str:
    """What its values are, in markdown."""
    step = config.training.step_name
    exits = {"head": "last head", "ensemble": "ensemble of its last heads"}
    exit = exits.get(config.network.output, "output layer")
    heads = {"output": "output layer", "ensemble": "ensemble of the last trained heads"}
    ranked = heads.get(config.ranked_by, "deepest trained local head")
    return f"""Hierarchies of {config.space.family}, trained layer-wise by dsaccel.

- A trial is a hierarchy: `num_blocks_s1` blocks in the first stage, and so on. The user attribute
  `hierarchy` is its name.
- The **value** of a complete trial is the validation accuracy of its {exit} at the end.
- An **intermediate value** is that of the {ranked}, after each {step}. Pruned trials are shown at
  their last one: it is not to be compared with the value of a complete trial.
- References outside the constraint have `feasible: false`. Optuna knows them by a constraint; this
  dashboard does not, and may show one as the best trial. The best hierarchy is in `best.toml` and
  `report.html`, beside the study.
- `harvested` trials were not asked for: they were read on the way to others, at no cost.
- Failed trials were cut off, and begun again as others.
"""
