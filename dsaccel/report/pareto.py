"""The Pareto front of a study: what is more accurate than all that cost no more.

The stored study keeps accuracy as its one objective, for Optuna prunes none that has several. The
front is read off its complete trials, by Optuna's own rule of dominance.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import plotly.graph_objects as go
from optuna import Study
from optuna.trial import FrozenTrial, TrialState, create_trial
from rich.table import Table
from rich.text import Text

from dsaccel.errors import ConfigError, NoResultError
from dsaccel.report.figures import BLUE, GREY, PERCENT, VERMILION, blank_figure, label
from dsaccel.report.page import figure_html, table_html, write_page
from dsaccel.spec.costs import COSTS, Cost
from dsaccel.study.rows import Row, number, read_rows
from dsaccel.text import count, percent


@dataclass(frozen=True)
class Point:
    """A complete trial in the plane of accuracy and cost."""

    row: Row
    accuracy: float
    cost: float
    is_on_front: bool


def find_cost(name: str) -> Cost:
    """A cost by its name.

    Raises:
        ConfigError: if there is none of that name.
    """
    if name not in COSTS:
        raise ConfigError(f"--against must be one of {', '.join(COSTS)}, but got {name!r}")
    return COSTS[name]


def pareto_points(study: Study, cost: Cost) -> list[Point]:
    """All feasible complete trials with their cost, the cheapest first, then the most accurate.

    Raises:
        NoResultError: if no complete trial has recorded the cost.
    """
    trials = study.get_trials(deepcopy=False)
    points: list[tuple[float, float, Row]] = []
    for row in read_rows(study):
        value = number(trials[row.number].user_attrs.get(cost.attribute))
        if row.may_be_best and row.accuracy is not None and value is not None:
            points.append((value, -row.accuracy, row))
    if not points:
        raise NoResultError(
            f"study {study.study_name} must have complete trials with their {cost.title}, but none "
            f"has; {cost.needs}"
        )
    points.sort(key=lambda point: point[:2])
    plane = _plane([(-negative, value) for value, negative, _ in points])
    front = {trial.number for trial in plane}
    return [
        Point(row, -negative, value, number in front)
        for number, (value, negative, row) in enumerate(points)
    ]


def _plane(values: list[tuple[float, float]]) -> list[FrozenTrial]:
    """Optuna's best trials of accuracies (to maximize) and costs (to minimize)."""
    study = optuna.create_study(directions=["maximize", "minimize"])
    study.add_trials([create_trial(state=TrialState.COMPLETE, values=pair) for pair in values])
    return study.best_trials


def pareto_figure(points: list[Point], cost: Cost) -> go.Figure:
    """Accuracy against cost, the front as a stair: what can be had for at most so much."""
    figure = blank_figure(cost.title, "validation accuracy", height=460)
    figure.update_yaxes(**PERCENT)
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
        text=[label(point.row) for point in front],
        textposition="top left",
        textfont={"size": 12},
        cliponaxis=False,
        hoverinfo="skip",
        showlegend=False,
    )
    return figure


def front_table(points: list[Point], cost: Cost) -> Table:
    """The front in a terminal, the cheapest first."""
    front = [point for point in points if point.is_on_front]
    table = Table(caption=f"{len(front)} of {len(points)} complete trials", caption_justify="left")
    table.add_column("hierarchy", overflow="fold")
    for heading in ("val accuracy", cost.title):
        table.add_column(heading, justify="right")
    for point in front:
        table.add_row(*map(Text, _cells(point, cost)))
    return table


def front_summary(points: list[Point], study: str, against: str) -> dict[str, Any]:
    """What `dsaccel pareto --json` prints."""
    front = [
        {"hierarchy": p.row.hierarchy, "val_accuracy": p.accuracy, against: p.cost}
        for p in points
        if p.is_on_front
    ]
    return {"study": study, "against": against, "num_trials": len(points), "front": front}


def write_front(points: list[Point], cost: Cost, study: str, path: Path) -> None:
    """Write the front's page, whole or not at all."""
    front = [_cells(point, cost) for point in points if point.is_on_front]
    about = (
        f"Study {study}: validation accuracy against {cost.title}. {len(front)} of {len(points)} "
        "complete trials are beaten by none that is as accurate and costs less, or costs as much "
        "and is more accurate. One seed: neighbours within the noise may change places."
    )
    parts = [
        figure_html(pareto_figure(points, cost), "pareto"),
        table_html(("hierarchy", "val accuracy", cost.title), front),
    ]
    write_page(path, f"Accuracy against {cost.title}", about, parts)


def _hover(point: Point, cost: Cost) -> str:
    text = cost_text(cost, point.cost)
    return f"<b>{label(point.row)}</b>  {percent(point.accuracy)}<br>{text}"


def _cells(point: Point, cost: Cost) -> tuple[str, ...]:
    return point.row.hierarchy, percent(point.accuracy), cost_text(cost, point.cost)


def cost_text(cost: Cost, value: float) -> str:
    """As a reader wants it."""
    if cost is COSTS["memory"]:
        return f"{value / 2**20:.1f} MiB"
    if cost is COSTS["gap"]:
        return f"{100 * value:.2f} points"
    return count(value)
