"""Files are written whole or not at all, and what cannot be written is one line with a way out."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dsaccel.errors import StorageError


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


def make_folder(path: Path) -> None:
    """Make a folder, and those that it lies in, unless it is there.

    Raises:
        StorageError: if it cannot be made.
    """
    with _writing(path):
        path.mkdir(parents=True, exist_ok=True)


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
