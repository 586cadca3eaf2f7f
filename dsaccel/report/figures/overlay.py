"""Networks over one another, in both modes: the reader chooses which."""

from typing import ClassVar

import plotly.graph_objects as go
from pydantic import Field

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
    whole_numbers,
)
from dsaccel.study.record import StudyRecord
from dsaccel.study.rows import Row, best_row, read_rows

STYLES: tuple[tuple[Mode, str, str], ...] = (("local", "", "solid"), ("global", ", global", "dash"))
COLORS = (VERMILION, BLUE, GREEN, ORANGE, PURPLE, SKY)


class Overlay(Figure):
    """Each network where it is read, step by step: layer-wise as a line, by back-propagation
    dashed. A click on a name shows or hides it, a double click shows it alone.
    """

    title: ClassVar = "Networks over one another"
    limit: int = Field(default=24, ge=1)
    """Networks that the reader can choose from, the best first; the references come beside them."""

    def draw(self, study: StudyRecord) -> go.Figure:
        rows = read_rows(study)
        figure = blank_figure(study.step_name, "validation accuracy", height=480)
        figure.update_yaxes(**PERCENT)
        figure.update_xaxes(**whole_numbers(max((row.step or 0 for row in rows), default=0)))
        figure.update_layout(legend={"maxheight": 0.4, "font": {"size": 12}})
        curves = _curves(study, rows)
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
                    hovertemplate=f"{name}<br>{study.step_name} %{{x}}: %{{y:.2%}}<extra></extra>",
                )
        return figure


def _curves(study: StudyRecord, rows: list[Row]) -> dict[tuple[str, Mode], dict[int, float]]:
    """Network -> step -> accuracy, where the study reads it; under back-propagation there is but
    the output layer, and there are but epochs.
    """
    found: dict[tuple[str, Mode], dict[int, float]] = {}
    for row in rows:
        first = (row.step or 0) - len(row.head_accuracies) + 1
        is_above = study.exit == "head" and row.has_output
        read = {
            step: heads[-2 if is_above and len(heads) > 1 else -1]
            for step, heads in enumerate(row.head_accuracies, first)
            if heads
        }
        found[row.hierarchy, "local"] = {s: value for s, value in read.items() if value is not None}
    for hierarchy in study.all_trained_globally if study.step_name == "epoch" else ():
        points = study.global_points(hierarchy)
        found[str(hierarchy), "global"] = {point.epoch: point.val_accuracy for point in points}
    return {name: curve for name, curve in found.items() if curve}
