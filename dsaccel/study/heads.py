"""What was read of each trial at each rung: a file a trial, whose hash the trial has."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dsaccel.files import make_folder, write_text
from dsaccel.spec.rung import Read


def write_heads(folder: Path, order: tuple[int, int], rungs: Sequence[Read]) -> dict[str, Any]:
    """Keep the accuracies of a trial's heads, and of their ensemble, in a file; returns the trial's
    attributes of it.
    """
    ensembles = [read.exits["ensemble"] for read in rungs]
    text = json.dumps({"heads": [read.heads for read in rungs], "ensemble": ensembles})
    make_folder(folder)
    write_text(heads_path(folder, order), text)
    return {"heads_sha256": hashlib.sha256(text.encode()).hexdigest()}


def read_heads(folder: Path, order: tuple[int, int], sha256: Any) -> dict[str, list[Any]]:
    """`heads` (rungs x heads) and `ensemble` (rungs), as far as they are there."""
    try:
        text = heads_path(folder, order).read_bytes()
    except OSError:
        return {}
    if hashlib.sha256(text).hexdigest() != sha256:
        return {}
    rungs = json.loads(text)
    # of an earlier version, which read no ensembles
    return {"heads": rungs} if isinstance(rungs, list) else rungs


def heads_path(folder: Path, order: tuple[int, int]) -> Path:
    """The file of the trial with this cohort and place."""
    cohort, place = order
    return folder / f"{cohort}-{place}.json"
