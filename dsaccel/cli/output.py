"""What a command says: progress on stderr, results on stdout.

Results outlast a stdout that cannot be written. Text from elsewhere, as names in the files of
others, does not steer a terminal.
"""

import io
import os
import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from dsaccel.errors import StorageError
from dsaccel.text import printable

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from dsaccel.confirm.jobs import ConfirmProgress
    from dsaccel.paper.train import JobProgress
    from dsaccel.search.progress import Progress

PIPE_WIDTH = 10_000
"""More than any line has."""


class Output:
    """Two consoles: for progress, and for results; stdout is kept for JSON if there is some."""

    def __init__(
        self, *, as_json: bool = False, quiet: bool = False, verbose: bool = False
    ) -> None:
        self.as_json, self.quiet, self.verbose = as_json, quiet, verbose
        self.progress = _console(stderr=True)
        self.result = self.progress if as_json else _console(stderr=False)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Show what is counted meanwhile: images that are read."""
        from dsaccel.report.live import LiveView

        with LiveView(self.progress, quiet=self.quiet):
            yield

    def run(self, steps: "Generator[Progress | ConfirmProgress | JobProgress]") -> None:
        """Show each step of what trains, and what is logged meanwhile."""
        import logging

        from dsaccel.report.live import ProgressView

        logger, remarks = logging.getLogger("dsaccel"), logging.Handler()
        remarks.emit = lambda record: self.say(record.getMessage())
        logger.addHandler(remarks)
        level = logger.level
        logger.setLevel(logging.WARNING if self.quiet else logging.INFO)
        view = ProgressView(self.progress, quiet=self.quiet, verbose=self.verbose)
        try:
            with view, closing(steps):
                for step in steps:
                    view.update(step)
        finally:
            logger.removeHandler(remarks)
            logger.setLevel(level)

    def say(self, text: str) -> None:
        """A line about what is going on, unless only the result is wanted."""
        if not self.quiet:
            self.progress.print(text, highlight=False)

    def show(self, *results: "RenderableType") -> None:
        """Tables, and sentences as they are."""
        for result in results:
            self.result.print(result, highlight=False)

    def show_files(self, files: Mapping[str, Any], *, width: int = 10) -> None:
        """A line a file, behind what it holds."""
        for label, path in files.items():
            line = f"{label:>{width}}  {path}"
            self.result.print(line, highlight=False, soft_wrap=True)  # to be copied whole

    def show_json(self, value: Any) -> None:
        """One JSON object on stdout."""
        import json

        print(json.dumps(value))


def _console(*, stderr: bool) -> "Console":
    """What is piped is neither wrapped nor cut."""
    from rich.console import Console
    from rich.text import Text

    class Harmless(Console):
        def render_str(self, text: str, **options: Any) -> Text:
            return super().render_str(printable(text), **options)

    # no markup: a path may hold brackets
    if (sys.stderr if stderr else sys.stdout).isatty():
        return Harmless(stderr=stderr, markup=False)
    # with a height, or a dumb terminal's width would be taken where colour is forced
    return Harmless(stderr=stderr, width=PIPE_WIDTH, height=25, markup=False)


class Survivor(io.TextIOBase):
    """A stream whose failure ends nothing: it notes its error, and may keep its text."""

    def __init__(self, stream: TextIO | None, *, keep: bool) -> None:
        self.error = OSError(None, "closed") if stream is None else None
        self._stream = stream
        self._text: list[str] | None = [] if keep else None
        if isinstance(stream, io.TextIOWrapper):
            # a console with few characters, or a path that is not UTF-8
            stream.reconfigure(errors="replace")

    @property
    def encoding(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return getattr(self._stream, "encoding", "utf-8")

    def write(self, text: str) -> int:
        """Into the stream as long as it can be written."""
        if self._text is not None:
            self._text.append(text)
        self._try(lambda stream: stream.write(text))
        return len(text)

    def flush(self) -> None:
        self._try(lambda stream: stream.flush())

    def isatty(self) -> bool:
        return self._stream is not None and self._stream.isatty()

    def fileno(self) -> int:
        """The number of the stream.

        Raises:
            OSError: if there is none.
        """
        if self._stream is None:
            raise OSError("closed")
        return self._stream.fileno()

    def let_go(self) -> None:
        """Flush the stream, and use it no more: others may close it."""
        self.flush()
        self._stream = None

    def check(self) -> None:
        """Keep the text in a file if it did not get through.

        Raises:
            StorageError: if it did not.
        """
        self.flush()
        if self.error is not None and self._text:
            path = _kept("".join(self._text))
            raise StorageError(
                f"stdout must be writable, but: {self.error.strerror}; the results are in {path}"
            )

    def _try(self, use: Callable[[TextIO], object]) -> None:
        if self._stream is None:
            return
        try:
            use(self._stream)
        except OSError as error:
            self.error = error
            with suppress(OSError, ValueError):  # or it fails again as the process ends
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
            self._stream = None


@contextmanager
def survivors() -> Iterator[Survivor]:
    """Let stdout and stderr be survivors; gives stdout."""
    usual = sys.stdout, sys.stderr
    stdout, stderr = Survivor(sys.stdout, keep=True), Survivor(sys.stderr, keep=False)
    sys.stdout, sys.stderr = stdout, stderr
    try:
        yield stdout
    finally:
        stdout.let_go()
        stderr.let_go()
        sys.stdout, sys.stderr = usual


def _kept(text: str) -> Path:
    """A new file with the text, here or where temporary files lie."""
    import tempfile

    for folder in (Path.cwd(), None):
        with suppress(OSError):
            number, name = tempfile.mkstemp(".txt", "dsaccel-results-", folder)
            with os.fdopen(number, "w", encoding="utf-8", errors="replace") as file:
                file.write(text)
            return Path(name)
    return Path("(no folder that can be written)")
