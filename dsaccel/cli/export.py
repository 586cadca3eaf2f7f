"""`dsaccel export`: a study's best hierarchy as a config."""

from pathlib import Path
from typing import Annotated

import typer

from dsaccel.cli.options import StudyName
from dsaccel.cli.output import Output


def export(
    study: StudyName,
    output: Annotated[Path, typer.Option("--output", "-o", help="The config.")] = Path("best.toml"),
    hierarchy: Annotated[
        str | None, typer.Option(help="Another one than the best, trained or not.")
    ] = None,
    force: Annotated[bool, typer.Option(help="Write over an existing file.")] = False,
) -> None:
    """Write the best hierarchy as a config for `dsaccel train`."""
    from dsaccel.api import Study

    searched = Study.load(study)
    run = searched.export(output, hierarchy, force=force)
    not_trained = "" if run.result else f", not trained in {searched.name}"
    Output().say(f"{hierarchy or run.hierarchy} -> {output}{not_trained}")
