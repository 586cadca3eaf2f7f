"""The command line: which commands there are, and how they end.

Exit codes: 0 done, 1 unexpected, 2 bad input, 3 no finished hierarchy, 4 storage, 5 the study
exists with other settings, 130 interrupted, 143 terminated.
"""

import functools
import shlex
import signal
import sys
from collections.abc import Callable
from typing import Any

import typer

from dsaccel.commands.calibrate import calibrate
from dsaccel.commands.confirm import confirm
from dsaccel.commands.describe import describe
from dsaccel.commands.evaluate import evaluate
from dsaccel.commands.export import export
from dsaccel.commands.landscape import landscape
from dsaccel.commands.pareto import pareto
from dsaccel.commands.replay import replay
from dsaccel.commands.report import report
from dsaccel.commands.search import search
from dsaccel.commands.train import train
from dsaccel.commands.variance import variance
from dsaccel.errors import UserError

COMMANDS = (
    search,
    confirm,
    train,
    evaluate,
    describe,
    export,
    report,
    pareto,
    calibrate,
    variance,
    landscape,
    replay,
)


class Terminated(KeyboardInterrupt):
    """SIGTERM: handled as Ctrl-C is, with an exit code of its own."""


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """End a command with one message and a documented exit code, without a traceback."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        signal.signal(signal.SIGTERM, _terminate)
        try:
            command(*args, **kwargs)
        except UserError as error:
            print(f"dsaccel: {error}", file=sys.stderr)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt as interrupt:
            again = shlex.join(["dsaccel", *sys.argv[1:]])
            print(f"dsaccel: stopped; continue with: {again}", file=sys.stderr)
            raise typer.Exit(143 if isinstance(interrupt, Terminated) else 130) from None

    return run


def _terminate(_signal: int, _frame: object) -> None:
    raise Terminated


app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: drawing it with rich takes as long as all else
    help="Search the hierarchy (blocks per stage) that learns best layer-wise.",
)
for command in COMMANDS:
    app.command()(guarded(command))


def main() -> None:
    """Entry point of `dsaccel`."""
    app()
