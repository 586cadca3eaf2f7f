"""The command line: which commands there are, and how they end.

Exit codes: 0 done, 1 unexpected, 2 bad input, 3 no finished hierarchy or other results, 4 storage,
or a file that cannot be written, 5 the study exists with other settings or images, 6 too little
memory, 130 interrupted, 143 terminated.
"""

import functools
import shlex
import signal
import sys
from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from dsaccel.cli.calibrate import calibrate
from dsaccel.cli.confirm import confirm
from dsaccel.cli.describe import describe
from dsaccel.cli.evaluate import evaluate
from dsaccel.cli.export import export
from dsaccel.cli.landscape import landscape
from dsaccel.cli.pareto import pareto
from dsaccel.cli.replay import replay
from dsaccel.cli.report import report
from dsaccel.cli.search import search
from dsaccel.cli.train import train
from dsaccel.cli.variance import variance
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


class Outlines(TyperGroup):
    """Reads a command's options when it is called: `--help` lists names and first lines only, and
    reading all options would take it as long as all else that is ours.
    """

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """A name, the command in full, and the arguments that are left for it."""
        name, outline, rest = super().resolve_command(ctx, args)
        return name, None if outline is None else _in_full(str(name)), rest


def _outline(command: Callable[..., None]) -> Callable[[], None]:
    """What the list of commands shows of it."""

    def outline() -> None:
        raise AssertionError("unreachable")

    outline.__name__, outline.__doc__ = command.__name__, command.__doc__
    return outline


def _in_full(name: str) -> Any:
    command = next(command for command in COMMANDS if command.__name__ == name)
    alone = typer.Typer(add_completion=False, **PLAIN)
    alone.command()(guarded(command))
    return get_command(alone)


PLAIN: dict[str, Any] = {
    "pretty_exceptions_enable": False,
    "rich_markup_mode": None,  # plain help: drawing it with rich takes as long as all else
}
app = typer.Typer(
    cls=Outlines,
    no_args_is_help=True,
    help="Search the hierarchy (blocks per stage) that learns best layer-wise.",
    **PLAIN,
)
for command in COMMANDS:
    app.command()(_outline(command))


def main() -> None:
    """Entry point of `dsaccel`."""
    app()


if __name__ == "__main__":
    main()
