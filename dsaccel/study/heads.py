"""What was read of each trial at each rung: a file a trial, whose hash the trial has."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dsaccel.files import make_folder, write_text
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.rung import Point, Read


def write_heads(folder: Path, order: tuple[int, int], rungs: Sequence[Read]) -> dict[str, Any]:
    """Keep the accuracies of a trial's heads, and of their ensemble, in a file; returns the trial's
    attributes of it.
    """
    ensembles = [read.exits["ensemble"] for read in rungs]
    values: dict[str, Any] = {"heads": [read.heads for read in rungs], "ensemble": ensembles}
    if points := [point.values() for read in rungs for point in read.points]:
        values["points"] = points
    return {"heads_sha256": _write(heads_path(folder, order), values)}


def write_global(folder: Path, hierarchy: Hierarchy, points: Sequence[Point]) -> dict[str, Any]:
    """Keep the curves of a network that back-propagation has trained, likewise."""
    values = {"points": [point.values() for point in points]}
    return {"points_sha256": _write(global_path(folder, hierarchy), values)}


def _write(path: Path, values: Mapping[str, Any]) -> str:
    text = json.dumps(values)
    make_folder(path.parent)
    write_text(path, text)
    return hashlib.sha256(text.encode()).hexdigest()


def read_heads(path: Path, sha256: Any) -> dict[str, list[Any]]:
    """`heads` (rungs x heads), `ensemble` (rungs) and `points` of curves, as far as they are there;
    nothing of a file with another hash.
    """
    try:
        text = path.read_bytes()
    except OSError:
        return {}
    if hashlib.sha256(text).hexdigest() != sha256:
        return {}
    rungs = json.loads(text)
    # of an earlier version, which read no ensembles
    return {"heads": rungs} if isinstance(rungs, list) else rungs


def points_of(values: Mapping[str, list[Any]]) -> list[Point]:
    """The points of curves, if there are some."""
    return [Point(*point) for point in values.get("points", ())]


def global_path(folder: Path, hierarchy: Hierarchy) -> Path:
    """The file of a network that back-propagation has trained."""
    return folder / f"global-{hashlib.sha256(str(hierarchy).encode()).hexdigest()[:16]}.json"


def heads_path(folder: Path, order: tuple[int, int]) -> Path:
    """The file of the trial with this cohort and place."""
    cohort, place = order
    return folder / f"{cohort}-{place}.json"
