"""The command line, in this process."""

from typer.testing import CliRunner, Result

from dsaccel.cli.app import app


def run(*args: object) -> Result:
    """What a command says, and how it ends."""
    return CliRunner().invoke(app, [str(arg) for arg in args])
