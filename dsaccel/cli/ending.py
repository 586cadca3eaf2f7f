"""How a command ends: with one message and a documented exit code, and without a traceback.

Exit codes: 0 done, 1 unexpected, 2 bad input, 3 no finished hierarchy or other results, 4 storage,
or a file or stdout that cannot be written, 5 the study exists with other settings or images, 6 too
little memory, 129 hung up, 130 interrupted, 143 terminated.
"""

import functools
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer

from dsaccel import stopping
from dsaccel.cli.output import Survivor, survivors
from dsaccel.errors import UserError
from dsaccel.text import printable, redacted

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


class Stopped(KeyboardInterrupt):
    """The user, the terminal or the system wants the command to end."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.exit_code = 128 + number


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the end that its errors and signals should have."""

    @functools.wraps(command)
    def run(**values: Any) -> None:
        with survivors() as stdout, _stopping():
            code = _run(functools.partial(command, **values), stdout)
        if code:
            raise typer.Exit(code)

    return run


def _run(command: Callable[[], None], stdout: Survivor) -> int:
    try:
        command()
        stdout.check()
    except UserError as error:
        code, message = error.exit_code, str(error)
    except OSError as error:
        code, what = 4, error.filename or "the system"
        message = f"{what} cannot be used: {error.strerror or error}"
    except KeyboardInterrupt as stopped:
        code = stopped.exit_code if isinstance(stopped, Stopped) else 130
        again = shlex.join(redacted(word) for word in ["dsaccel", *sys.argv[1:]])
        message = f"stopped; continue with: {again}"
    else:
        return 0
    print(f"dsaccel: {printable(message)}", file=sys.stderr)
    return code


@contextmanager
def _stopping() -> Iterator[None]:
    """Let the first signal end the command, which may save before, and a second one the process."""
    usual = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        for number, handler in usual.items():
            if handler != signal.SIG_IGN:  # nohup, or a shell's `&`
                signal.signal(number, _stop)
        yield
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)


def _stop(number: int, _frame: object) -> None:
    for each in SIGNALS:
        signal.signal(each, lambda number, _frame: os._exit(128 + number))
    stopping.stop(Stopped(number))
