"""A cohort on disk, between two rungs: written whole or not at all, read without trusting it."""

from collections.abc import Sequence
from pathlib import Path

import torch

from dsaccel.files import whole_file
from dsaccel.training.cohort import Cohort
from dsaccel.training.parts import SplitCohort


def save_checkpoint(path: Path, names: Sequence[str], cohort: Cohort) -> None:
    """Write the state of the cohort that was begun with these networks."""
    state = {"names": list(names), "cohort": cohort.state_dict()}
    with whole_file(path) as temporary, temporary.open("wb") as file:
        torch.save(state, file)


def load_checkpoint(path: Path, names: Sequence[str], cohort: Cohort) -> bool:
    """Put a new cohort of these networks where the saved one stood; returns if there was one.

    A checkpoint of other networks, or one that cannot be read, costs time and no result: the
    cohort starts from the beginning.
    """
    if not path.is_file():
        return False
    # a split cohort does not fit into memory: it reads what it needs when it needs it
    is_split = isinstance(cohort, SplitCohort)
    place = "cpu" if is_split else cohort.device
    try:
        state = torch.load(path, map_location=place, weights_only=True, mmap=is_split)
    except Exception:  # torch raises many kinds for a damaged file
        return False
    if state["names"] != list(names):
        return False
    cohort.load_state_dict(state["cohort"])
    return True
