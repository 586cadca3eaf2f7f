"""`dsaccel compare`: two studies side by side, or two landscapes."""

from typing import Annotated

import typer

from dsaccel.cli.options import Given, study_names, takes
from dsaccel.errors import ConfigError


@takes("--trust-part", "--json")
def compare(
    study: Annotated[
        str,
        typer.Argument(
            metavar="STUDY|LANDSCAPE",
            help="A study that was run, or what dsaccel landscape wrote.",
            autocompletion=study_names,
        ),
    ],
    other: Annotated[
        str,
        typer.Argument(
            metavar="OTHER",
            help="Another study that was run, or another landscape.",
            autocompletion=study_names,
        ),
    ],
    *,
    given: Given,
) -> None:
    """Show two studies, or two landscapes, side by side.

    Of studies: outcome, settings that differ, and the hierarchies that both have trained. Of
    landscapes: whether the ranking of the first foretells that of the second, as a search with fine
    units one with coarse units, better than counting blocks or costs does.
    """
    are_files = [name.endswith((".csv", ".csv.gz", ".parquet")) for name in (study, other)]
    if any(are_files):
        _landscapes(study, other, given, are_both=all(are_files))
        return
    from dsaccel.api import Study
    from dsaccel.report.comparison import caveats, comparison_summary, comparison_tables

    first, second = Study.load(study), Study.load(other)
    output = given.output()
    if given.as_json:
        output.show_json(comparison_summary(first, second))
    else:
        output.show(*comparison_tables(first, second), *caveats(first, second))


def _landscapes(study: str, other: str, given: Given, *, are_both: bool) -> None:
    from dsaccel.analysis.foretelling import Foretelling
    from dsaccel.analysis.landscape_files import read_landscape
    from dsaccel.report.foretelling import (
        foretelling_sentences,
        foretelling_summary,
        foretelling_tables,
    )

    if not are_both:
        raise ConfigError(
            f"{study} and {other} must be two studies or two landscapes, but only one is named as "
            "the file of a landscape is (.csv, .csv.gz, .parquet)"
        )
    found = Foretelling(read_landscape(study), read_landscape(other))
    output = given.output()
    if given.as_json:
        output.show_json(foretelling_summary(found))
    else:
        output.show(*foretelling_tables(found), *foretelling_sentences(found))
