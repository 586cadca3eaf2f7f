"""`dsaccel pareto`: accuracy against what it costs."""

from pathlib import Path
from typing import Annotated

import typer

from dsaccel.cli import options
from dsaccel.cli.common import StudyName, consoles, print_json, stored_study
from dsaccel.errors import ConfigError


def pareto(
    study: StudyName,
    against: Annotated[
        str | None,
        typer.Option(
            help="parameters, flops, losses, memory or gap (to global). Default: what the study "
            "was searched against, else parameters."
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Draw the front: .html.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Show which hierarchies nothing beats in accuracy and cost."""
    from dsaccel.analysis.pareto import find_cost, pareto_points
    from dsaccel.report.pareto import front_summary, front_table, write_front
    from dsaccel.study.storage import quiet_optuna

    if against is not None:
        find_cost(against)  # a mistake in it is told before one in the study
    if output is not None and not output.parent.is_dir():
        raise ConfigError(f"folder {output.parent} must exist to write {output.name} into it")
    directory, config, stored = stored_study(study)
    quiet_optuna()
    against = against or config.budget.against or "parameters"
    cost = find_cost(against)
    points = pareto_points(stored, cost)
    if output is not None:
        write_front(points, cost, directory.name, output)
    if as_json:
        print_json(front_summary(points, directory.name, against))
        return
    consoles(as_json)[1].print(front_table(points, cost).on_terminal())
    if output is not None:
        print(output)
