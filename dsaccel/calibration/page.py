"""A calibration as one page that needs no network: figures, words, tables."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

import plotly.graph_objects as go
import tomli_w
from plotly.io import to_html
from plotly.offline import get_plotlyjs

from dsaccel.calibration.fidelity import By
from dsaccel.calibration.view import (
    NAMES,
    Calibrated,
    agreement_headings,
    by_ranking,
    cells,
    pruning_table,
    verdict,
)
from dsaccel.files import write_text
from dsaccel.plots.figures import BLUE, FONT, GREEN, VERMILION, blank_figure, whole_numbers
from dsaccel.statistics import Interval

COLORS: dict[By, str] = {"head": BLUE, "output": VERMILION}


def write_calibration(result: Calibrated, name: str, path: Path) -> None:
    """Write the page, whole or not at all."""
    figures = {
        "Agreement with the final ranking": rungs_figure(result),
        "Last head of each stage": stages_figure(result),
        "What one more block does": importance_figure(result),
    }
    pictures = "".join(
        f"<h2>{title}</h2>" + to_html(
            figure,
            full_html=False,
            include_plotlyjs=False,
            div_id=f"figure-{i}",
            config={"responsive": True, "displaylogo": False, "modeBarButtons": [["toImage"]]},
        )
        for i, (title, figure) in enumerate(figures.items())
    )  # fmt: skip
    step = result.fidelity.step_name
    headings = agreement_headings(step, result.fidelity.num_top)
    tables = "".join(
        f"<h2>Ranked by {NAMES[by]}</h2>"
        + _html_table(headings, [(str(r.step), *cells(r.agreement)) for r in rows])
        for by, rows in by_ranking(result)
    )
    words = "".join(f"<p>{escape(sentence)}</p>" for sentence in verdict(result))
    settings = escape(tomli_w.dumps({"pruning": pruning_table(result)}))
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><title>Calibration</title>'
        f"<style>body{{font-family:{FONT};max-width:64rem;margin:2rem auto;padding:0 1rem}}"
        "td,th{padding:.2rem .8rem;text-align:right}td:first-child,th:first-child{text-align:left}"
        f"</style><script>{get_plotlyjs()}</script><h1>How far pruning can be trusted: "
        f"{escape(name)}</h1>{words}<pre>{settings}</pre>{pictures}{tables}</html>"
    )
    write_text(path, page)


def rungs_figure(result: Calibrated) -> go.Figure:
    """Tau-b over the rungs: with the run's own end (bands: intervals) and with other seeds'."""
    figure = blank_figure(result.fidelity.step_name, "tau-b with the final ranking", height=460)
    figure.update_xaxes(**whole_numbers(result.fidelity.landscape.num_steps))
    for by, rows in by_ranking(result):
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


def _html_table(headings: Sequence[str], rows: list[tuple[str, ...]]) -> str:
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    body = "".join("<tr>" + "".join(f"<td>{escape(c)}</td>" for c in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"
