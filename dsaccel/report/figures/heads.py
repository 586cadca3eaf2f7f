"""Every local head over the rungs, of a trial that the reader chooses."""

from itertools import zip_longest
from typing import Any, ClassVar

import plotly.graph_objects as go
from plotly.colors import sample_colorscale
from pydantic import Field

from dsaccel.report.figures import Figure
from dsaccel.report.figures.style import (
    DEPTH_COLORS,
    PERCENT,
    VERMILION,
    blank_figure,
    color_bar,
    whole_numbers,
)
from dsaccel.study.record import StudyRecord
from dsaccel.study.rows import Row, best_row, read_rows
from dsaccel.text import percent


class Heads(Figure):
    """Each head classifies from the features of its own layer: its accuracy says how well they
    separate the classes.
    """

    title: ClassVar = "Every local head over the {step}s"
    needs: ClassVar = "a trial with heads"
    limit: int = Field(default=20, ge=1)
    """Trials of which the reader can choose one; the references come beside them."""

    def draw(self, study: StudyRecord) -> go.Figure:
        rows = heads_rows(study, self.limit)
        step_name = study.step_name
        figure = blank_figure(step_name, "validation accuracy", height=440, y=PERCENT)
        figure.update_xaxes(**whole_numbers(max((row.step or 0 for row in rows), default=0)))
        for row in rows:
            # a head may be read first at a later rung, but from then on at each
            first = (row.step or 0) - len(row.head_accuracies) + 1
            heads = list(zip_longest(*row.head_accuracies))
            num_local = len(heads) - row.has_output
            for depth, accuracies in enumerate(heads):
                is_output = depth == num_local
                name = "output layer" if is_output else f"local head {depth + 1} of {num_local}"
                color = VERMILION if is_output else _depth_color(depth, num_local)
                num_read = sum(accuracy is not None for accuracy in accuracies)
                figure.add_scatter(
                    x=list(range(first, first + len(accuracies))),
                    y=list(accuracies),
                    # a line of one point is not drawn
                    mode="lines" if num_read > 1 else "markers",
                    name=name,
                    meta=row.number,
                    visible=row is rows[0],
                    line={"color": color, "width": 3 if is_output else 1.8},
                    marker={"color": color},
                    hovertemplate=f"{name}<br>{step_name} %{{x}}: %{{y:.2%}}<extra></extra>",
                    showlegend=is_output,
                )
        if rows:
            _add_depth_bar(figure)
        return figure

    def more(self, study: StudyRecord) -> dict[str, Any]:
        rows = heads_rows(study, self.limit)
        names = [f"{row.hierarchy}, {percent(row.accuracy)}, {row.state}" for row in rows]
        return {"choices": [(row.number, name) for row, name in zip(rows, names, strict=True)]}


def heads_rows(study: StudyRecord, limit: int = 20) -> list[Row]:
    """The trials of `heads_figure`: the best, then the next best, and every reference."""
    rows = [row for row in read_rows(study) if row.head_accuracies]
    best = best_row(rows)
    rows.sort(key=lambda row: row is not best)
    return [row for rank, row in enumerate(rows) if rank < limit or row.kind == "reference"]


def _depth_color(depth: int, num_local: int) -> str:
    position = depth / (num_local - 1) if num_local > 1 else 1.0
    return str(sample_colorscale(DEPTH_COLORS, [position])[0])


def _add_depth_bar(figure: go.Figure) -> None:
    """One colour bar in place of a legend line for each head."""
    bar = color_bar("local heads") | {"tickvals": [0, 1], "ticktext": ["shallow", "deep"]}
    scale = [[i / 8, color] for i, color in enumerate(DEPTH_COLORS)]
    figure.add_scatter(
        x=[None],
        y=[None],
        mode="markers",
        marker={"color": [0, 1], "colorscale": scale, "colorbar": bar},
        hoverinfo="skip",
        showlegend=False,
    )
