"""Networks over one another, in both modes: the reader chooses which."""

from typing import ClassVar

import plotly.graph_objects as go
from pydantic import Field

from dsaccel.errors import NoResultError
from dsaccel.families import Mode
from dsaccel.report.figures import Figure
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
)
from dsaccel.study.curves import CurvePoint, read_curves
from dsaccel.study.record import StudyRecord
from dsaccel.study.rows import best_row, read_rows

STYLES: tuple[tuple[Mode, str, str], ...] = (("local", "", "solid"), ("global", ", global", "dash"))
COLORS = (VERMILION, BLUE, GREEN, ORANGE, PURPLE, SKY)
Name = tuple[str, Mode]


class Overlay(Figure):
    """Each network where it is read, epoch by epoch: layer-wise as a line, by back-propagation
    dashed. A click on a name shows or hides it, a double click shows it alone.
    """

    title: ClassVar = "Networks over one another"
    limit: int = Field(default=24, ge=1)
    """Networks that the reader can choose from, the best first; the references come beside them."""

    def draw(self, study: StudyRecord) -> go.Figure:
        figure = blank_figure("epoch", "validation accuracy", height=480)
        figure.update_yaxes(**PERCENT)
        figure.update_layout(legend={"maxheight": 0.4, "font": {"size": 12}})
        curves, rows = _curves(study), read_rows(study)
        best = best_row(rows)
        first = [row.hierarchy for row in rows if row is best or row.kind == "reference"]
        ranked = dict.fromkeys([*first, *(row.hierarchy for row in rows)])
        names = [name for name in ranked if (name, "local") in curves or (name, "global") in curves]
        for place, hierarchy in enumerate(names[: self.limit + len(first)]):
            for mode, words, dash in STYLES:
                if (by_epoch := curves.get((hierarchy, mode))) is None:
                    continue
                name = label(f"{hierarchy}{words}")
                figure.add_scatter(
                    x=list(by_epoch),
                    y=list(by_epoch.values()),
                    mode="lines" if len(by_epoch) > 1 else "markers",
                    name=name,
                    visible=True if hierarchy in first else "legendonly",
                    line={"color": COLORS[place % len(COLORS)], "dash": dash, "width": 2.2},
                    hovertemplate=f"{name}<br>epoch %{{x}}: %{{y:.2%}}<extra></extra>",
                )
        return figure


def _curves(study: StudyRecord) -> dict[Name, dict[int, float]]:
    """Network -> epoch -> accuracy, where the study reads it."""
    try:
        points = read_curves(study)
    except NoResultError:
        return {}
    found: dict[Name, dict[int, float]] = {}
    for point in points:
        curve = found.setdefault((point.hierarchy, point.mode), {})
        # the heads of an epoch come in order of depth: the last one that counts stays
        if point.val_accuracy is not None and _is_read(point, study):
            curve[point.epoch] = point.val_accuracy
    return {name: curve for name, curve in found.items() if curve}


def _is_read(point: CurvePoint, study: StudyRecord) -> bool:
    """Whether a head may stand for its network; one under back-propagation has no other."""
    return point.mode == "global" or (point.head == "output") == (study.exit != "head")
