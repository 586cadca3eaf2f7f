"""The Pareto front on a terminal, as JSON and on a page."""

from pathlib import Path
from typing import Any

from dsaccel.analysis.pareto import Point
from dsaccel.report.figures.pareto import cost_text, pareto_figure
from dsaccel.report.page import Section, write_page
from dsaccel.report.table import Table
from dsaccel.spec.costs import Cost
from dsaccel.text import percent


def front_table(points: list[Point], cost: Cost) -> Table:
    """The front, the cheapest first."""
    front = [point for point in points if point.is_on_front]
    return Table(
        ("hierarchy", "val accuracy", cost.title),
        [(p.row.hierarchy, percent(p.accuracy), cost_text(cost, p.cost)) for p in front],
        caption=f"{len(front)} of {len(points)} complete trials",
    )


def front_summary(points: list[Point], study: str, against: str) -> dict[str, Any]:
    """What `dsaccel pareto --json` prints."""
    front = [
        {"hierarchy": p.row.hierarchy, "val_accuracy": p.accuracy, against: p.cost}
        for p in points
        if p.is_on_front
    ]
    return {"study": study, "against": against, "num_trials": len(points), "front": front}


def write_front(points: list[Point], cost: Cost, study: str, path: Path) -> None:
    """Write the front's page, whole or not at all."""
    table = front_table(points, cost)
    about = (
        f"Study {study}: validation accuracy against {cost.title}. The front holds the complete "
        "trials that are beaten by none that is as accurate and costs less, or costs as much and "
        "is more accurate. One seed: neighbours within the noise may change places."
    )
    sections = [Section(figure=pareto_figure(points, cost), name="pareto"), Section(table=table)]
    write_page(path, f"Accuracy against {cost.title}", sections, about=about)
