"""`dsaccel export`: a study's best hierarchy as a config."""

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
    from dsaccel.search.tables import best_trial, find_trial

    directory, config, stored = stored_study(study)
    if output.exists() and not force:
        raise ConfigError(f"{output} exists already; choose another -o, or --force")
    if not output.parent.is_dir():
        raise ConfigError(f"folder {output.parent} must exist to write {output.name} into it")
    trial = best_trial(stored)
    if hierarchy is not None:
        trial = find_trial(stored, parse_hierarchy(hierarchy))
    if trial is None:
        raise NoResultError(
            f"study {directory.name} has no finished trial {hierarchy or 'within its constraint'}; "
            f"train more with: dsaccel search {study}"
        )
    export_trial(config, directory.name, trial, output)
    print(f"{trial.user_attrs['hierarchy']} -> {output}", file=sys.stderr)
