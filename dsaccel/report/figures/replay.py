"""Regret against blocks trained, with bands."""

from collections.abc import Sequence

import plotly.graph_objects as go

from dsaccel.analysis.replay import Policy
from dsaccel.analysis.replay_policies import Outcome, mean_course
from dsaccel.report.figures.style import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION, blank_figure

COLORS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
"""A strategy each."""
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
"""A cohort size each."""


def replay_figure(outcomes: Sequence[Outcome]) -> go.Figure:
    """A line for each policy: what its search has yet to find when so many blocks are trained."""
    figure = blank_figure("blocks trained", "mean regret (accuracy)", height=520)
    figure.update_yaxes(tickformat=".2~%", rangemode="tozero")
    strategies = list(dict.fromkeys(o.policy.strategy for o in outcomes))
    sizes = list(dict.fromkeys(o.policy.cohort_size for o in outcomes))
    for outcome in outcomes:
        policy = outcome.policy
        color = COLORS[strategies.index(policy.strategy) % len(COLORS)]
        dash = DASHES[sizes.index(policy.cohort_size) % len(DASHES)]
        _add_course(figure, outcome, color, dash)
    return figure


def _add_course(figure: go.Figure, outcome: Outcome, color: str, dash: str) -> None:
    points = mean_course(outcome)
    blocks = [num for num, _ in points]
    name = _name(outcome.policy)
    figure.add_scatter(
        x=blocks + blocks[::-1],
        y=[e.high for _, e in points] + [e.low for _, e in points][::-1],
        fill="toself",
        fillcolor=color,
        opacity=0.12,
        line={"width": 0, "shape": "hv"},
        hoverinfo="skip",
        showlegend=False,
        legendgroup=name,
    )
    figure.add_scatter(
        x=blocks,
        y=[estimate.mean for _, estimate in points],
        # a single cohort is a point, not a line
        mode="lines" if len(points) > 1 else "markers",
        line={"color": color, "dash": dash, "width": 2, "shape": "hv"},
        marker={"color": color, "size": 10},
        name=name,
        legendgroup=name,
    )


def _name(policy: Policy) -> str:
    if policy.beam_width is not None:
        return f"beam of width {policy.beam_width}"
    return f"{policy.strategy}, cohorts of {policy.cohort_size}"
