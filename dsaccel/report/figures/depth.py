"""Accuracy by depth: how it grows from head to head."""

from collections.abc import Sequence
from itertools import cycle
from typing import ClassVar

import plotly.graph_objects as go
from pydantic import Field

from dsaccel.report.figures import Figure
from dsaccel.report.figures.heads import heads_rows
from dsaccel.report.figures.style import (
    BLACK,
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


class Depth(Figure):
    """Each head at the end of training, of the best few and of the first references. A large dot is
    the last head of a stage, the star the last one of all, mostly the output layer.
    """

    title: ClassVar = "Accuracy by depth"
    needs: ClassVar = "a complete trial with heads"
    num_best: int = Field(default=4, ge=1)
    """Hierarchies that are drawn beside the references."""

    def draw(self, study: StudyRecord) -> go.Figure:
        rows = [row for row in heads_rows(study) if row.is_complete and row.accuracy is not None]
        references = [row for row in rows if row.kind == "reference"][:2]
        rows = [row for row in rows if row not in references][: self.num_best] + references
        figure = blank_figure(
            "head, from shallow to deep", "validation accuracy", height=440, y=PERCENT
        )
        num_heads = max((len(row.head_accuracies[-1]) for row in rows), default=0)
        figure.update_xaxes(**whole_numbers(num_heads), range=[0.5, num_heads + 0.5])
        colors = cycle((VERMILION, BLUE, GREEN, SKY, ORANGE, PURPLE, BLACK))
        for row in rows:
            heads = row.head_accuracies[-1]
            borders = stage_borders(row.head_stages)
            sizes = [12 if depth in borders else 5 for depth in range(1, len(heads))]
            is_reference = row.kind == "reference"
            figure.add_scatter(
                x=list(range(1, len(heads) + 1)),
                y=heads,
                mode="lines+markers",
                name=label(row.hierarchy) + (" (reference)" if is_reference else ""),
                line={"color": next(colors), "width": 2, "dash": "dot" if is_reference else None},
                marker={
                    "size": [*sizes, 13],
                    "symbol": ["circle"] * (len(heads) - 1) + ["star"],
                    "line": {"width": 0},
                    # plotly dims markers of unequal sizes
                    "opacity": 1,
                },
                hovertemplate=f"{label(row.hierarchy)}<br>head %{{x}}: %{{y:.2%}}<extra></extra>",
            )
        return figure


def stage_borders(head_stages: Sequence[int]) -> list[int]:
    """The last local head (1-based) of each stage; 0 stands for no stage."""
    last = {stage: depth for depth, stage in enumerate(head_stages, 1) if stage > 0}
    return list(last.values())
