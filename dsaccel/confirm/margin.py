"""A test for non-inferiority: how many seeds it takes, and the limit that it ends with."""

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np

from dsaccel.confirm.result import Confirmation, Split
from dsaccel.families import MODES, Mode
from dsaccel.statistics import Interval, Paired, crossed, paired, seeds_needed
from dsaccel.study.heads import read_right

V = TypeVar("V")


def planned(pilot: Confirmation, margin: float) -> dict[str, Any]:
    """A test for non-inferiority by a margin (points), with what is measured as its pilot."""
    name = pilot.best or pilot.best_finalist()
    local, whole = (pilot.series("val", name, mode) for mode in MODES)
    lead = paired(local, whole)
    std = lead and lead.std
    num = std and seeds_needed(std, margin / 100)
    return {"points": margin, "pilot": sorted({*local} | {*whole}), "std": std, "seeds": num}


def against_global(confirmed: Confirmation, split: Split) -> Paired | None:
    """How far the best finalist leads back-propagation, at seeds that were no pilot."""
    series = (confirmed.series(split, confirmed.best, mode) for mode in MODES)
    return paired(*(_after_pilot(confirmed, each) for each in series))


def over_images(confirmed: Confirmation) -> Interval | None:
    """That lead on test with its interval over seeds and images; None: which images were right is
    not recorded, as by an earlier version, fewer than two seeds were no pilot, or nothing varies.
    """
    local, whole = (_after_pilot(confirmed, _right(confirmed, mode)) for mode in MODES)
    seeds = [seed for seed in local if seed in whole]
    lead = against_global(confirmed, "test")
    if lead is None or not 2 <= len(seeds) == lead.n:
        return None
    return crossed(np.stack([local[seed].astype(float) - whole[seed] for seed in seeds]))


def _right(confirmed: Confirmation, mode: Mode) -> dict[int, np.ndarray]:
    """Seed -> which test images the best finalist gets right, (N,) bool."""
    if confirmed.folder is None:
        return {}
    of_best = [k for k in confirmed.looks if (k["name"], k["mode"]) == (confirmed.best, mode)]
    found = {look["seed"]: read_right(confirmed.folder, look) for look in of_best}
    return {seed: right for seed, right in found.items() if right is not None}


def _after_pilot(confirmed: Confirmation, by_seed: Mapping[int, V]) -> dict[int, V]:
    """What was measured at seeds that were no pilot."""
    pilot = () if confirmed.margin is None else confirmed.margin["pilot"]
    return {seed: value for seed, value in by_seed.items() if seed not in pilot}


def plan_text(margin: Mapping[str, Any]) -> str:
    """How many seeds a test for non-inferiority takes, told before they are trained."""
    points, pilot, num = margin["points"], len(margin["pilot"]), margin["seeds"]
    if num is None:
        return (
            f"margin of {points:g} points: no pilot tells how many seeds are needed; confirm with "
            "a few seeds and without a margin first"
        )
    return (
        f"margin of {points:g} points: {num} seeds beside the pilot's {pilot} find a network that "
        f"is as good as back-propagation not inferior in 80 % of such tests (--seeds {pilot + num})"
    )
