"""Learners between two stops: a file a part, under the SHA-256 that it was written with."""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from dsaccel.files import atomic_write, open_file, remove_file
from dsaccel.nn.sealed import LENGTH, DamagedError, read_state, write_state

PartFile = tuple[str, str]
"""Path and SHA-256."""


class LearnerFiles(Mapping[int, Any]):
    """Learners' states by node number, mapped into memory when one is asked for."""

    def __init__(self, files: Mapping[int, PartFile]) -> None:
        self.files = dict(files)
        self._opened: dict[PartFile, Any] = {}

    def __getitem__(self, number: int) -> Any:
        """
        Raises:
            DamagedError: if the file is not the one that was written.
        """
        file = self.files[number]
        if file not in self._opened:
            self._opened[file] = _read(*file)
        return self._opened[file][number]

    def __iter__(self) -> Iterator[int]:
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)

    def check(self) -> None:
        """Look at every file.

        Raises:
            DamagedError: as when one is read.
        """
        for number in {file: number for number, file in self.files.items()}.values():
            self[number]


def write_learners(path: Path, states: Mapping[int, Any]) -> PartFile:
    """Write learners' states by node number, whole or not at all."""
    with atomic_write(path) as temporary:
        write_state(temporary, dict(states))
    return str(path), seal_of(path)


def remove_learners(folder: Path) -> None:
    """Remove all that was written to a folder, and the folder if nothing else is there."""
    for path in (*folder.glob("*.pt"), *folder.glob("*.part")):
        remove_file(path)
    with suppress(OSError):
        folder.rmdir()


def seal_of(path: Path) -> str:
    """The SHA-256 that a file of learners ends with."""
    with open_file(path) as file:
        file.seek(-LENGTH, os.SEEK_END)
        return file.read().decode("ascii", "replace")


def _read(path: str, sha256: str) -> Any:
    states = read_state(Path(path))
    if seal_of(Path(path)) != sha256:
        raise DamagedError(f"{path} must be the file that was written there, but is another one")
    return states
