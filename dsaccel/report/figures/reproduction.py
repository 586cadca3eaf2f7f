"""The paper's figures, drawn of what was trained here."""

import plotly.graph_objects as go

from dsaccel.families import Mode
from dsaccel.paper.compare import Comparison, RowResult
from dsaccel.report.figures.style import (
    BLUE,
    GREEN,
    ORANGE,
    PERCENT,
    PURPLE,
    SKY,
    VERMILION,
    blank_figure,
    label,
    spread,
    whole_numbers,
)

COLORS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
MODE_STYLES: dict[Mode, tuple[str, str, str, str]] = {
    "local": ("layer-wise", BLUE, "circle", "solid"),
    "global": ("back-propagation", VERMILION, "diamond", "dash"),
}


def accuracy_figure(comparison: Comparison) -> go.Figure:
    """Each row in both modes, with the standard deviation over seeds (the paper's Figure 1)."""
    figure = blank_figure("", "accuracy", height=480, y=PERCENT)
    figure.update_xaxes(type="category", tickangle=-35)
    for mode, (name, color, symbol, _) in MODE_STYLES.items():
        drawn = [(r, s) for r in comparison.results if (s := r.summary(mode)) is not None]
        figure.add_scatter(
            x=[_name(result) for result, _ in drawn],
            y=[summary.mean for _, summary in drawn],
            error_y=spread(s for _, s in drawn),
            mode="markers",
            name=name,
            marker={"color": color, "symbol": symbol, "size": 10},
        )
    return figure


def published_figure(comparison: Comparison) -> go.Figure:
    """The accuracy here against the paper's: rows in the same order rise."""
    figure = blank_figure(
        "accuracy in the paper", "accuracy here", height=460, x=PERCENT, y=PERCENT
    )
    for mode, (name, color, symbol, _) in MODE_STYLES.items():
        drawn = [(r, s) for r in comparison.results if (s := r.summary(mode)) is not None]
        figure.add_scatter(
            x=[result.row.published[mode] for result, _ in drawn],
            y=[summary.mean for _, summary in drawn],
            error_y=spread(s for _, s in drawn),
            mode="markers",
            name=name,
            marker={"color": color, "symbol": symbol, "size": 10},
            hovertext=[_name(result) for result, _ in drawn],
            hoverinfo="text",
        )
    return figure


def error_figure(comparison: Comparison, num_epochs: int) -> go.Figure:
    """The output layer's error after each epoch, mean over seeds (the paper's Figures 4 and 5)."""
    figure = blank_figure("epoch", "error", height=520, y=PERCENT)
    figure.update_xaxes(**whole_numbers(num_epochs))
    for number, result in enumerate(comparison.results):
        for mode, (mode_name, _, _, dash) in MODE_STYLES.items():
            curves = [trained.errors for trained in result.by_seed[mode].values()]
            if not curves:
                continue
            means = [sum(errors) / len(errors) for errors in zip(*curves, strict=True)]
            figure.add_scatter(
                x=list(range(1, len(means) + 1)),
                y=means,
                mode="lines",
                name=f"{label(result.row.model)}, {mode_name}",
                line={"color": COLORS[number % len(COLORS)], "dash": dash, "width": 2},
            )
    return figure


def _name(result: RowResult) -> str:
    return label(f"{result.row.model} {result.row.hierarchy} ({result.row.dataset})")
