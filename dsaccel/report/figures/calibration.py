"""A calibration: how well rungs, stages and blocks foretell the final accuracy."""

from collections.abc import Sequence

import plotly.graph_objects as go

from dsaccel.analysis.pruning_advice import Calibrated
from dsaccel.report.calibration_words import NAMES
from dsaccel.report.figures.style import BLUE, GREEN, VERMILION, blank_figure, whole_numbers
from dsaccel.spec.rung import RankedBy
from dsaccel.statistics import Interval

COLORS: dict[RankedBy, str] = {"head": BLUE, "output": VERMILION, "ensemble": GREEN}


def rungs_figure(result: Calibrated) -> go.Figure:
    """Tau-b over the rungs: with the run's own end (bands: intervals) and with other seeds'."""
    figure = blank_figure(result.ranks.step_name, "tau-b with the final ranking", height=460)
    figure.update_xaxes(**whole_numbers(result.ranks.landscape.num_steps))
    for by, rows in result.by_ranking():
        x = [row.step for row in rows]
        own = [row.agreement.own for row in rows]
        figure.add_scatter(
            x=x + x[::-1],
            y=[i.high for i in own] + [i.low for i in own][::-1],
            fill="toself", fillcolor=COLORS[by], opacity=0.15, line={"width": 0},
            hoverinfo="skip", showlegend=False,
        )  # fmt: skip
        for what, values, dash in (
            ("its own run", own, "solid"),
            ("the other seeds", [row.agreement.other for row in rows], "dot"),
        ):
            figure.add_scatter(
                x=x,
                y=[interval.mean for interval in values],
                mode="lines+markers",
                line={"color": COLORS[by], "dash": dash},
                name=f"{NAMES[by]}: {what}",
            )
    return figure


def stages_figure(result: Calibrated) -> go.Figure:
    """Tau-b of each stage's last head with the final ranking."""
    figure = blank_figure("stage", "tau-b with the final ranking", height=380)
    figure.update_xaxes(dtick=1)
    stages = [row.stage for row in result.stages]
    own = [row.agreement.own for row in result.stages]
    _add_points(figure, stages, own, BLUE, "its own run")
    other = [row.agreement.other for row in result.stages]
    _add_points(figure, [stage + 0.08 for stage in stages], other, GREEN, "the other seeds")
    return figure


def importance_figure(result: Calibrated) -> go.Figure:
    """Accuracy gained by one more block in each stage."""
    figure = blank_figure("stage", "accuracy gained by one more block", height=380)
    figure.update_xaxes(dtick=1)
    figure.update_yaxes(tickformat=".2~%", zeroline=True)
    rows = result.importances
    _add_points(figure, [r.stage for r in rows], [r.slope for r in rows], VERMILION, "slope")
    return figure


def _add_points(
    figure: go.Figure, x: Sequence[float], values: list[Interval], color: str, name: str
) -> None:
    error = {
        "array": [i.high - i.mean for i in values],
        "arrayminus": [i.mean - i.low for i in values],
    }
    figure.add_scatter(
        x=list(x),
        y=[interval.mean for interval in values],
        error_y=error,
        mode="markers",
        marker={"color": color, "size": 9},
        name=name,
    )
