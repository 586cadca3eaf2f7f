"""`dsaccel report`: a study as a page."""

from pathlib import Path
from typing import Annotated

import typer

from dsaccel.cli.options import StudyName
from dsaccel.cli.output import Output

Format = Annotated[
    str | None,
    typer.Option(
        metavar="png|svg|csv|latex",
        help="Instead of the page its figures and tables, a file each, into the folder "
        "--output. Default: studies/NAME/parts-FORMAT.",
        autocompletion=lambda: ["png", "svg", "csv", "latex"],
    ),
]


def report(
    study: StudyName,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Default: studies/NAME/report.html.")
    ] = None,
    figure: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Add a figure of your own, as ./mine.py:Mine."),
    ] = None,
    format: Format = None,
    checklist: Annotated[
        bool,
        typer.Option("--checklist", help="Print what checklists of reproducibility ask, instead."),
    ] = False,
) -> None:
    """Write a study's report: one HTML page that needs no network."""
    from dsaccel.api import Study
    from dsaccel.report.study_table import headline

    read = Study.load(study)
    if checklist:
        from dsaccel.report.checklist import checklist as answered

        Output().show(answered(read.record))
        return
    if format is not None:
        from dsaccel.report.parts import write_parts

        folder = output or read.folder / f"parts-{format}"
        for part in write_parts(read.record, folder, format, figure or ()):
            Output().show(part.as_posix())
        return
    path = read.report(output, figures=figure or ())
    Output().show(headline(read.record), path.as_posix())
