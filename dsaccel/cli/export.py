"""`dsaccel export`: a study's best hierarchy as a config."""

from pathlib import Path
from typing import Annotated

import typer

from dsaccel.cli.common import StudyName, stored_study
from dsaccel.cli.output import Output
from dsaccel.errors import ConfigError, NoResultError


def export(
    study: StudyName,
    output: Annotated[Path, typer.Option("--output", "-o", help="The config.")] = Path("best.toml"),
    hierarchy: Annotated[
        str | None, typer.Option(help="Another one than the best, trained or not.")
    ] = None,
    force: Annotated[bool, typer.Option(help="Write over an existing file.")] = False,
) -> None:
    """Write the best hierarchy as a config for `dsaccel train`."""
    from dsaccel.config.toml import write_toml
    from dsaccel.families import check_hierarchy
    from dsaccel.spec.hierarchy import parse_hierarchy
    from dsaccel.study.export import export_trial, run_config
    from dsaccel.study.rows import best_trial, find_trial
    from dsaccel.study.trials import FINISHED

    directory, config, stored = stored_study(study)
    if output.exists() and not force:
        raise ConfigError(f"{output} exists already; choose another -o, or --force")
    if not output.parent.is_dir():
        raise ConfigError(f"folder {output.parent} must exist to write {output.name} into it")
    if hierarchy is None:
        trial = best_trial(stored)
        n_trials = config.budget.n_trials
        finished = stored.get_trials(deepcopy=False, states=FINISHED)
        is_spent = sum("harvested" not in trial.user_attrs for trial in finished) >= n_trials
        options = ("--n-trials", str(2 * n_trials)) if is_spent else ()
        more = directory.search_command(*options)
        if trial is None:
            raise NoResultError(
                f"study {directory.name} has no finished trial within its constraint; train more "
                f"with: {more}"
            )
    else:
        candidate = parse_hierarchy(hierarchy)
        trial = find_trial(stored, candidate)
        if trial is None:
            check_hierarchy(config.space.family, candidate)
            write_toml(output, run_config(config, hierarchy, None))
            Output().say(f"{hierarchy} -> {output}, not trained in {directory.name}")
            return
    export_trial(config, directory.name, trial, output)
    Output().say(f"{trial.user_attrs['hierarchy']} -> {output}")
