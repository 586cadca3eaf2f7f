"""The command line: which commands there are. `ending` says how they end."""

from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from dsaccel import __version__
from dsaccel.cli.calibrate import calibrate
from dsaccel.cli.clean import clean
from dsaccel.cli.compare import compare
from dsaccel.cli.confirm import confirm
from dsaccel.cli.curves import curves
from dsaccel.cli.dashboard import dashboard
from dsaccel.cli.describe import describe
from dsaccel.cli.ending import guarded
from dsaccel.cli.evaluate import evaluate
from dsaccel.cli.examples import epilog
from dsaccel.cli.export import export
from dsaccel.cli.fit import fit
from dsaccel.cli.landscape import landscape
from dsaccel.cli.list import list as list_studies
from dsaccel.cli.new import new
from dsaccel.cli.options import with_options
from dsaccel.cli.pareto import pareto
from dsaccel.cli.predict import predict
from dsaccel.cli.replay import replay
from dsaccel.cli.report import report
from dsaccel.cli.reproduce import reproduce
from dsaccel.cli.search import search
from dsaccel.cli.train import train
from dsaccel.cli.variance import variance

COMMANDS = (
    fit,
    new,
    search,
    confirm,
    train,
    evaluate,
    describe,
    export,
    report,
    dashboard,
    curves,
    compare,
    pareto,
    calibrate,
    variance,
    landscape,
    replay,
    clean,
    list_studies,
    predict,
    reproduce,
)


class Outlines(TyperGroup):
    """Reads a command's options when it is called: `--help` lists names and first lines only, and
    reading all options would take it as long as all else that is ours.
    """

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """A name, the command in full, and the arguments that are left for it."""
        name, outline, rest = super().resolve_command(ctx, args)
        return name, None if outline is None else in_full(str(name)), rest


def in_full(name: str) -> Any:
    """A command with its options, by name."""
    command = next(command for command in COMMANDS if command.__name__ == name)
    alone = typer.Typer(add_completion=False, **PLAIN)
    alone.command(epilog=epilog(name))(guarded(with_options(command)))
    return get_command(alone)


def _outline(command: Callable[..., None]) -> Callable[[], None]:
    """The command as the list of commands shows it."""

    def outline() -> None:
        raise AssertionError("unreachable")

    outline.__name__, outline.__doc__ = command.__name__, command.__doc__
    return outline


PLAIN: dict[str, Any] = {
    "pretty_exceptions_enable": False,
    "rich_markup_mode": None,  # plain help: drawing it with rich takes as long as all else
}
app = typer.Typer(cls=Outlines, no_args_is_help=True, **PLAIN)


def _show_version(asked: bool) -> None:
    if asked:
        print(f"dsaccel {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_show_version, help="Show it, and exit."),
    ] = False,
) -> None:
    """Search the hierarchy (blocks per stage) that learns best layer-wise."""


for command in COMMANDS:
    app.command()(_outline(command))


def main() -> None:
    """Entry point of `dsaccel`."""
    app()


if __name__ == "__main__":
    main()
