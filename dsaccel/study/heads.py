"""What was read of each trial at each rung: a file a trial, whose hash the trial has. What was read
of each test image in a confirmation is kept likewise.
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

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


def write_right(folder: Path, look: Mapping[str, Any], right_N: np.ndarray) -> dict[str, Any]:
    """Keep which test images a network of a confirmation gets right, likewise; returns what its
    look at the test split has of it.
    """
    bits = base64.b64encode(np.packbits(right_N).tobytes()).decode()
    values = {"num_images": len(right_N), "right": bits}
    return {"right_sha256": _write(right_path(folder, look), values)}


def read_right(folder: Path, look: Mapping[str, Any]) -> np.ndarray | None:
    """Which test images it gets right, (N,) bool; None: it was not recorded, or is gone."""
    stored: Any = read_heads(right_path(folder, look), look.get("right_sha256"))
    if not stored:
        return None
    bits = np.frombuffer(base64.b64decode(stored["right"]), np.uint8)
    return np.unpackbits(bits, count=stored["num_images"]).astype(bool)


def right_path(folder: Path, look: Mapping[str, Any]) -> Path:
    """The file of a look at the test split."""
    name = repr((look["name"], look["mode"], look["seed"]))
    return folder / f"test-{hashlib.sha256(name.encode()).hexdigest()[:16]}.json"


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
