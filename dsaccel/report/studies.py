"""The studies of a folder, a line each."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from dsaccel.errors import UserError
from dsaccel.report.table import Table
from dsaccel.study.folder import STUDIES, StudyDir
from dsaccel.study.record import StudyRecord
from dsaccel.study.rows import best_row, read_rows
from dsaccel.study.storage import open_study, quiet_optuna
from dsaccel.text import percent


@dataclass(frozen=True)
class Listed:
    """The facts of a study that need no images."""

    name: str
    data: str
    family: str
    state: str
    """`12 of 30 trained`, or why it cannot be read."""
    best: str | None
    val_accuracy: float | None
    changed: str
    """When a file of it was written last, local time."""


def studies_here() -> list[Listed]:
    """The studies below `studies/`, the last changed first."""
    quiet_optuna()
    folders = sorted((path.parent for path in STUDIES.glob("*/study.toml")), key=_changed)
    return [_listed(StudyDir(folder.name)) for folder in reversed(folders)]


def studies_table(studies: Sequence[Listed]) -> Table:
    """The studies as a table for a terminal."""
    rows = [
        (s.name, s.data, s.family, s.state, s.best or "-", percent(s.val_accuracy), s.changed)
        for s in studies
    ]
    headings = ("study", "data", "family", "state", "best", "val accuracy", "changed")
    return Table(headings, rows, words=(0, 1, 2, 3, 4))


def list_summary(studies: Sequence[Listed]) -> dict[str, Any]:
    """What `--json` prints."""
    return {"studies": [asdict(study) for study in studies]}


def _listed(directory: StudyDir) -> Listed:
    changed = datetime.fromtimestamp(_changed(directory.path)).strftime("%Y-%m-%d %H:%M")
    try:
        config = directory.read_config()
        record = StudyRecord.read(open_study(directory, config), directory)
        best, num_trained = best_row(read_rows(record)), len(record.trained)
    except UserError as error:  # one that is damaged must not hide the others
        return Listed(directory.name, "-", "-", f"unreadable: {error}", None, None, changed)
    return Listed(
        directory.name,
        config.data.name,
        config.family,
        f"{num_trained} of {config.budget.n_trials} trained",
        best and best.hierarchy,
        best and best.accuracy,
        changed,
    )


def _changed(folder: Path) -> float:
    return max(path.stat().st_mtime for path in folder.iterdir())
