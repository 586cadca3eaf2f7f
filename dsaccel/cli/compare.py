"""`dsaccel compare`: two studies side by side."""

from typing import Annotated

import typer

from dsaccel.cli.options import Given, StudyName, study_names, takes


@takes("--json")
def compare(
    study: StudyName,
    other: Annotated[
        str,
        typer.Argument(
            metavar="OTHER", help="Another study that was run.", autocompletion=study_names
        ),
    ],
    *,
    given: Given,
) -> None:
    """Show two studies side by side.

    Outcome, settings that differ, and the hierarchies that both have trained.
    """
    from dsaccel.api import Study
    from dsaccel.report.comparison import caveats, comparison_summary, comparison_tables

    first, second = Study.load(study), Study.load(other)
    output = given.output()
    if given.as_json:
        output.show_json(comparison_summary(first, second))
    else:
        output.show(*comparison_tables(first, second), *caveats(first, second))
