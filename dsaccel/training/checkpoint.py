"""A cohort on disk, between two rungs: written whole or not at all, read without trusting it.

The checkpoint before the last one is kept: where the last one is damaged, a cohort goes on from
there, and where both are, from the beginning. That costs time and no result.
"""

import hashlib
import logging
import time
from pathlib import Path

from dsaccel.files import atomic_write, remove_file
from dsaccel.nn.sealed import DamagedError, read_state, write_state
from dsaccel.training.cohort import Cohort

log = logging.getLogger("dsaccel")

INTERVAL_S = 10.0
DURATION_S = 0.1
"""A checkpoint that takes longer is made less often: in one part of a hundred of the time."""


class Checkpoints:
    """Puts a new cohort where its last checkpoint stands; the cohort has itself saved here.

    Args:
        path: of the checkpoint.
        study: fingerprint of what the cohort does not hold; see `checkpoint_key`.
        cohort: of which no network is retired yet.
    """

    def __init__(self, path: Path, study: str, cohort: Cohort) -> None:
        self._path, self._cohort = path, cohort
        self.key = checkpoint_key(study, cohort)
        load_checkpoint(path, self.key, cohort)
        self._saved, self._pause_s = time.perf_counter(), INTERVAL_S
        cohort.keeper = self

    def save(self, *, now: bool = False) -> None:
        """Save the cohort between two rungs if it is time.

        Args:
            now: whether it is time in any case.
        """
        started = time.perf_counter()
        if now or started - self._saved > self._pause_s:
            save_checkpoint(self._path, self.key, self._cohort)
            self._saved = time.perf_counter()
            self._pause_s = INTERVAL_S * max(1.0, (self._saved - started) / DURATION_S)


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
    """Write the state of a cohort whose key was this when it was begun, and keep the one before."""
    with atomic_write(path) as temporary:
        write_state(temporary, {"key": key, "cohort": cohort.state_dict()})
        if path.is_file():
            path.replace(_before(path))


def load_checkpoint(path: Path, key: str, cohort: Cohort) -> bool:
    """Put a new cohort of this key where the saved one stood; returns if there was one.

    A checkpoint of another key is passed over, and so is a damaged one, with a warning.
    """
    for file in checkpoint_files(path):
        if not file.is_file():
            continue
        try:
            state = read_state(file)
            if state["key"] == key:
                cohort.load_state_dict(state["cohort"])
                return True
        except DamagedError:
            log.warning("%s is damaged: what it holds is trained again", file)
    return False


def remove_checkpoint(path: Path) -> None:
    """Remove a checkpoint, and the one before it."""
    for file in checkpoint_files(path):
        remove_file(file)


def checkpoint_files(path: Path) -> tuple[Path, Path]:
    """A checkpoint, and the one before it."""
    return path, _before(path)


def _before(path: Path) -> Path:
    return path.with_stem(f"{path.stem}-before")
