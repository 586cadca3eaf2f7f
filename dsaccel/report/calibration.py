"""A calibration on a terminal, as JSON, as settings, and on a page."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import tomli_w
from rich.console import Group

from dsaccel.analysis.agreement import Agreement
from dsaccel.analysis.pruning_advice import Calibrated
from dsaccel.files import write_text
from dsaccel.report.calibration_words import NAMES, verdict
from dsaccel.report.figures.calibration import importance_figure, rungs_figure, stages_figure
from dsaccel.report.page import Section, write_page
from dsaccel.report.table import Table, interval_text
from dsaccel.spec.rung import RankedBy

MAX_ROWS = 8
"""Rungs in a terminal; the page and the JSON have all."""


def calibration_tables(result: Calibrated) -> Group:
    """What `dsaccel calibrate` prints."""
    tables = [
        replace(table, title=f"Rungs, ranked by {NAMES[by]}", rows=_few(table.rows))
        for by, table in rung_tables(result)
    ]
    tables.append(
        Table(
            _headings("stage", result.ranks.num_top),
            [(str(row.stage), *_cells(row.agreement)) for row in result.stages],
            title="Last head of each stage, fully trained",
            words=(),
        )
    )
    # without the share in the better half, for the width of a terminal
    tables = [table.without_column(4) for table in tables]
    tables.append(
        Table(
            ("stage", "share of variance", "by chance", "one more block, points"),
            [
                (
                    str(row.stage),
                    interval_text(row.share),
                    f"{row.chance:.2f}",
                    interval_text(row.slope, 100),
                )
                for row in result.importances
            ],
            title="Importance of stages for the final accuracy",
            words=(),
        )
    )
    return Group(*(replace(table, plain=True) for table in tables))


def rung_tables(result: Calibrated) -> list[tuple[RankedBy, Table]]:
    """A table for each ranking, a row a rung."""
    headings = _headings(result.ranks.step_name, result.ranks.num_top)
    return [
        (by, Table(headings, [(str(row.step), *_cells(row.agreement)) for row in rows], words=()))
        for by, rows in result.by_ranking()
    ]


def calibration_summary(result: Calibrated) -> dict[str, Any]:
    """What `dsaccel calibrate --json` prints; intervals as mean, low and high."""
    ranks, advice = result.ranks, result.advice
    return {
        "seeds": list(ranks.seeds),
        "num_hierarchies": len(ranks.hierarchies),
        "num_top": ranks.num_top,
        "noise": ranks.noise,
        "ceiling": asdict(result.ceiling),
        "between_seeds": result.ranks.between_seeds(),
        "rungs": [asdict(row) for row in result.rungs],
        "stages": [asdict(row) for row in result.stages],
        "importances": [asdict(row) for row in result.importances],
        "trusted_from": dict(advice.first),
        "pruning": pruning_table(result),
        "expected": advice.cheapest
        and {
            "loss": asdict(advice.cheapest.loss),
            "kept": asdict(advice.cheapest.kept),
            "work": advice.cheapest.work,
        },
        "verdict": verdict(result),
    }


def write_calibration(result: Calibrated, name: str, path: Path) -> None:
    """Write the page, whole or not at all."""
    step = result.ranks.step_name
    sections = [
        Section(lines=verdict(result)),
        Section("Settings", "For a study file.", code=_toml(result)),
        Section(
            "Agreement with the final ranking",
            f"After each {step}: with the end of its own run, and with that of the other seeds.",
            figure=rungs_figure(result),
            name="rungs",
        ),
        Section(
            "Last head of each stage", "Fully trained.", figure=stages_figure(result), name="stages"
        ),
        Section(
            "What one more block does",
            "In each stage, to the final accuracy.",
            figure=importance_figure(result),
            name="importance",
        ),
    ]
    for by, table in rung_tables(result):
        caption = "Means, with intervals in brackets."
        sections.append(Section(f"Ranked by {NAMES[by]}", caption, table=table))
    about = f"Calibration of {name}: how well rungs foretell the end, without pruning."
    write_page(path, f"How far pruning can be trusted: {name}", sections, about=about)


def write_pruning(result: Calibrated, path: Path) -> None:
    """Write the settings as a piece of a study file."""
    words = "".join(f"# {sentence}\n" for sentence in verdict(result))
    write_text(path, words + _toml(result))


def _toml(result: Calibrated) -> str:
    return tomli_w.dumps({"pruning": pruning_table(result)})


def pruning_table(result: Calibrated) -> dict[str, Any]:
    """The section `pruning` of a study file that follows."""
    setting = result.advice.cheapest
    if setting is None:
        return {"kind": "none"}
    keys = {"kind", "by", "reduction_factor", "grace_epochs"}
    return setting.pruning.model_dump(mode="json", include=keys, exclude_none=True)


def _few(rows: Sequence[Sequence[str]]) -> Sequence[Sequence[str]]:
    """The rows that a terminal shows, the first and the last among them."""
    if len(rows) <= MAX_ROWS:
        return rows
    places = {round(i * (len(rows) - 1) / (MAX_ROWS - 1)) for i in range(MAX_ROWS)}
    return [rows[place] for place in sorted(places)]


def _headings(what: str, num_top: int) -> tuple[str, ...]:
    return (
        what,
        "tau-b, own run",
        "tau-b, other seeds",
        f"top {num_top} recalled",
        "in better half",
        "halving loses, points",
    )


def _cells(a: Agreement) -> tuple[str, ...]:
    shares = (interval_text(i) for i in (a.own, a.other, a.recall, a.kept))
    return (*shares, interval_text(a.loss, 100))
