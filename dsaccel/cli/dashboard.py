"""`dsaccel dashboard`: a study in the browser."""

from contextlib import suppress
from typing import Annotated

import typer

from dsaccel.cli.options import StudyName
from dsaccel.cli.output import Output
from dsaccel.errors import ConfigError


def dashboard(
    study: StudyName,
    port: Annotated[int, typer.Option(help="Of this machine; 0: any.", min=0, max=65535)] = 8080,
) -> None:
    """Show a study in optuna-dashboard, on this machine alone.

    It follows a running search. Every trial has its name and a note, the study its figures. What is
    written in the dashboard is not kept: it shows a copy. Ctrl+C ends it.
    """
    from dsaccel.api import Study
    from dsaccel.report.dashboard import serve

    read, output = Study.load(study), Output()
    try:
        with suppress(KeyboardInterrupt):
            serve(lambda: read.record, port, lambda url: output.show(f"{read.name}: {url}"))
    except OSError as error:
        raise ConfigError(
            f"port {port} must be free on this machine, but: {error.strerror}; choose another "
            "--port, or 0 for any"
        ) from None
