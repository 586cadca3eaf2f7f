"""`dsaccel pareto`: accuracy against what it costs."""

from pathlib import Path
from typing import Annotated

import typer

from dsaccel.cli.options import Given, StudyName, takes
from dsaccel.files import check_target


@takes("budget.against", "--json")
def pareto(
    study: StudyName,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Draw the front: .html.")
    ] = None,
    *,
    given: Given,
) -> None:
    """Show which hierarchies nothing beats in accuracy and cost.

    Without --against: the cost that the study was searched against, else parameters.
    """
    from dsaccel.analysis.pareto import find_cost, pareto_points
    from dsaccel.api import Study
    from dsaccel.report.pareto import front_summary, front_table, write_front

    against = given.settings.get("budget.against")
    if against is not None:
        find_cost(against)  # a mistake in it is told before one in the study
    if output is not None:
        check_target(output)
    searched = Study.load(study)
    against = against or searched.config.budget.against or "parameters"
    cost = find_cost(against)
    points = pareto_points(searched.record, cost)
    if output is not None:
        write_front(points, cost, searched.name, output)
    shown = given.output()
    if given.as_json:
        shown.show_json(front_summary(points, searched.name, against))
        return
    shown.show(front_table(points, cost))
    if output is not None:
        shown.show(str(output))
