"""A confirmation: paired differences from the best finalist, with intervals."""

from typing import Any, ClassVar

import plotly.graph_objects as go

from dsaccel.confirm.result import Comparison, Confirmation, Split, read_confirmation
from dsaccel.families import Mode
from dsaccel.report.confirmation_table import confirmation_table
from dsaccel.report.figures import Figure
from dsaccel.report.figures.style import BLUE, GREY, ORANGE, PURPLE, blank_figure, label
from dsaccel.report.verdict import RESOLUTION, difference_text, role_text, sentences
from dsaccel.study.record import StudyRecord

STYLES: dict[tuple[Split, Mode], tuple[str, str, str]] = {
    ("val", "local"): ("layer-wise, validation", BLUE, "circle"),
    ("test", "local"): ("layer-wise, test", ORANGE, "diamond"),
    ("val", "global"): ("global, validation", PURPLE, "circle-open"),
    ("test", "global"): ("global, test", GREY, "diamond-open"),
}


class ConfirmationFigure(Figure):
    """Finalists, references and controls trained again with fresh seeds. A dot is the mean
    difference from the best finalist over the seeds, paired; the line its 95 % interval. Without a
    line, and with ? in the table: it was measured once, or is the same at every seed, and cannot be
    judged.
    """

    title: ClassVar = "Confirmation"
    needs: ClassVar = "a confirmation"

    def draw(self, study: StudyRecord) -> go.Figure:
        return confirmation_figure(read_confirmation(study))

    def more(self, study: StudyRecord) -> dict[str, Any]:
        confirmation = read_confirmation(study)
        assert confirmation is not None
        table = confirmation_table(confirmation)
        return {"lines": sentences(confirmation, RESOLUTION), "table": table}


def confirmation_figure(confirmation: Confirmation | None) -> go.Figure:
    """A row a network, a dot and its 95 % interval for each split and mode; empty before."""
    results = confirmation.results() if confirmation else []
    names = list(dict.fromkeys(result.entry.name for result in results))
    figure = blank_figure(
        "points above the best finalist trained layer-wise", "", height=150 + 46 * len(names)
    )
    if confirmation is None or confirmation.best is None:
        return figure
    # a category: plotly would take 2-1-1 for a date
    figure.update_yaxes(
        type="category", categoryorder="array", categoryarray=names[::-1], dtick=1, ticksuffix="  "
    )
    for (split, mode), (name, color, symbol) in STYLES.items():
        drawn = [
            (result, comparison)
            for result in results
            if result.mode == mode and (comparison := result.comparisons.get((split, "best")))
        ]
        if not drawn:
            continue
        reach = [_reach(comparison) for _, comparison in drawn]
        figure.add_scatter(
            x=[100 * comparison.paired.mean for _, comparison in drawn],
            y=[label(result.entry.name) for result, _ in drawn],
            error_x={"type": "data", "array": reach, "color": color},
            mode="markers",
            name=name,
            marker={"color": color, "symbol": symbol, "size": 9},
            hovertext=[
                f"<b>{label(result.entry.name)}</b>, {name}<br>{role_text(result)}<br>"
                f"{difference_text(comparison)}"
                for result, comparison in drawn
            ],
            hoverinfo="text",
        )
    figure.add_vline(0, line={"color": GREY, "width": 1.5, "dash": "dash"})
    # modes and splits of one network beside each other, not on top of each other
    figure.update_layout(scattermode="group", scattergap=0.4)
    return figure


def _reach(comparison: Comparison) -> float | None:
    """Half the interval, in points; None, which draws no line, if there is none."""
    difference = comparison.paired
    return None if difference.high is None else 100 * (difference.high - difference.mean)
