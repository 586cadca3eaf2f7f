"""Accuracy per hierarchy, best on top."""

import plotly.graph_objects as go

from dsaccel.report.figures.style import GRID, PERCENT, PURPLE, StudyFigure, blank_figure, label
from dsaccel.report.figures.trials import RING, by_kind, is_drawable, markers
from dsaccel.study.record import StudyRecord
from dsaccel.study.rows import Row, best_row, read_rows, standard_error
from dsaccel.text import percent


def hierarchy_figure(study: StudyRecord, limit: int = 40) -> go.Figure:
    """The best `limit` hierarchies and every reference, best on top, a dot each."""
    better: dict[str, Row] = {}
    for row in filter(is_drawable, read_rows(study)):
        # best first: of a hierarchy that was tried twice the better outcome stands
        better.setdefault(row.hierarchy, row)
    baseline, best = study.baseline, best_row(list(better.values()))
    rows = [
        row
        for rank, row in enumerate(better.values())
        if rank < limit or row.kind == "reference" or row is best
    ]
    figure = blank_figure("validation accuracy", "", height=120 + 23 * max(len(rows), 3))
    figure.update_xaxes(**PERCENT)
    # a category: plotly would take 2-1-1 for a date
    labels = [label(row.hierarchy) for row in rows]
    figure.update_yaxes(
        type="category", categoryorder="array", categoryarray=labels[::-1], dtick=1, ticksuffix="  "
    )
    for kind, group in by_kind(rows):
        figure.add_scatter(
            x=[row.accuracy for row in group],
            y=[label(row.hierarchy) for row in group],
            **markers(kind, group),
        )
    if best:
        figure.add_scatter(
            x=[best.accuracy],
            y=[label(best.hierarchy)],
            mode="markers",
            name="best",
            hoverinfo="skip",
            marker=RING,
        )
        error = standard_error(study, best.accuracy)
        if error and best.accuracy is not None:
            figure.add_vrect(
                best.accuracy - error, best.accuracy, fillcolor=GRID, line_width=0, layer="below"
            )
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


HIERARCHIES = StudyFigure(
    "hierarchies",
    "Accuracy per hierarchy",
    "Best on top, at most 40 and the references; the table below has every trial. The ring marks "
    "the best, and the grey band reaches one standard error below it, if that is known.",
    hierarchy_figure,
)
