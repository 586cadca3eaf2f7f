"""Effects as a table, in sentences and as a picture."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import plotly.graph_objects as go

from dsaccel.paper.effects import Effect
from dsaccel.report.figures.style import BLUE, INK, blank_figure, label
from dsaccel.report.table import Table, ends_text

HEADINGS = ("claim", "points", "95 % interval", "seeds", "by these seeds it")
CAPTION = "mean over seeds, paired, of a block where a block is meant; each interval is for itself"


def effects_table(effects: Sequence[Effect]) -> Table:
    """A row for each effect."""
    rows = [_cells(effect) for effect in effects]
    return Table(HEADINGS, rows, words=(0, 4), wide=(0, 4), caption=CAPTION)


def reasons(effects: Sequence[Effect]) -> list[str]:
    """Why some cannot be tested, each reason once."""
    return list(dict.fromkeys(effect.why_not for effect in effects if effect.why_not))


def effect_record(effect: Effect) -> dict[str, Any]:
    """An effect as JSON."""
    measured = effect.measured
    return {
        "claim": effect.claim,
        "by_seed": dict(effect.by_seed),
        "measured": measured and asdict(measured),
        "verdict": effect.verdict,
        "why_not": effect.why_not,
    }


def effects_figure(effects: Sequence[Effect]) -> go.Figure:
    """Means with their 95 % intervals, in points."""
    figure = blank_figure("points", "", height=120 + 46 * len(effects))
    figure.update_yaxes(autorange="reversed")
    drawn = [(effect, effect.measured) for effect in effects if effect.measured is not None]
    names = [label(effect.claim) for effect, _ in drawn]
    means = [100 * measured.mean for _, measured in drawn]
    half = [
        0.0 if measured.high is None else 100 * (measured.high - measured.mean)
        for _, measured in drawn
    ]
    figure.add_scatter(
        x=means,
        y=names,
        error_x={"type": "data", "array": half},
        mode="markers",
        marker={"color": BLUE, "size": 10},
        showlegend=False,
    )
    figure.add_vline(x=0, line={"color": INK, "width": 1})
    return figure


def _cells(effect: Effect) -> tuple[str, ...]:
    measured = effect.measured
    if measured is None:
        return (effect.claim, "-", "-", "0", effect.verdict)
    std = "" if measured.std is None else f" ± {100 * measured.std:.2f}"
    mean = f"{100 * measured.mean:+.2f}{std}"
    return (effect.claim, mean, ends_text(measured), str(measured.n), effect.verdict)
