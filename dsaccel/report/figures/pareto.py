"""Accuracy against cost: all complete trials, and the front as a line."""

import plotly.graph_objects as go

from dsaccel.analysis.pareto import Point
from dsaccel.report.figures.style import BLUE, GREY, PERCENT, VERMILION, blank_figure, label
from dsaccel.spec.costs import COSTS, Cost
from dsaccel.text import amount, percent


def pareto_figure(points: list[Point], cost: Cost) -> go.Figure:
    """Accuracy against cost, the front as a stair: what can be had for at most so much."""
    figure = blank_figure(cost.title, "validation accuracy", height=460, y=PERCENT)
    figure.update_xaxes(tickformat=".1~%" if cost is COSTS["gap"] else ".3~s")
    front = [point for point in points if point.is_on_front]
    others = [point for point in points if not point.is_on_front]
    for name, group, color, size in (
        ("dominated", others, GREY, 7),
        ("Pareto front", front, VERMILION, 11),
    ):
        figure.add_scatter(
            x=[point.cost for point in group],
            y=[point.accuracy for point in group],
            mode="markers",
            name=name,
            marker={"color": color, "size": size},
            hovertext=[_hover(point, cost) for point in group],
            hoverinfo="text",
        )
    figure.add_scatter(
        x=[point.cost for point in front],
        y=[point.accuracy for point in front],
        mode="lines+text",
        line={"shape": "hv", "color": BLUE, "width": 1.5},
        text=[label(point.row.hierarchy) for point in front],
        textposition="top left",
        textfont={"size": 12},
        cliponaxis=False,
        hoverinfo="skip",
        showlegend=False,
    )
    return figure


def _hover(point: Point, cost: Cost) -> str:
    text = cost_text(cost, point.cost)
    return f"<b>{label(point.row.hierarchy)}</b>  {percent(point.accuracy)}<br>{text}"


def cost_text(cost: Cost, value: float) -> str:
    """A cost with its unit."""
    if cost is COSTS["memory"]:
        return f"{value / 2**20:.1f} MiB"
    if cost is COSTS["gap"]:
        return f"{100 * value:.2f} points"
    if cost is COSTS["shallow_scale"]:
        return f"{value:.3f}"
    return amount(value)
