"""One page that shows a study, finished or running: what was found, how, and how far to trust it.

The page holds everything it needs (plotly.js once) and fetches nothing. Every text that comes from
the study is escaped.
"""

from collections import Counter
from collections.abc import Mapping
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import plotly.graph_objects as go
from optuna import Study
from plotly.offline import get_plotlyjs

from dsaccel.confirm.result import read_confirmation
from dsaccel.files import write_text
from dsaccel.report import figures, head_figures
from dsaccel.report.confirm_figure import confirmation_figure
from dsaccel.report.confirm_page import CAPTION, confirmation_html
from dsaccel.report.page import figure_html
from dsaccel.report.study_table import accuracy_and_state
from dsaccel.spec.hierarchy import format_value
from dsaccel.study.rows import (
    Row,
    best_row,
    number,
    read_baseline,
    read_rows,
    read_step_name,
    standard_error,
)
from dsaccel.text import count, duration, percent, points

TEMPLATE = Path(__file__).with_name("templates") / "report.html"


def write_report(study: Study, path: Path) -> None:
    """Write the page of a study, whole or not at all."""
    rows = read_rows(study)
    page = Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        plotly_js=get_plotlyjs(),
        study_name=escape(study.study_name),
        status=escape(_status(rows)),
        settings=_settings(study),
        tiles=_tiles(study, rows),
        caveats=_caveats(study, rows),
        sections=_sections(study),
        table=_table(rows, study),
    )
    write_text(path, page)


def _status(rows: list[Row]) -> str:
    if not rows:
        return "No trial has been started yet."
    counts = Counter("complete" if row.is_complete else row.kind for row in rows)
    parts = ", ".join(f"{num} {kind}" for kind, num in counts.items())
    text = f"{len(rows)} {'trial' if len(rows) == 1 else 'trials'}: {parts}."
    if not counts["complete"]:
        text += " No trial has completed yet, so there is no best hierarchy to report."
    elif best_row(rows) is None:
        text += " No completed trial may be called the best: all are outside the constraint."
    return text


def _settings(study: Study) -> str:
    """What was searched, as a definition list; what is not recorded is left out."""
    config = _section(study.user_attrs, "config")
    space, data = _section(config, "space"), _section(config, "data")
    network, training = _section(config, "network"), _section(config, "training")
    bounds = [f"{low}–{high}" for low, high in space.get("num_blocks", [])]
    learning = [network.get("loss"), _text(network.get("granularity"), "per {}")]
    items = {
        "family": _text(space.get("family")) + _text(network.get("width"), ", width {}"),
        "blocks per stage": ", ".join(bounds),
        "searched beside": _searched(_section(space, "settings")),
        "constraint": _text(space.get("constraint")),
        "data": _text(data.get("name")) + _text(data.get("train_images"), ", {} images"),
        "local loss": " ".join(part for part in learning if part),
        "training": _text(training.get("epochs"), "{} epochs, ") + _text(training.get("schedule")),
        "references": _text(config.get("references")),
        "seed": _text(config.get("seed")),
    }
    entries = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(text)}</dd></div>"
        for name, text in items.items()
        if text
    )
    return entries or "<p>The settings of this study are not recorded.</p>"


def _searched(settings: Mapping[str, Any]) -> str:
    """`dropout 0–0.4, loss pred or sim`."""
    texts = []
    for name, searched in settings.items():
        if isinstance(searched, Mapping):
            choices = searched.get("choices")
            ends = "–".join(_text(searched.get(end), "{:g}") for end in ("low", "high"))
            values = " or ".join(map(format_value, choices)) if choices else ends
            texts.append(f"{name.replace('_', ' ')} {values}")
    return ", ".join(texts)


def _tiles(study: Study, rows: list[Row]) -> str:
    """The headline figures."""
    tiles: list[tuple[str, str, str]] = []
    best, baseline = best_row(rows), read_baseline(study)
    if best:
        note = f"{count(best.num_parameters)} parameters, trial {best.number}"
        tiles.append(("best hierarchy", best.hierarchy, note))
        error = standard_error(study, best.accuracy)
        note = f"standard error {100 * error:.2f} points" if error else "output layer, last epoch"
        tiles.append(("validation accuracy", percent(best.accuracy), note))
    if baseline:
        note = f"on {baseline.hierarchy}"
        if best and best.hierarchy == baseline.hierarchy:
            note = f"same hierarchy; layer-wise {points(best.accuracy, baseline.accuracy)}"
        tiles.append(("global back-propagation", percent(baseline.accuracy), note))
    elif best:
        tiles.append(("global back-propagation", "–", "the winner has no baseline (yet)"))
    references = [row for row in rows if row.kind == "reference" and row is not best]
    if references:
        reference = references[0]
        note = reference.hierarchy
        if best:
            note += f"; the winner {points(best.accuracy, reference.accuracy)}"
        tiles.append(("best reference", percent(reference.accuracy), note))
    trained = number(study.user_attrs.get("blocks_trained"))
    separate = number(study.user_attrs.get("blocks_separate"))
    if trained and separate:
        note = f"{trained:,.0f} trained in place of {separate:,.0f}"
        tiles.append(("blocks saved by sharing", f"{separate / trained:.1f}×", note))
    time_s = number(study.user_attrs.get("time_s"))
    if time_s is not None:
        tiles.append(("time", duration(time_s), "the whole search"))
    return "".join(
        f'<div class="tile"><h2>{escape(name)}</h2><p class="value">{escape(value)}</p>'
        f"<p>{escape(note)}</p></div>"
        for name, value, note in tiles
    )


def _caveats(study: Study, rows: list[Row]) -> str:
    """How far the figures can be trusted, in words."""
    if not any(row.accuracy is not None for row in rows):
        return ""
    seed = escape(_text(_section(study.user_attrs, "config").get("seed"), " ({})"))
    caveats = [
        f"Accuracies are of one seed{seed}, on validation images. The best of many on the same "
        "images looks better than it is; "
        + (
            "the test split was read for the confirmation alone."
            if study.user_attrs.get("test_readings")
            else "no test image was read for this page."
        )
    ]
    best = best_row(rows)
    error = standard_error(study, best.accuracy) if best else None
    if best and best.accuracy is not None and error is not None:
        rivals = [row for row in rows if row.is_complete and row is not best]
        close = [
            f"<span>{escape(row.hierarchy)}</span>"
            for row in rivals
            if row.accuracy is not None and abs(row.accuracy - best.accuracy) <= error
        ]
        num_val = study.user_attrs["num_val"]
        verdict = f"{len(close)} other {'hierarchy is' if len(close) == 1 else 'hierarchies are'}"
        some = f" ({', '.join(close[:6])}{', …' if len(close) > 6 else ''})" if close else ""
        caveats.append(
            f"On {num_val:,} validation images the standard error of {percent(best.accuracy)} is "
            f"{100 * error:.2f} points, and a lead below it is noise: {verdict} within it of the "
            f"best{some}."
        )
    elif best:
        caveats.append(
            "A lead below one standard error, the root of p (1 − p) / n for accuracy p on n "
            "images, is noise; how many validation images there were is not recorded in this study."
        )
    if any(row.kind == "pruned" for row in rows):
        by = _section(_section(study.user_attrs, "config"), "pruning").get("by")
        at = "its output layer's" if by == "output" else "its deepest local head's"
        what = "" if by == "output" else "another classifier, "
        caveats.append(
            f"A pruned trial is shown at {at} accuracy when it was pruned: {what}trained less far. "
            "Do not compare it with a complete one."
        )
    items = "".join(f"<li>{caveat}</li>" for caveat in caveats)
    return f'<div class="caveats"><h2>How far to trust this</h2><ul>{items}</ul></div>'


def _sections(study: Study) -> str:
    best = best_row(read_rows(study))
    has_error = best and standard_error(study, best.accuracy)
    band = " The grey band reaches one standard error below it." if has_error else ""
    confirmation = read_confirmation(study)
    sections = [
        _section_html(
            "confirmation", "Confirmation", confirmation_figure(confirmation), CAPTION,
            before=confirmation_html(confirmation),
        ),
        _section_html(
            "history", "The search", figures.history_figure(study),
            "Every trial in the order in which it was asked for. The line is the best so far.",
        ),
        _section_html(
            "hierarchies", "Accuracy per hierarchy", figures.hierarchy_figure(study),
            "Best on top, at most 40 and the references; the table below has every trial. The ring "
            f"marks the best.{band}",
        ),
        _section_html(
            "parameters", "Accuracy against parameters", figures.parameters_figure(study),
            "Complete trials. The shallow scale (eq. 8) is the mean side of the first feature maps "
            "over the input's: the smaller, the earlier the network downsamples.",
        ),
        _section_html(
            "heads", f"Every local head over the {read_step_name(study)}s",
            head_figures.heads_figure(study),
            "Each head classifies from the features of its own layer: its accuracy says how well "
            "they separate the classes.",
            before=_heads_select(study),
        ),
        _section_html(
            "depth", "Accuracy by depth", head_figures.depth_figure(study),
            "Each head at the end of training. A large dot is the last head of a stage, the star "
            "the output layer.",
        ),
    ]  # fmt: skip
    return "".join(sections) or "<section><p>The figures need a first accuracy.</p></section>"


def _section_html(name: str, title: str, figure: go.Figure, caption: str, before: str = "") -> str:
    if not figure.data:
        return ""
    picture = figure_html(figure, name)
    return f"<section><h2>{title}</h2><p>{caption}</p>{before}{picture}</section>"


def _heads_select(study: Study) -> str:
    rows = head_figures.heads_rows(study)
    options = "".join(
        f'<option value="{row.number}">{escape(row.hierarchy)}, {percent(row.accuracy)}, '
        f"{escape(row.state)}</option>"
        for row in rows
    )
    return (
        f'<label>Hierarchy <select id="heads-select" autocomplete="off">{options}</select></label>'
    )


def _table(rows: list[Row], study: Study) -> str:
    best = best_row(rows)
    lines = []
    for row in rows:
        scale = "-" if row.shallow_scale is None else f"{row.shallow_scale:.3f}"
        accuracy, state = accuracy_and_state(row, study)
        cells = (
            row.hierarchy,
            accuracy,
            "best" if row is best else state,
            count(row.num_parameters),
            count(row.flops),
            scale,
            duration(row.time_s),
            str(row.number),
        )
        style = "best" if row is best else "" if row.is_complete else "unfinished"
        body = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        lines.append(f'<tr class="{style}">{body}</tr>')
    return "".join(lines) or '<tr><td colspan="8">No trials yet.</td></tr>'


def _section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = config.get(name)
    return section if isinstance(section, Mapping) else {}


def _text(value: Any, form: str = "{}") -> str:
    if value is None:
        return ""
    return form.format(", ".join(map(str, value)) if isinstance(value, list | tuple) else value)
