"""Trials as markers: by what became of them, with what is known of them."""

from collections.abc import Iterator
from typing import Any

from dsaccel.report.figures.style import BLUE, GREEN, GREY, INK, ORANGE, SKY, VERMILION, label
from dsaccel.study.rows import Kind, Row
from dsaccel.text import amount, percent

MARKERS: dict[Kind, dict[str, Any]] = {
    "complete": {"symbol": "circle", "color": BLUE, "size": 9},
    "harvested": {"symbol": "diamond", "color": GREEN, "size": 10},
    "reference": {"symbol": "square", "color": ORANGE, "size": 10},
    "infeasible": {"symbol": "triangle-down", "color": SKY, "size": 11},
    "pruned": {"symbol": "circle-open", "color": GREY, "size": 8},
    "running": {"symbol": "circle-open-dot", "color": INK, "size": 9},
    "waiting": {"symbol": "circle-open-dot", "color": GREY, "size": 9},
    "failed": {"symbol": "x-thin-open", "color": INK, "size": 8},
}
RING = {"symbol": "circle-open", "color": VERMILION, "size": 18, "line": {"width": 2.5}}
LABELS: dict[Kind, str] = {
    "infeasible": "outside the constraint",
    "pruned": "pruned (last accuracy)",
    "running": "running (last accuracy)",
}


def is_drawable(row: Row) -> bool:
    # where a failed trial stopped says when it broke, not what its hierarchy can do
    return row.accuracy is not None and row.kind != "failed"


def by_kind(rows: list[Row]) -> Iterator[tuple[Kind, list[Row]]]:
    for kind in MARKERS:
        group = [row for row in rows if row.kind == kind]
        if group:
            yield kind, group


def markers(kind: Kind, group: list[Row]) -> dict[str, Any]:
    return {
        "mode": "markers",
        "name": LABELS.get(kind, kind),
        "marker": MARKERS[kind] | {"line": {"width": 1.6 if "open" in str(MARKERS[kind]) else 0}},
        "hovertext": [hover(row) for row in group],
        "hoverinfo": "text",
    }


def hover(row: Row) -> str:
    parts = [
        f"<b>{label(row.hierarchy)}</b>  {percent(row.accuracy)}",
        f"trial {row.number}, {row.state}",
    ]
    if row.num_parameters:
        parts.append(f"{amount(row.num_parameters)} parameters")
    if row.shallow_scale is not None:
        parts.append(f"shallow scale {row.shallow_scale:.2f}")
    return "<br>".join(parts)
