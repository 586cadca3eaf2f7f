"""`dsaccel curves`: a study epoch by epoch, as a file."""

from pathlib import Path
from typing import Annotated

import typer

from dsaccel.cli.options import StudyName
from dsaccel.cli.output import Output
from dsaccel.errors import ConfigError


def curves(
    study: StudyName,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="CSV, or .json. Default: studies/NAME/curves.csv."),
    ] = None,
) -> None:
    """Write what each head of each network has reached after each epoch.

    References and global baselines have training accuracy, losses and learning rate; with
    runtime.curves in a search all networks have them.
    """
    if output is not None and output.suffix not in (".csv", ".json"):
        raise ConfigError(f"--output must be a .csv or a .json file, but got {output}")
    if output is not None and not output.parent.is_dir():
        raise ConfigError(f"folder {output.parent} must exist to write {output.name} into it")
    import json
    from dataclasses import asdict

    from dsaccel.api import Study
    from dsaccel.files import write_csv, write_text

    read = Study.load(study)
    path = output or read.folder / "curves.csv"
    lines = [asdict(point) for point in read.curves()]
    if path.suffix == ".json":
        write_text(path, json.dumps(lines) + "\n")
    else:
        write_csv(path, lines)
    Output().show(path.as_posix())
