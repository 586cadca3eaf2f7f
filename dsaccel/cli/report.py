"""`dsaccel report`: a study as a page."""

from pathlib import Path
from typing import Annotated

import typer

from dsaccel.cli.options import StudyName
from dsaccel.cli.output import Output


def report(
    study: StudyName,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Default: studies/NAME/report.html.")
    ] = None,
    figure: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Add a figure of your own, as ./mine.py:Mine."),
    ] = None,
) -> None:
    """Write a study's report: one HTML page that needs no network."""
    from dsaccel.api import Study
    from dsaccel.report.study_table import headline

    read = Study.load(study)
    path = read.report(output, figures=figure or ())
    Output().show(headline(read.record), path.as_posix())
