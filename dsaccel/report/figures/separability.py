"""Separability by layer and over the epochs."""

from collections.abc import Sequence

import plotly.graph_objects as go

from dsaccel.families import Mode
from dsaccel.paper.layers import HybridsOfRow, LayersOfRow, What
from dsaccel.report.figures.style import (
    BLUE,
    PERCENT,
    VERMILION,
    blank_figure,
    color_bar,
    label,
    spread,
)

STYLES: dict[Mode, tuple[str, str, str]] = {
    "local": ("layer-wise", BLUE, "solid"),
    "global": ("back-propagation", VERMILION, "dash"),
}


def probe_figure(rows: Sequence[LayersOfRow]) -> go.Figure:
    """Probes of all layers after the last epoch, one choice a row; bars are standard deviations."""
    figure = blank_figure("", "validation accuracy of a linear probe", height=480, y=PERCENT)
    return _by_layer(figure, rows, "probe")


def scatter_figure(rows: Sequence[LayersOfRow]) -> go.Figure:
    """The ratio of scatters of all layers after the last epoch, one choice a row."""
    figure = blank_figure("", "between-class / within-class scatter", height=480)
    return _by_layer(figure, rows, "scatter")


def rank_figure(rows: Sequence[LayersOfRow]) -> go.Figure:
    """The effective rank of all layers after the last epoch, one choice a row."""
    figure = blank_figure("", "effective rank", height=480)
    figure.update_yaxes(rangemode="tozero")
    return _by_layer(figure, rows, "rank")


def time_figure(rows: Sequence[LayersOfRow]) -> go.Figure:
    """Probes by layer and epoch, both modes beside each other, one choice a row."""
    figure = blank_figure("", "epoch", height=420)
    figure.update_yaxes(type="category")
    for number, row in enumerate(rows):
        for side, mode in enumerate(STYLES):
            epochs = row.epochs
            values = [[summary.mean for summary in row.by_layer(mode, e, "probe")] for e in epochs]
            figure.add_heatmap(
                x=[label(f"{layer}{' ' * side}") for layer in row.layers],
                y=[str(epoch) for epoch in epochs],
                z=values,
                colorscale="Viridis",
                coloraxis="coloraxis",
                name=STYLES[mode][0],
                xaxis=f"x{side + 1}" if side else "x",
                meta=number,
                visible=number == 0,
            )
    titles = [STYLES[mode][0] for mode in STYLES]
    figure.update_layout(
        coloraxis={"colorscale": "Viridis", "colorbar": color_bar("probe")},
        xaxis={"domain": [0, 0.49], "title": {"text": titles[0]}, "tickangle": -60},
        xaxis2={"domain": [0.51, 1], "title": {"text": titles[1]}, "tickangle": -60},
    )
    figure.update_layout(coloraxis_colorbar_tickformat=".0%")
    return figure


def hybrid_figure(rows: Sequence[HybridsOfRow]) -> go.Figure:
    """Accuracy above each frozen prefix, by how prefix (colour) and rest (line) were trained."""
    figure = blank_figure("frozen after stage", "accuracy", height=420, y=PERCENT)
    figure.update_xaxes(dtick=1)
    for number, row in enumerate(rows):
        stages = list(range(1, row.num_stages + 1))
        for prefix, (prefix_name, color, _) in STYLES.items():
            for rest, (rest_name, _, dash) in STYLES.items():
                found = [row.summary(prefix, rest, stage) for stage in stages]
                figure.add_scatter(
                    x=stages,
                    y=[summary.mean for summary in found],
                    error_y=spread(found),
                    mode="lines+markers",
                    name=f"{prefix_name}, then {rest_name}",
                    line={"color": color, "dash": dash},
                    meta=number,
                    visible=number == 0,
                )
    return figure


def _by_layer(figure: go.Figure, rows: Sequence[LayersOfRow], what: What) -> go.Figure:
    figure.update_xaxes(type="category", tickangle=-60)
    for number, row in enumerate(rows):
        for mode, (name, color, dash) in STYLES.items():
            summaries = row.by_layer(mode, row.epochs[-1], what)
            figure.add_scatter(
                x=[label(layer) for layer in row.layers],
                y=[summary.mean for summary in summaries],
                error_y=spread(summaries),
                mode="lines+markers",
                name=name,
                line={"color": color, "dash": dash},
                meta=number,
                visible=number == 0,
            )
    return figure
