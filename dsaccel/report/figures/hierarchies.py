"""Accuracy per hierarchy, best on top."""

from typing import ClassVar

import plotly.graph_objects as go
from pydantic import Field

from dsaccel.report.figures import Figure
from dsaccel.report.figures.style import GRID, PERCENT, PURPLE, blank_figure, label
from dsaccel.report.figures.trials import RING, by_kind, is_drawable, markers
from dsaccel.study.record import StudyRecord
from dsaccel.study.rows import Row, best_row, read_rows, standard_error
from dsaccel.text import percent


class Hierarchies(Figure):
    """The best hierarchies, best on top, and the references; the table below has every trial. The
    ring marks the best, and the grey band reaches one standard error below it, if that is known.
    """

    title: ClassVar = "Accuracy per hierarchy"
    limit: int = Field(default=40, ge=1)
    """Hierarchies that are drawn beside the references."""

    def draw(self, study: StudyRecord) -> go.Figure:
        better: dict[str, Row] = {}
        for row in filter(is_drawable, read_rows(study)):
            # best first: of a hierarchy that was tried twice the better outcome stands
            better.setdefault(row.hierarchy, row)
        baseline, best = study.baseline, best_row(list(better.values()))
        rows = [
            row
            for rank, row in enumerate(better.values())
            if rank < self.limit or row.kind == "reference" or row is best
        ]
        figure = blank_figure(
            "validation accuracy", "", height=120 + 23 * max(len(rows), 3), x=PERCENT
        )
        # a category: plotly would take 2-1-1 for a date
        labels = [label(row.hierarchy) for row in reversed(rows)]
        order = {"type": "category", "categoryorder": "array", "categoryarray": labels}
        figure.update_yaxes(order, dtick=1, ticksuffix="  ")
        for kind, group in by_kind(rows):
            figure.add_scatter(
                x=[row.accuracy for row in group],
                y=[label(row.hierarchy) for row in group],
                **markers(kind, group),
            )
        if best:
            _ring(figure, best, standard_error(study, best.accuracy))
        if rows and baseline:
            figure.add_scatter(
                x=[baseline.accuracy],
                y=[label(baseline.hierarchy)],
                mode="markers",
                name="global back-propagation",
                marker={"symbol": "star", "color": PURPLE, "size": 14},
                hovertext=[f"{label(baseline.hierarchy)}, global: {percent(baseline.accuracy)}"],
                hoverinfo="text",
            )
        return figure


def _ring(figure: go.Figure, best: Row, error: float | None) -> None:
    figure.add_scatter(
        x=[best.accuracy],
        y=[label(best.hierarchy)],
        mode="markers",
        name="best",
        hoverinfo="skip",
        marker=RING,
    )
    if error and best.accuracy is not None:
        ends = best.accuracy - error, best.accuracy
        figure.add_vrect(*ends, fillcolor=GRID, line_width=0, layer="below")
