"""What several commands need: a study by name, consoles."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dsaccel.errors import ConfigError

if TYPE_CHECKING:
    from optuna import Study
    from rich.console import Console

    from dsaccel.config.study import StudyConfig
    from dsaccel.data.batches import Data
    from dsaccel.study.folder import StudyDir

StudyName = Annotated[
    str, typer.Argument(metavar="STUDY", help="A study file, its name, or a study that was run.")
]

PIPE_WIDTH = 10_000
"""More than any line has."""


def consoles(as_json: bool) -> tuple["Console", "Console"]:
    """For progress, and for results: stdout, unless that is kept for JSON. What is piped is neither
    wrapped nor cut.
    """
    from rich.console import Console

    def console(stderr: bool) -> Console:
        # no markup: a path may hold brackets
        if (sys.stderr if stderr else sys.stdout).isatty():
            return Console(stderr=stderr, markup=False)
        # with a height, or a dumb terminal's width would be taken where colour is forced
        return Console(stderr=stderr, width=PIPE_WIDTH, height=25, markup=False)

    progress = console(stderr=True)
    return progress, progress if as_json else console(stderr=False)


def tell_notes(console: "Console", data: "Data") -> None:
    """Say what should be known of the images."""
    for note in data.notes:
        console.print(note, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """One JSON object on stdout."""
    import json

    print(json.dumps(value))


def stored_study(study: str) -> tuple["StudyDir", "StudyConfig", "Study"]:
    """A study that was run: its folder, settings and Optuna study."""
    from dsaccel.study.folder import StudyDir, find_study
    from dsaccel.study.storage import open_study

    name = study if "/" not in study and not study.endswith(".toml") else find_study(study)[0]
    directory = StudyDir(name)
    if not directory.exists:
        find_study(study)  # says what is known here, if this is not
        raise ConfigError(
            f"study must be one that was run, but {directory.config} is not there; "
            f"run it with: dsaccel search {study}"
        )
    config = directory.read_config()
    return directory, config, open_study(directory, config)
