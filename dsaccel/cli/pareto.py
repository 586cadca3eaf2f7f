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
    """Show which hierarchies nothing beats in accuracy and costs.

    Without --against: the costs that the study was searched against, else parameters.
    """
    from dsaccel.analysis.pareto import read_front
    from dsaccel.api import Study
    from dsaccel.report.pareto import front_summary, front_table, write_front
    from dsaccel.spec.costs import find_costs

    against = given.settings.get("budget.against")
    if isinstance(against, str):
        against = [against]
    costs = find_costs(against or ())  # a mistake in it is told before one in the study
    if output is not None:
        check_target(output)
    searched = Study.load(study)
    costs = costs or searched.config.budget.costs or find_costs(["parameters"])
    front = read_front(searched.record, costs)
    if output is not None:
        write_front(front, searched.name, output)
    shown = given.output()
    if given.as_json:
        shown.show_json(front_summary(front, searched.name))
        return
    shown.show(front_table(front))
    if output is not None:
        shown.show(str(output))
