"""What several commands need: a study by name."""

from typing import TYPE_CHECKING, Annotated

import typer

from dsaccel.errors import ConfigError

if TYPE_CHECKING:
    from optuna import Study

    from dsaccel.config.study import StudyConfig
    from dsaccel.study.folder import StudyDir

StudyName = Annotated[
    str, typer.Argument(metavar="STUDY", help="A study file, its name, or a study that was run.")
]


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
