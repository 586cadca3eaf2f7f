"""The search: every trial in its order, and the best so far."""

from itertools import accumulate
from typing import ClassVar

import plotly.graph_objects as go

from dsaccel.report.figures import Figure
from dsaccel.report.figures.style import (
    PERCENT,
    PURPLE,
    VERMILION,
    blank_figure,
    label,
    whole_numbers,
)
from dsaccel.report.figures.trials import by_kind, is_drawable, markers
from dsaccel.study.record import StudyRecord
from dsaccel.study.rows import Row, read_rows


class History(Figure):
    """Every trial in the order in which it was asked for; those without an accuracy are at the
    bottom. The line is the best so far.
    """

    title: ClassVar = "The search"
    needs: ClassVar = "a first trial"

    def draw(self, study: StudyRecord) -> go.Figure:
        trials = sorted(read_rows(study), key=lambda row: row.number)
        rows = [row for row in trials if is_drawable(row)]
        others = [row for row in trials if not is_drawable(row)]
        figure = blank_figure("trial", "validation accuracy", height=430)
        figure.update_xaxes(**whole_numbers(len(trials)))
        figure.update_yaxes(**PERCENT)
        _add_best_so_far(figure, [row for row in rows if row.may_be_best], trials)
        for kind, group in by_kind(rows):
            figure.add_scatter(
                x=[row.number for row in group],
                y=[row.accuracy for row in group],
                **markers(kind, group),
            )
        for kind, group in by_kind(others):
            style = markers(kind, group)
            figure.add_scatter(
                x=[row.number for row in group], y=[0] * len(group), yaxis="y2", **style
            )
        figure.update_layout(yaxis2={"overlaying": "y", "range": [-0.03, 1], "visible": False})
        baseline = study.baseline
        if rows and baseline:
            figure.add_hline(
                baseline.accuracy,
                line={"color": PURPLE, "width": 1.5, "dash": "dash"},
                annotation={
                    "text": f"global back-propagation, {label(baseline.hierarchy)}",
                    "font": {"color": "#9c4a77"},
                },
                annotation_position="top left",
                annotation_xshift=6,
            )
        return figure


def _add_best_so_far(figure: go.Figure, rows: list[Row], trials: list[Row]) -> None:
    """A stair up to the last trial: the best stands until somebody beats it."""
    if not rows:
        return
    numbers = [*(row.number for row in rows), trials[-1].number]
    values = list(accumulate((row.accuracy or 0 for row in rows), max))
    figure.add_scatter(
        x=numbers,
        y=[*values, values[-1]],
        mode="lines",
        name="best so far",
        line={"shape": "hv", "color": VERMILION, "width": 2},
        hoverinfo="skip",
    )
