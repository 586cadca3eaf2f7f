"""`dsaccel report`: a study as a page."""

from pathlib import Path
from typing import Annotated

import typer

from dsaccel.cli.common import StudyName, stored_study
from dsaccel.cli.output import Output
from dsaccel.errors import ConfigError


def report(
    study: StudyName,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Default: studies/NAME/report.html.")
    ] = None,
) -> None:
    """Write a study's report: one HTML page that needs no network."""
    from dsaccel.report.study_page import write_report
    from dsaccel.report.study_table import headline

    directory, _, stored = stored_study(study)
    path = output or directory.report
    if not path.parent.is_dir():
        raise ConfigError(f"folder {path.parent} must exist to write {path.name} into it")
    write_report(stored, path)
    Output().show(headline(stored), str(path))
