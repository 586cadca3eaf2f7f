"""Two studies side by side: what differs in their settings, and what came of it."""

from typing import TYPE_CHECKING, Any

from dsaccel.config.toml import flatten
from dsaccel.report.study_table import EXITS
from dsaccel.report.table import Table
from dsaccel.study.rows import Row
from dsaccel.text import amount, duration, percent, points

if TYPE_CHECKING:
    from dsaccel.stored_study import StoredStudy

NUM_SHOWN = 12
"""Hierarchies in both, the best of either first."""


def comparison_tables(first: "StoredStudy", second: "StoredStudy") -> list[Table]:
    """Outcome, settings that differ, and hierarchies that both have trained to their ends."""
    names = first.name, second.name
    tables = [
        Table(("", *names, "difference"), _outcome(first, second), title="Outcome"),
        Table(
            ("setting", *names),
            [(key, str(a), str(b)) for key, (a, b) in settings_that_differ(first, second).items()],
            title="Settings that differ",
            words=(0, 1, 2),
        ),
    ]
    both = shared(first, second)
    rows = [
        (name, percent(a.accuracy), percent(b.accuracy), points(b.accuracy, a.accuracy))
        for name, (a, b) in list(both.items())[:NUM_SHOWN]
    ]
    more = f"and {len(both) - NUM_SHOWN} more" if len(both) > NUM_SHOWN else ""
    title = f"{len(both)} hierarchies that both trained to their ends"
    return [*tables, Table(("hierarchy", *names, "difference"), rows, title=title, caption=more)]


def comparison_summary(first: "StoredStudy", second: "StoredStudy") -> dict[str, Any]:
    """The same, for `--json`."""
    return {
        "studies": [first.name, second.name],
        "same_images": _same_images(first, second),
        "best": [
            row and {"hierarchy": row.hierarchy, "val_accuracy": row.accuracy}
            for row in (first.best, second.best)
        ],
        "settings": {key: list(pair) for key, pair in settings_that_differ(first, second).items()},
        "shared": {
            name: [a.accuracy, b.accuracy] for name, (a, b) in shared(first, second).items()
        },
    }


def caveats(first: "StoredStudy", second: "StoredStudy") -> list[str]:
    """Tell the reader what to know before comparing."""
    found = ["one seed each: differences within a standard error or two are noise"]
    if not _same_images(first, second):
        found.append("the images are not the same, or split differently: accuracies do not compare")
    exits = first.record.exit, second.record.exit
    if exits[0] != exits[1]:
        found.append(f"read at different exits: {EXITS[exits[0]]} and {EXITS[exits[1]]}")
    return found


def settings_that_differ(first: "StoredStudy", second: "StoredStudy") -> dict[str, tuple[Any, Any]]:
    """The settings that differ, by key in a study file."""
    a, b = (flatten(study.config.model_dump(mode="json")) for study in (first, second))
    keys = sorted(a | b)
    return {key: (a.get(key), b.get(key)) for key in keys if a.get(key) != b.get(key)}


def shared(first: "StoredStudy", second: "StoredStudy") -> dict[str, tuple[Row, Row]]:
    """Hierarchies that both have trained to their ends, in the order of the first."""
    others = {row.hierarchy: row for row in second.trials() if row.is_complete}
    return {
        row.hierarchy: (row, others[row.hierarchy])
        for row in first.trials()
        if row.is_complete and row.hierarchy in others
    }


def _same_images(first: "StoredStudy", second: "StoredStudy") -> bool:
    return first.record.fingerprint == second.record.fingerprint


def _outcome(first: "StoredStudy", second: "StoredStudy") -> list[tuple[str, ...]]:
    rows, records = (first.best, second.best), (first.record, second.record)
    accuracies = [row and row.accuracy for row in rows]
    baselines = [record.baseline and record.baseline.accuracy for record in records]
    return [
        ("best hierarchy", *((row.hierarchy if row else "-") for row in rows), ""),
        ("validation accuracy", *map(percent, accuracies), points(accuracies[1], accuracies[0])),
        ("back-propagation", *map(percent, baselines), points(baselines[1], baselines[0])),
        ("parameters", *(amount(row and row.num_parameters) for row in rows), ""),
        ("hierarchies trained", *(str(len(record.trained)) for record in records), ""),
        ("time", *(duration(record.time_s) for record in records), ""),
    ]
