"""A cohort on disk, between two rungs: written whole or not at all, read without trusting it."""

import hashlib
from pathlib import Path

import torch

from dsaccel.files import atomic_write
from dsaccel.training.cohort import Cohort


def checkpoint_key(study: str, cohort: Cohort) -> str:
    """A hash of all that decides what a cohort will have learned at a rung, and who will live.

    Args:
        study: fingerprint of what the cohort does not hold: images, threads, pruning.
        cohort: before any network is retired.
    """
    trie = cohort.trie
    nodes = [
        (node.number, node.parent and node.parent.number, node.segment) for node in trie.nodes()
    ]
    ends = {str(h): trie.path(h)[-1].number for h in trie.living}
    decides = study, cohort.training.deciding, cohort.seed, cohort.device.type, nodes, ends
    return hashlib.sha256(repr(decides).encode()).hexdigest()


def save_checkpoint(path: Path, key: str, cohort: Cohort) -> None:
    """Write the state of a cohort whose key was this when it was begun."""
    state = {"key": key, "cohort": cohort.state_dict()}
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        torch.save(state, file)


def load_checkpoint(path: Path, key: str, cohort: Cohort) -> bool:
    """Put a new cohort of this key where the saved one stood; returns if there was one.

    A checkpoint of another key, or a file that is not a checkpoint, costs time and no result: the
    cohort starts from the beginning.
    """
    if not path.is_file():
        return False
    try:
        # read as it is needed: beside a device full of learners there is no room for all of it
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # torch raises many kinds for a damaged file
        return False
    if not isinstance(state, dict) or state.get("key") != key:
        return False
    cohort.load_state_dict(state["cohort"])
    return True
