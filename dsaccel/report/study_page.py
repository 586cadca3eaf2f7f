"""The page of a study, finished or running: what was found, how, and how far to trust it."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from dsaccel.report.figures import figure_sections
from dsaccel.report.page import Section, Tile, write_page
from dsaccel.report.study_table import EXITS, accuracy_and_state, exits_text, first_head_warning
from dsaccel.report.table import Table
from dsaccel.spec.hierarchy import format_value
from dsaccel.study.record import StudyRecord
from dsaccel.study.rows import Row, best_row, read_rows, standard_error
from dsaccel.text import amount, duration, percent, points

NUM_RIVALS = 6
"""The hierarchies within the noise of the best that are named."""


def write_report(study: StudyRecord, path: Path, figures: Sequence[str] = ()) -> None:
    """Write the page of a study, whole or not at all; `figures` are import paths of the user's own.

    Raises:
        ConfigError: as `load_part`.
    """
    rows = read_rows(study)
    pictures = [*figure_sections(study, figures)]
    if not pictures:
        pictures = [Section(caption="The figures need a first accuracy.")]
    write_page(
        path,
        study.name,
        [*pictures, trials_section(study)],
        about=_status(rows),
        template="study.html",
        settings={name: text for name, text in _settings(study).items() if text},
        tiles=_tiles(study, rows),
        caveats=list(_caveats(study, rows)),
    )


def trials_section(study: StudyRecord) -> Section:
    """The table of all trials."""
    return Section("All trials", table=_table(read_rows(study), study), name="trials")


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


def _settings(study: StudyRecord) -> dict[str, str]:
    """The settings of the search, by name; empty where nothing is recorded."""
    space, data = study.section("space"), study.section("data")
    network, training = study.section("network"), study.section("training")
    bounds = [f"{low}–{high}" for low, high in space.get("num_blocks", [])]
    learning = [network.get("loss"), _text(network.get("granularity"), "per {}")]
    return {
        "family": _text(space.get("family")) + _text(network.get("width"), ", width {}"),
        "blocks per stage": ", ".join(bounds),
        "searched beside": _searched(space.get("settings") or {}),
        "constraint": _text(space.get("constraint")),
        "data": _text(data.get("name")) + _text(data.get("train_images"), ", {} images"),
        "local loss": " ".join(part for part in learning if part),
        "read at": EXITS[study.exit],
        "training": _text(training.get("epochs"), "{} epochs, ") + _text(training.get("schedule")),
        "references": _text(study.setting("references")),
        "seed": _text(study.setting("seed")),
        "trained by": trained_by(study.environment),
    }


def trained_by(environment: Mapping[str, Any]) -> str:
    """`dsaccel 0.1.0 (1f3a9c2b7d10), torch 2.11, on cpu (..., 2 threads)`."""
    versions = environment.get("versions") or {}
    if not versions:
        return ""
    commit = str(environment.get("commit", "unknown"))
    return (
        f"dsaccel {versions.get('dsaccel')} ({commit[:12]}), torch {versions.get('torch')}, on "
        f"{environment.get('device')}"
    )


def _searched(settings: Mapping[str, Any]) -> str:
    """`dropout 0–0.4, loss pred or sim`."""
    texts = []
    for name, searched in settings.items():
        if isinstance(searched, Mapping) and not searched.keys() & {"choices", "low"}:
            texts += filter(None, [_searched(searched)])  # options of a part
        elif isinstance(searched, Mapping):
            choices = searched.get("choices")
            ends = "–".join(_text(searched.get(end), "{:g}") for end in ("low", "high"))
            values = " or ".join(map(format_value, choices)) if choices else ends
            texts.append(f"{name.replace('_', ' ')} {values}")
    return ", ".join(texts)


def _tiles(study: StudyRecord, rows: list[Row]) -> list[Tile]:
    """The headline figures."""
    tiles: list[Tile] = []
    best, baseline = best_row(rows), study.baseline
    if best:
        note = f"{amount(best.num_parameters)} parameters, trial {best.number}"
        tiles.append(Tile("best hierarchy", best.hierarchy, note))
        error = standard_error(study, best.accuracy)
        note = f"standard error {100 * error:.2f} points" if error else EXITS[study.exit]
        tiles.append(Tile("validation accuracy", percent(best.accuracy), note))
    if baseline:
        note = f"on {baseline.hierarchy}"
        if best and best.hierarchy == baseline.hierarchy:
            note = f"same hierarchy; layer-wise {points(best.accuracy, baseline.accuracy)}"
        tiles.append(Tile("global back-propagation", percent(baseline.accuracy), note))
    elif best:
        tiles.append(Tile("global back-propagation", "–", "the winner has no baseline (yet)"))
    references = [row for row in rows if row.kind == "reference" and row is not best]
    if references:
        reference = references[0]
        note = reference.hierarchy
        if best:
            note += f"; the winner {points(best.accuracy, reference.accuracy)}"
        tiles.append(Tile("best reference", percent(reference.accuracy), note))
    trained, separate = study.blocks_trained, study.blocks_separate
    if trained and separate:
        note = f"{trained:,.0f} trained in place of {separate:,.0f}"
        tiles.append(Tile("blocks saved by sharing", f"{separate / trained:.1f}×", note))
    if study.workers:
        num, _, what = study.workers.partition(": ")
        tiles.append(Tile("workers", num, what))
    time_s = study.time_s
    if time_s is not None:
        tiles.append(Tile("time", duration(time_s), "the whole search"))
    return tiles


def _caveats(study: StudyRecord, rows: list[Row]) -> Iterator[str]:
    """Say how far the figures can be trusted."""
    if not any(row.accuracy is not None for row in rows):
        return
    seed = _text(study.setting("seed"), " ({})")
    test = "no test image was read for this page."
    if study.test_readings:
        test = "the test split was read for the confirmation alone."
    yield (
        f"Accuracies are of one seed{seed}, on validation images. The best of many on the same "
        f"images looks better than it is; {test}"
    )
    best = best_row(rows)
    if best:
        yield _noise(study, rows, best)
        if best.trial.exits:
            yield (
                f"Networks are read at the {EXITS[study.exit]}. The best one at all its exits: "
                f"{exits_text(best.trial.exits)}."
            )
    if warning := first_head_warning(best, study.exit):
        yield f"{warning}."
    if any(row.kind == "pruned" for row in rows):
        at = {
            "output layer": "its output layer's",
            "ensemble": "its ensemble's",
            "deepest head": "its deepest local head's",
        }[study.ranked_by]
        is_exit = study.ranked_by in EXITS[study.exit]
        what = "" if is_exit else "another classifier, "
        yield (
            f"A pruned trial is shown at {at} accuracy when it was pruned: {what}trained less far. "
            "Do not compare it with a complete one."
        )


def _noise(study: StudyRecord, rows: list[Row], best: Row) -> str:
    """Which leads are smaller than what chance makes of so many images."""
    error = standard_error(study, best.accuracy)
    if best.accuracy is None or error is None:
        return (
            "A lead below one standard error, the root of p (1 − p) / n for accuracy p on n "
            "images, is noise; how many validation images there were is not recorded in this study."
        )
    close = [
        Markup('<span class="name">{}</span>').format(row.hierarchy)
        for row in rows
        if row.is_complete and row is not best
        if row.accuracy is not None and abs(row.accuracy - best.accuracy) <= error
    ]
    verb = "hierarchy is" if len(close) == 1 else "hierarchies are"
    names = Markup(", ").join(close[:NUM_RIVALS]) + (", …" if len(close) > NUM_RIVALS else "")
    return Markup("{}{}.").format(
        f"On {study.num_val:,} validation images the standard error of "
        f"{percent(best.accuracy)} is {100 * error:.2f} points, and a lead below it is "
        f"noise: {len(close)} other {verb} within it of the best",
        Markup(" ({})").format(names) if close else "",
    )


def _table(rows: list[Row], study: StudyRecord) -> Table:
    best = best_row(rows)
    headings = ("hierarchy", "val accuracy", "state", "parameters", "FLOPs", "shallow scale")
    cells, styles = [], []
    for row in rows:
        accuracy, state = accuracy_and_state(row, study)
        cells.append(
            (
                row.hierarchy,
                accuracy,
                "best" if row is best else state,
                amount(row.num_parameters),
                amount(row.flops),
                "-" if row.shallow_scale is None else f"{row.shallow_scale:.3f}",
                duration(row.time_s),
                str(row.number),
            )
        )
        styles.append("best" if row is best else "" if row.is_complete else "unfinished")
    return Table(
        (*headings, "time", "trial"),
        cells,
        styles,
        caption="" if rows else "No trials yet.",
        words=(0, 2),
    )


def _text(value: Any, form: str = "{}") -> str:
    if value is None:
        return ""
    return form.format(", ".join(map(str, value)) if isinstance(value, list | tuple) else value)
