"""The accuracies of each trial's heads: a file a trial, whose hash the trial has."""

import hashlib
import json
from pathlib import Path
from typing import Any

from dsaccel.files import make_folder, write_text


def write_heads(folder: Path, order: tuple[int, int], rungs: list[list[float]]) -> dict[str, Any]:
    """Keep the accuracies of a trial's heads in a file; returns the trial's attributes of it."""
    text = json.dumps(rungs)
    make_folder(folder)
    write_text(heads_path(folder, order), text)
    return {"heads_sha256": hashlib.sha256(text.encode()).hexdigest()}


def read_heads(folder: Path, order: tuple[int, int], sha256: Any) -> list[list[float]] | None:
    try:
        text = heads_path(folder, order).read_bytes()
    except OSError:
        return None
    return json.loads(text) if hashlib.sha256(text).hexdigest() == sha256 else None


def heads_path(folder: Path, order: tuple[int, int]) -> Path:
    """The file of the trial with this cohort and place."""
    cohort, place = order
    return folder / f"{cohort}-{place}.json"
