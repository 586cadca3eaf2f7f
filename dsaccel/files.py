"""Files are written whole or not at all, and what cannot be written is one line with a way out.
Only regular files are read: a pipe or a device may never end.
"""

import csv
import errno
import json
import os
import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from dsaccel.errors import ConfigError, StorageError


def open_file(path: Path) -> BinaryIO:
    """Open a regular file to be read.

    Raises:
        OSError: if it cannot be opened, or is a folder, a pipe or a device.
    """
    # a pipe that nobody writes to would be waited for
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
        raise OSError(errno.EINVAL, f"it is {kind} and no regular file", str(path))
    return os.fdopen(descriptor, "rb")


def read_file(path: Path) -> bytes:
    """The contents of a regular file.

    Raises:
        OSError: as `open_file`.
    """
    with open_file(path) as file:
        return file.read()


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A temporary file, to be written, that takes the place of `path` at the end; removed if
    anything fails.

    Raises:
        StorageError: if the file cannot be written.
    """
    temporary = _temporary(path)
    try:
        with _writing(path):
            yield temporary
            temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def write_text(path: Path, text: str) -> None:
    """Write a file of text."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any, indent: int | None = 1) -> None:
    """Write a file of JSON."""
    write_text(path, json.dumps(value, indent=indent) + "\n")


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a table of at least one row, whose keys are the columns."""
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def make_folder(path: Path) -> None:
    """Make a folder, and those that it lies in, unless it is there.

    Raises:
        StorageError: if it cannot be made.
    """
    with _writing(path):
        path.mkdir(parents=True, exist_ok=True)


def remove_file(path: Path) -> None:
    """Remove a file, unless it is not there.

    Raises:
        StorageError: if it cannot be removed, as a folder of its name.
    """
    with _writing(path):
        path.unlink(missing_ok=True)


def check_target(path: Path, suffixes: Collection[str] = (), *, force: bool = True) -> None:
    """Refuse a file to be written that a user has named wrongly.

    Raises:
        ConfigError: if its suffix is another, its folder is not there, or there is such a file and
            not `force`.
    """
    if suffixes and path.suffix not in suffixes:
        raise ConfigError(f"the file must end with {' or '.join(suffixes)}, but got {path}")
    if not path.parent.is_dir():
        raise ConfigError(f"folder {path.parent} must exist to write {path.name} into it")
    if path.exists() and not force:
        raise ConfigError(f"{path} exists already; choose another file, or --force")


def check_writable(path: Path, num_bytes: int = 4096) -> None:
    """Refuse a file of some size that cannot be written, before the work whose outcome it holds.

    Raises:
        StorageError: if it cannot be written.
    """
    temporary = _temporary(path)
    try:
        with _writing(path):
            temporary.write_bytes(bytes(num_bytes))
    finally:
        with suppress(OSError):
            temporary.unlink()


def _temporary(path: Path) -> Path:
    return path.with_name(path.name + ".part")


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        # torch raises errors of its own while it handles the system's
        cause = error if isinstance(error, OSError) else error.__context__
        if not isinstance(cause, OSError):
            raise
        raise StorageError(
            f"{path} must be writable, but: {cause.strerror or cause}; free space there or choose "
            "another place, and run the command again"
        ) from None
