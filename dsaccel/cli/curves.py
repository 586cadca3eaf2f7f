"""`dsaccel curves`: a study epoch by epoch, as a file."""

from pathlib import Path
from typing import Annotated

import typer

from dsaccel.cli.options import StudyName
from dsaccel.cli.output import Output
from dsaccel.files import check_target, write_csv, write_json


def curves(
    study: StudyName,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="CSV, or .json. Default: studies/NAME/curves.csv."),
    ] = None,
) -> None:
    """Write what each head has reached after each epoch.

    References and global baselines have training accuracy, losses and learning rate; with
    runtime.curves in a search all networks have them.
    """
    if output is not None:
        check_target(output, (".csv", ".json"))
    from dataclasses import asdict

    from dsaccel.api import Study

    read = Study.load(study)
    path = output or read.folder / "curves.csv"
    lines = [asdict(point) for point in read.curves()]
    if path.suffix == ".json":
        write_json(path, lines, indent=None)
    else:
        write_csv(path, lines)
    Output().show(path.as_posix())
