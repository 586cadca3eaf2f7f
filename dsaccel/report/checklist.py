"""Checklists of reproducible machine learning, filled in with what a study knows of itself."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dsaccel.report.table import Table
from dsaccel.study.record import StudyRecord
from dsaccel.study.rows import best_row, read_rows
from dsaccel.text import duration, percent


@dataclass(frozen=True)
class Item:
    """One question of a checklist."""

    lists: str
    """R: REFORMS; N: NeurIPS; B: best practices for NAS research."""
    question: str
    answer: Callable[[StudyRecord], str]
    """Empty: the study does not know; the authors must say it."""


def checklist(study: StudyRecord) -> Table:
    """Every question with what the study knows."""
    rows = [(item.lists, item.question, item.answer(study) or OPEN) for item in ITEMS]
    known = sum(answer != OPEN for *_, answer in rows)
    return Table(
        ("list", "question", "answer"),
        rows,
        title=f"Checklist of {study.name}: {known} of {len(rows)} answered by the study",
        caption="R: REFORMS; N: NeurIPS; B: best practices for NAS; docs/checklists.md",
        words=(0, 1, 2),
        wide=(1, 2),
    )


OPEN = "for the authors to say"


def _versions(study: StudyRecord) -> str:
    versions = study.environment.get("versions") or {}
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _environment(key: str) -> Callable[[StudyRecord], str]:
    return lambda study: str(study.environment.get(key) or "")


def _setting(section: str, *keys: str) -> Callable[[StudyRecord], str]:
    def answer(study: StudyRecord) -> str:
        values = study.section(section)
        return ", ".join(f"{key} {values[key]}" for key in keys if values.get(key) is not None)

    return answer


def _images(study: StudyRecord) -> str:
    held = "a folder's val/" if (study.confirmation or {}).get("val_is_given") else "stratified"
    num = f"{study.num_val:,} validation images ({held})" if study.num_val else ""
    return f"{num}; fingerprint {study.fingerprint}" if num and study.fingerprint else num


def _leakage(study: StudyRecord) -> str:
    notes: Any = study.attributes.get("data_notes") or []
    copies = [note for note in notes if str(note).startswith("equal files")]
    if not notes:  # a named set has no files to compare
        return ""
    return "; ".join(copies) or "no file is in two splits or classes"


def _test(study: StudyRecord) -> str:
    num = len(study.test_readings)
    return f"{num} readings, after the decision, all recorded" if num else "not read"


def _all_trials(study: StudyRecord) -> str:
    rows = read_rows(study)
    complete = sum(row.is_complete for row in rows)
    return f"{len(rows)} trials, {complete} complete; all are in the report and the storage"


def _seeds(study: StudyRecord) -> str:
    confirmed = {result["seed"] for result in (study.confirmation or {}).get("results", ())}
    search = f"search: one seed ({study.setting('seed')})"
    return f"{search}; confirmation: {len(confirmed)} fresh seeds" if confirmed else search


def _baseline(study: StudyRecord) -> str:
    if study.baseline is None:
        return ""
    tuned = (study.confirmation or {}).get("tuning")
    how = f"tuned with {tuned['num_trials']} trials" if tuned else "with the study's settings"
    return f"global back-propagation, {how}: {percent(study.baseline.accuracy)}"


def _result(study: StudyRecord) -> str:
    best = best_row(read_rows(study))
    return f"{best.hierarchy}, validation {percent(best.accuracy)}" if best else ""


def _time(study: StudyRecord) -> str:
    spent = duration(study.time_s) if study.time_s else ""
    return f"{spent} on {study.environment.get('device', 'an unrecorded device')}" if spent else ""


ITEMS = (
    Item("R 1 N 1", "What is claimed?", lambda _: ""),
    Item("R 2 N 4", "Which code, at which commit?", _environment("commit")),
    Item("R 2 N 4", "Which command reproduces it?", _environment("command")),
    Item("R 2 N 8", "Which versions?", _versions),
    Item("R 3 N 8", "Which device, and how long?", _time),
    Item("R 4", "Which images?", _setting("data", "name", "image_size", "channels")),
    Item("R 4", "How were they split?", _images),
    Item("R 5", "How were they prepared?", _setting("data", "crop_padding", "flip", "cutout")),
    Item("R 6", "How was the test split used?", _test),
    Item("R 6", "Do images leak between splits?", _leakage),
    Item(
        "N 6",
        "Which hyperparameters?",
        _setting("training", "epochs", "batch_size", "learning_rate", "optimizer", "lr_schedule"),
    ),
    Item("B 4", "How were they tuned, for the baseline too?", _baseline),
    Item(
        "B 1",
        "Are search space and search method told apart, both given?",
        _setting("budget", "strategy", "n_trials", "cohort_size"),
    ),
    Item("B 2", "Are all architectures that were trained reported?", _all_trials),
    Item("R 7 N 7", "How many seeds, which uncertainty?", _seeds),
    Item("R 7", "What came out?", _result),
    Item(
        "B 3",
        "Is the same training used for all that is compared?",
        _setting("training", "schedule", "precision"),
    ),
    Item("R 8 N 2", "What are the limits?", lambda _: ""),
)
