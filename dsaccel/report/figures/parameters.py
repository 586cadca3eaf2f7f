"""Accuracy against parameters, coloured by where the network downsamples."""

from typing import ClassVar

import plotly.graph_objects as go

from dsaccel.report.figures import Figure
from dsaccel.report.figures.style import DEPTH_COLORS, PERCENT, blank_figure, color_bar, label
from dsaccel.report.figures.trials import RING, hover
from dsaccel.study.record import StudyRecord
from dsaccel.study.rows import best_row, read_rows


class Parameters(Figure):
    """Complete trials. The shallow scale (eq. 8) is the mean side of the first feature maps over
    the input's: the smaller, the earlier the network downsamples.
    """

    title: ClassVar = "Accuracy against parameters"
    needs: ClassVar = "two complete trials"

    def draw(self, study: StudyRecord) -> go.Figure:
        trials = read_rows(study)
        rows = [row for row in trials if row.is_complete and row.accuracy is not None]
        rows = [r for r in rows if r.num_parameters is not None and r.shallow_scale is not None]
        figure = blank_figure("parameters", "validation accuracy", height=420, y=PERCENT)
        figure.update_xaxes(tickformat=".3~s")
        if len(rows) < 2:
            return figure
        figure.add_scatter(
            x=[row.num_parameters for row in rows],
            y=[row.accuracy for row in rows],
            mode="markers",
            marker={
                "size": 11,
                "color": [row.shallow_scale for row in rows],
                "colorscale": [[i / 8, color] for i, color in enumerate(reversed(DEPTH_COLORS))],
                "line": {"width": 1, "color": "white"},
                "colorbar": color_bar("shallow scale"),
            },
            hovertext=[hover(row) for row in rows],
            hoverinfo="text",
            showlegend=False,
        )
        best = best_row(trials)
        if best and best.num_parameters is not None:
            figure.add_scatter(
                x=[best.num_parameters],
                y=[best.accuracy],
                mode="markers+text",
                text=[f"<b>{label(best.hierarchy)}</b>"],
                textposition="top center",
                cliponaxis=False,
                textfont={"color": "#a84700"},
                hoverinfo="skip",
                showlegend=False,
                marker=RING,
            )
        return figure
