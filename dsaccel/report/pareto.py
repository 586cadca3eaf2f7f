"""The Pareto front on a terminal, as JSON and on a page."""

from pathlib import Path
from typing import Any

from dsaccel.analysis.pareto import Front, Point
from dsaccel.report.figures.pareto import cost_text, growth_figure, pareto_figure
from dsaccel.report.page import Section, write_page
from dsaccel.report.table import Table
from dsaccel.spec.costs import COSTS
from dsaccel.text import counted, percent


def front_table(front: Front) -> Table:
    """The front, the cheapest first, and back-propagation below it."""
    rows = [_cells(front, point) for point in front.best]
    headings = ["hierarchy", "val accuracy", *(cost.title for cost in front.costs)]
    if front.rivals:
        rows = [(*cells, ", ".join(p.beaten_by)) for cells, p in zip(rows, front.best, strict=True)]
        rows += [(*_cells(front, rival), "") for rival in front.rivals]
        headings.append("beaten by")
    return Table(
        tuple(headings),
        rows,
        caption=" ".join([_counts(front), *sentences(front)]),
        words=(0, len(headings) - 1) if front.rivals else (0,),
        breaks=(len(front.best),) if front.rivals else (),
    )


def sentences(front: Front) -> list[str]:
    """What back-propagation says of the front, if it was trained."""
    if not front.rivals:
        return []
    beaten = [point for point in front.best if point.beaten_by]
    return [
        f"{len(beaten)} of the {counted(len(front.best), 'network')} on the front are beaten by "
        "back-propagation: it is as accurate at no more cost, and better in one of these."
    ]


def front_summary(front: Front, study: str) -> dict[str, Any]:
    """What `dsaccel pareto --json` prints."""
    names = [name for name, cost in COSTS.items() if cost in front.costs]
    names.sort(key=lambda name: front.costs.index(COSTS[name]))

    def record(point: Point) -> dict[str, Any]:
        costs = dict(zip(names, point.costs, strict=True))
        return {"hierarchy": point.name, "val_accuracy": point.accuracy} | costs

    return {
        "study": study,
        "against": ",".join(names),
        "num_trials": len(front.points),
        "front": [record(p) | {"beaten_by": list(p.beaten_by)} for p in front.best],
        "rivals": list(map(record, front.rivals)),
    }


def write_front(front: Front, study: str, path: Path) -> None:
    """Write the front's page, whole or not at all."""
    titles = " and ".join(cost.title for cost in front.costs)
    about = (
        f"Study {study}: validation accuracy against {titles}. The front holds the complete "
        "trials that are beaten by none that is as accurate and costs less, or costs as much and "
        "is more accurate. One seed: neighbours within the noise may change places."
    )
    sections = [
        Section(figure=pareto_figure(front, index), name=f"pareto-{index + 1}")
        for index in range(len(front.costs))
    ]
    sections.append(Section(table=front_table(front)))
    if len(front.points) > 1:
        caption = (
            "The hypervolume that the front holds, above the lowest accuracy and below the highest "
            "costs, after each trial."
        )
        figure = growth_figure(front)
        sections.append(Section("How the front grew", caption, figure=figure, name="growth"))
    write_page(path, f"Accuracy against {titles}", sections, about=about)


def _cells(front: Front, point: Point) -> tuple[str, ...]:
    costs = zip(front.costs, point.costs, strict=True)
    shown = [cost_text(cost, value) for cost, value in costs]
    return (point.name, percent(point.accuracy), *shown)


def _counts(front: Front) -> str:
    return f"{len(front.best)} of {len(front.points)} complete trials"
