"""Accuracy against a cost: all complete trials, the front, and back-propagation."""

import warnings

import plotly.graph_objects as go
from optuna.exceptions import ExperimentalWarning
from optuna.visualization import plot_hypervolume_history

from dsaccel.analysis.pareto import Front, Point
from dsaccel.report.figures.style import (
    BLACK,
    BLUE,
    GREY,
    PERCENT,
    VERMILION,
    blank_figure,
    label,
    whole_numbers,
)
from dsaccel.spec.costs import COSTS, Cost
from dsaccel.text import amount, percent


def pareto_figure(front: Front, index: int = 0) -> go.Figure:
    """Accuracy against one of the costs. Of a single cost the front is a stair: what can be had for
    at most so much; of several, a network may be on it for another cost.
    """
    cost, best = front.costs[index], front.best
    figure = blank_figure(cost.title, "validation accuracy", height=460, y=PERCENT)
    figure.update_xaxes(tickformat=".1~%" if cost is COSTS["gap"] else ".3~s")
    others = [point for point in front.points if not point.is_on_front]
    groups = [
        ("dominated", others, {"color": GREY, "size": 7}),
        ("Pareto front", best, {"color": VERMILION, "size": 11}),
    ]
    if front.rivals:
        marker = {"color": BLACK, "size": 12, "symbol": "x"}
        groups.append(("back-propagation", list(front.rivals), marker))
    for name, group, marker in groups:
        figure.add_scatter(
            x=[point.costs[index] for point in group],
            y=[point.accuracy for point in group],
            mode="markers",
            name=name,
            marker=marker,
            hovertext=[_hover(point, front.costs) for point in group],
            hoverinfo="text",
        )
    figure.add_scatter(
        x=[point.costs[index] for point in best],
        y=[point.accuracy for point in best],
        mode="lines+text" if len(front.costs) == 1 else "text",
        line={"shape": "hv", "color": BLUE, "width": 1.5},
        text=[label(point.name) for point in best],
        textposition="top left",
        textfont={"size": 12},
        cliponaxis=False,
        hoverinfo="skip",
        showlegend=False,
    )
    return figure


def growth_figure(front: Front) -> go.Figure:
    """Optuna's history of the front's hypervolume."""
    lowest = min(point.accuracy for point in front.points)
    highest = [max(values) for values in zip(*(p.costs for p in front.points), strict=True)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        drawn = plot_hypervolume_history(front.plane, [lowest, *highest])
    num = len(front.points)
    figure = blank_figure("trial", "hypervolume", height=340, x=whole_numbers(num))
    values = drawn.data[0].y  # pyright: ignore[reportAttributeAccessIssue]
    figure.add_scatter(x=list(range(1, num + 1)), y=list(values), line={"color": BLUE})
    figure.update_layout(showlegend=False)
    return figure


def _hover(point: Point, costs: tuple[Cost, ...]) -> str:
    shown = (cost_text(cost, value) for cost, value in zip(costs, point.costs, strict=True))
    return f"<b>{label(point.name)}</b>  {percent(point.accuracy)}<br>{'<br>'.join(shown)}"


def cost_text(cost: Cost, value: float) -> str:
    """A cost with its unit."""
    if cost is COSTS["memory"]:
        return f"{value / 2**20:.1f} MiB"
    if cost is COSTS["time"]:
        return f"{1000 * value:.1f} ms"
    if cost is COSTS["gap"]:
        return f"{100 * value:.2f} points"
    if cost is COSTS["shallow_scale"]:
        return f"{value:.3f}"
    return amount(value)
