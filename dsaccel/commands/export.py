"""`dsaccel export`: a study's best hierarchy as a config."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from dsaccel.commands.common import StudyName, stored_study
from dsaccel.errors import ConfigError, NoResultError


def export(
    study: StudyName,
    output: Annotated[Path, typer.Option("--output", "-o", help="The config.")] = Path("best.toml"),
    hierarchy: Annotated[str | None, typer.Option(help="Another one than the best.")] = None,
    force: Annotated[bool, typer.Option(help="Write over an existing file.")] = False,
) -> None:
    """Write the best hierarchy as a config for `dsaccel train`."""
    from dsaccel.hierarchy import parse_hierarchy
    from dsaccel.reports.export import export_trial
    from dsaccel.search.ledger import FINISHED
    from dsaccel.search.tables import best_trial, find_trial

    directory, config, stored = stored_study(study)
    if output.exists() and not force:
        raise ConfigError(f"{output} exists already; choose another -o, or --force")
    if not output.parent.is_dir():
        raise ConfigError(f"folder {output.parent} must exist to write {output.name} into it")
    if hierarchy is None:
        trial, missing = best_trial(stored), "within its constraint"
        n_trials = config.budget.n_trials
        finished = stored.get_trials(deepcopy=False, states=FINISHED)
        is_spent = sum("harvested" not in trial.user_attrs for trial in finished) >= n_trials
        options = ("--n-trials", str(2 * n_trials)) if is_spent else ()
        more = directory.search_command(*options)
    else:
        trial, missing = find_trial(stored, parse_hierarchy(hierarchy)), hierarchy
        more = shlex.join(["dsaccel", "train", hierarchy, "--study", directory.name])
    if trial is None:
        raise NoResultError(
            f"study {directory.name} has no finished trial {missing}; train more with: {more}"
        )
    export_trial(config, directory.name, trial, output)
    print(f"{trial.user_attrs['hierarchy']} -> {output}", file=sys.stderr)
