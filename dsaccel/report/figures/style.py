"""Colours, axes and labels of all figures; plotly reads no HTML in the labels.

Accuracies are fractions in a figure's data and percent on its ticks.
"""

from collections.abc import Iterable
from html import escape
from typing import Any

import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from dsaccel.statistics import Summary

# Okabe and Ito's palette: colours that stay apart for colour-blind readers
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILION, PURPLE = "#0072B2", "#D55E00", "#CC79A7"
INK, GREY, GRID = "#1f2933", "#7b8794", "#e4e7eb"
FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'

# the light end of viridis is left out: yellow does not show on white
DEPTH_COLORS = sample_colorscale("Viridis", [0.88 - 0.88 * step / 8 for step in range(9)])

# the little above 100 % keeps a marker there whole
PERCENT = {"tickformat": ".1~%", "minallowed": -0.02, "maxallowed": 1.02}


def blank_figure(
    x_title: str,
    y_title: str,
    height: int,
    *,
    x: dict[str, Any] | None = None,
    y: dict[str, Any] | None = None,
) -> go.Figure:
    """A figure without data; `x` and `y` are what its axes have of their own."""
    axis = {"gridcolor": GRID, "zeroline": False, "linecolor": GREY, "automargin": True}
    return go.Figure(
        layout={
            "template": "none",
            "font": {"family": FONT, "size": 14, "color": INK},
            "height": height,
            "margin": {"l": 10, "r": 10, "t": 30, "b": 10},
            "xaxis": axis | {"title": {"text": x_title, "standoff": 12}} | (x or {}),
            "yaxis": axis | {"title": {"text": y_title, "standoff": 12}} | (y or {}),
            "legend": {"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom"},
            "showlegend": True,
            # a drag scrolls the page on a phone; to zoom in would trap the finger
            "dragmode": False,
        }
    )


def spread(summaries: Iterable[Summary]) -> dict[str, Any]:
    """Error bars: the standard deviation of each summary."""
    return {"type": "data", "array": [summary.std or 0 for summary in summaries]}


def whole_numbers(num_values: int) -> dict[str, Any]:
    """Axis settings: no ticks at halves of trials, epochs or heads."""
    return {"dtick": 1} if num_values <= 10 else {}


def color_bar(title: str) -> dict[str, Any]:
    return {
        "title": {"text": title, "side": "right"},
        "thickness": 12,
        "outlinewidth": 0,
        "len": 0.9,
    }


def label(text: str) -> str:
    """Text of a study in a figure: plotly would read it as HTML."""
    return escape(text)
