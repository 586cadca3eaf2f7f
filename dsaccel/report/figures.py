"""Pictures of a study; each is a plotly figure, empty if there is nothing to show yet.

Accuracies are fractions on the axes' data and percent on their ticks. Text from the study is
escaped, for plotly reads labels as HTML.
"""

from collections.abc import Iterator
from html import escape
from itertools import accumulate
from typing import Any

import plotly.graph_objects as go
from optuna import Study
from plotly.colors import sample_colorscale

from dsaccel.study.rows import Kind, Row, best_row, read_baseline, read_rows, standard_error
from dsaccel.text import count, percent

# Okabe and Ito's palette: colours that stay apart for colour-blind readers
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILION, PURPLE = "#0072B2", "#D55E00", "#CC79A7"
INK, GREY, GRID = "#1f2933", "#7b8794", "#e4e7eb"
FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'

# the light end of viridis is left out: yellow does not show on white
DEPTH_COLORS = sample_colorscale("Viridis", [0.88 - 0.88 * step / 8 for step in range(9)])

# the little above 100 % keeps a marker there whole
PERCENT = {"tickformat": ".1~%", "minallowed": -0.02, "maxallowed": 1.02}

MARKERS: dict[Kind, dict[str, Any]] = {
    "complete": {"symbol": "circle", "color": BLUE, "size": 9},
    "harvested": {"symbol": "diamond", "color": GREEN, "size": 10},
    "reference": {"symbol": "square", "color": ORANGE, "size": 10},
    "infeasible": {"symbol": "triangle-down", "color": SKY, "size": 11},
    "pruned": {"symbol": "circle-open", "color": GREY, "size": 8},
    "running": {"symbol": "circle-open-dot", "color": INK, "size": 9},
    "waiting": {"symbol": "circle-open-dot", "color": GREY, "size": 9},
    "failed": {"symbol": "x-thin-open", "color": INK, "size": 8},
}
RING = {"symbol": "circle-open", "color": VERMILION, "size": 18, "line": {"width": 2.5}}
LABELS: dict[Kind, str] = {
    "infeasible": "outside the constraint",
    "pruned": "pruned (last accuracy)",
    "running": "running (last accuracy)",
}


def history_figure(study: Study) -> go.Figure:
    """Every trial in its order, and the best so far; those without an accuracy at the bottom."""
    trials = sorted(read_rows(study), key=lambda row: row.number)
    rows = [row for row in trials if _is_drawable(row)]
    others = [row for row in trials if not _is_drawable(row)]
    figure = blank_figure("trial", "validation accuracy", height=430)
    figure.update_xaxes(**whole_numbers(len(trials)))
    figure.update_yaxes(**PERCENT)
    best_so_far = [row for row in rows if row.may_be_best]
    if best_so_far:
        values = accumulate((row.accuracy or 0 for row in best_so_far), max)
        steps = [(row.number, value) for row, value in zip(best_so_far, values, strict=True)]
        # to the last trial: the best stands until somebody beats it
        steps.append((trials[-1].number, steps[-1][1]))
        x, y = zip(*steps, strict=True)
        line = {"shape": "hv", "color": VERMILION, "width": 2}
        figure.add_scatter(x=x, y=y, mode="lines", name="best so far", line=line, hoverinfo="skip")
    for kind, group in _by_kind(rows):
        figure.add_scatter(
            x=[row.number for row in group],
            y=[row.accuracy for row in group],
            **_markers(kind, group),
        )
    for kind, group in _by_kind(others):
        style = _markers(kind, group)
        figure.add_scatter(x=[row.number for row in group], y=[0] * len(group), yaxis="y2", **style)
    figure.update_layout(yaxis2={"overlaying": "y", "range": [-0.03, 1], "visible": False})
    baseline = read_baseline(study)
    if rows and baseline:
        figure.add_hline(
            baseline.accuracy,
            line={"color": PURPLE, "width": 1.5, "dash": "dash"},
            annotation={
                "text": f"global back-propagation, {escape(baseline.hierarchy)}",
                "font": {"color": "#9c4a77"},
            },
            annotation_position="top left",
            annotation_xshift=6,
        )
    return figure


def hierarchy_figure(study: Study, limit: int = 40) -> go.Figure:
    """The best `limit` hierarchies and every reference, best on top, a dot each."""
    better: dict[str, Row] = {}
    for row in filter(_is_drawable, read_rows(study)):
        # best first: of a hierarchy that was tried twice the better outcome stands
        better.setdefault(row.hierarchy, row)
    baseline, best = read_baseline(study), best_row(list(better.values()))
    rows = [
        row
        for rank, row in enumerate(better.values())
        if rank < limit or row.kind == "reference" or row is best
    ]
    figure = blank_figure("validation accuracy", "", height=120 + 23 * max(len(rows), 3))
    figure.update_xaxes(**PERCENT)
    # a category: plotly would take 2-1-1 for a date
    labels = [label(row) for row in rows]
    figure.update_yaxes(
        type="category", categoryorder="array", categoryarray=labels[::-1], dtick=1, ticksuffix="  "
    )
    for kind, group in _by_kind(rows):
        figure.add_scatter(
            x=[row.accuracy for row in group],
            y=[label(row) for row in group],
            **_markers(kind, group),
        )
    if best:
        figure.add_scatter(
            x=[best.accuracy],
            y=[label(best)],
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
            y=[escape(baseline.hierarchy)],
            mode="markers",
            name="global back-propagation",
            marker={"symbol": "star", "color": PURPLE, "size": 14},
            hovertext=[f"{escape(baseline.hierarchy)}, global: {percent(baseline.accuracy)}"],
            hoverinfo="text",
        )
    return figure


def parameters_figure(study: Study) -> go.Figure:
    """Complete trials: accuracy against parameters, coloured by shallow scale (eq. 8)."""
    trials = read_rows(study)
    rows = [row for row in trials if row.is_complete and row.accuracy is not None]
    rows = [row for row in rows if row.num_parameters is not None]
    figure = blank_figure("parameters", "validation accuracy", height=420)
    figure.update_yaxes(**PERCENT)
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
        hovertext=[_hover(row) for row in rows],
        hoverinfo="text",
        showlegend=False,
    )
    best = best_row(trials)
    if best and best.num_parameters is not None:
        figure.add_scatter(
            x=[best.num_parameters],
            y=[best.accuracy],
            mode="markers+text",
            text=[f"<b>{label(best)}</b>"],
            textposition="top center",
            cliponaxis=False,
            textfont={"color": "#a84700"},
            hoverinfo="skip",
            showlegend=False,
            marker=RING,
        )
    return figure


def color_bar(title: str) -> dict[str, Any]:
    return {
        "title": {"text": title, "side": "right"},
        "thickness": 12,
        "outlinewidth": 0,
        "len": 0.9,
    }


def blank_figure(x_title: str, y_title: str, height: int) -> go.Figure:
    axis = {"gridcolor": GRID, "zeroline": False, "linecolor": GREY, "automargin": True}
    return go.Figure(
        layout={
            "template": "none",
            "font": {"family": FONT, "size": 14, "color": INK},
            "height": height,
            "margin": {"l": 10, "r": 10, "t": 30, "b": 10},
            "xaxis": axis | {"title": {"text": x_title, "standoff": 12}},
            "yaxis": axis | {"title": {"text": y_title, "standoff": 12}},
            "legend": {"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom"},
            "showlegend": True,
            # a drag scrolls the page on a phone; to zoom in would trap the finger
            "dragmode": False,
        }
    )


def whole_numbers(num_values: int) -> dict[str, Any]:
    """Axis settings: no ticks at halves of trials, epochs or heads."""
    return {"dtick": 1} if num_values <= 10 else {}


def label(row: Row) -> str:
    return escape(row.hierarchy)


def _is_drawable(row: Row) -> bool:
    # where a failed trial stopped says when it broke, not what its hierarchy can do
    return row.accuracy is not None and row.kind != "failed"


def _by_kind(rows: list[Row]) -> Iterator[tuple[Kind, list[Row]]]:
    for kind in MARKERS:
        group = [row for row in rows if row.kind == kind]
        if group:
            yield kind, group


def _markers(kind: Kind, group: list[Row]) -> dict[str, Any]:
    return {
        "mode": "markers",
        "name": LABELS.get(kind, kind),
        "marker": MARKERS[kind] | {"line": {"width": 1.6 if "open" in str(MARKERS[kind]) else 0}},
        "hovertext": [_hover(row) for row in group],
        "hoverinfo": "text",
    }


def _hover(row: Row) -> str:
    parts = [f"<b>{label(row)}</b>  {percent(row.accuracy)}", f"trial {row.number}, {row.state}"]
    if row.num_parameters:
        parts.append(f"{count(row.num_parameters)} parameters")
    if row.shallow_scale is not None:
        parts.append(f"shallow scale {row.shallow_scale:.2f}")
    return "<br>".join(parts)
