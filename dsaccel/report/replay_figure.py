"""A replay as a table and as one page that needs no network: regret against blocks trained."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from rich.table import Table
from rich.text import Text

from dsaccel.analysis.replay import Policy
from dsaccel.analysis.replay_policies import Outcome, mean_course
from dsaccel.report.figures import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION, blank_figure
from dsaccel.report.page import figure_html, table_html, write_page
from dsaccel.statistics import Interval

COLORS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
"""A strategy each."""
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
"""A cohort size each."""
HEADINGS = ("strategy", "cohort", "regret, points", "found, %", "blocks", "of all")
NOTE = (
    "Means over seeds with 95 % intervals in brackets: percentile bootstrap over the seeds, "
    "Wilson's for the share of seeds that found the optimum. Last column: blocks trained over "
    "those of the whole space in one trie."
)


def outcome_table(outcomes: Sequence[Outcome]) -> Table:
    """What `dsaccel replay` prints."""
    table = Table(caption=NOTE, caption_justify="left")
    for i, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="left" if i == 0 else "right")
    for outcome in outcomes:
        table.add_row(*map(Text, _cells(outcome)))
    return table


def outcome_summary(outcome: Outcome) -> dict[str, Any]:
    """An outcome for `dsaccel replay --json`: estimates as mean, low and high."""
    policy = outcome.policy
    estimates = ("regret", "found", "blocks", "blocks_share")
    return {
        "strategy": policy.strategy,
        "cohort_size": policy.cohort_size,
        "n_trials": policy.n_trials,
        "pruning": policy.pruning.kind,
        "beam_width": policy.beam_width,
        "num_seeds": outcome.num_seeds,
        **{name: asdict(getattr(outcome, name)) for name in estimates},
    }


def write_replay(outcomes: Sequence[Outcome], landscape_name: str, path: Path) -> None:
    """Write the page, whole or not at all."""
    policy = outcomes[0].policy
    about = (
        f"{landscape_name}: {outcomes[0].num_seeds} search seeds, {policy.n_trials} trials, "
        f"pruning {policy.pruning.kind}"
    )
    parts = [
        figure_html(replay_figure(outcomes), "replay"),
        table_html(HEADINGS, map(_cells, outcomes)),
        f"<p>{NOTE} A band is the interval of the mean regret. A block that is trained for half of "
        "the schedule counts a half.</p>",
    ]
    write_page(path, "Regret against blocks trained", about, parts)


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


def _cells(outcome: Outcome) -> tuple[str, ...]:
    return (
        " ".join(map(str, filter(None, (outcome.policy.strategy, outcome.policy.beam_width)))),
        str(outcome.policy.cohort_size),
        _interval(outcome.regret, 100, 2),
        _interval(outcome.found, 100, 0),
        _interval(outcome.blocks, 1, 1),
        f"{100 * outcome.blocks_share.mean:.0f} %",
    )


def _interval(estimate: Interval, factor: float, digits: int) -> str:
    mean, low, high = (
        f"{factor * value:.{digits}f}" for value in (estimate.mean, estimate.low, estimate.high)
    )
    return f"{mean} [{low}, {high}]"
