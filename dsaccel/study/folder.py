"""Where a study lies: its files, and the study files and spaces that it is made from."""

import importlib.resources
import re
import shlex
from pathlib import Path
from typing import Any

from dsaccel.config.study import SpaceConfig, StudyConfig
from dsaccel.config.toml import parse_config, read_toml
from dsaccel.errors import ConfigError
from dsaccel.imports import trust, words_of

STUDIES = Path("studies")
SPACES = Path("search_spaces")
NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}"


class Inside:
    """The path of a file, or of a folder, in a study's folder."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, directory: "StudyDir", _: type) -> Path:
        return directory.path / self._name


class StudyDir:
    """`studies/NAME/`, or a folder elsewhere: everything that a search writes."""

    config = Inside("study.toml")
    """The resolved settings."""
    database = Inside("study.db")
    best = Inside("best.toml")
    best_weights = Inside("best.safetensors")
    baseline = Inside("baseline.safetensors")
    """Weights of the winner as back-propagation has trained it."""
    weights = Inside("weights")
    """Folder of the weights of the best networks."""
    report = Inside("report.html")
    heads = Inside("heads")
    """Folder of the accuracies that trials have read, by rung and head."""
    harvest = Inside("harvest.csv")
    """Networks that were read on the way and are no trials of the study."""
    confirmation = Inside("confirmation")
    """Folder of networks whose test accuracy has not been read yet."""
    checkpoint = Inside("checkpoint.pt")
    baseline_checkpoint = Inside("baseline.pt")
    """The checkpoint of a training by back-propagation beside the cohorts."""
    parts = Inside("parts")
    """Learners of a cohort that is trained in parts, while others are trained."""
    lock = Inside(".lock")
    """Held by the process that trains here."""
    driver = Inside(".driver")
    """Says which process that is."""

    def __init__(self, name: str, parent: Path = STUDIES) -> None:
        if not re.fullmatch(NAME_PATTERN, name):
            raise ConfigError(
                "a study's name must start with a letter or digit and hold only letters, digits, "
                f"'.', '_' and '-', 200 at most, but got {name!r}; choose one with --study-name"
            )
        self.name = name
        self.path = parent / name

    @property
    def exists(self) -> bool:
        """Whether a search was run here."""
        return self.config.is_file()

    @property
    def is_begun(self) -> bool:
        """Whether there is something here that a study goes on with."""
        return self.exists or self.database.exists()

    def read_config(self) -> StudyConfig:
        """The settings the study was run with."""
        return parse_config(StudyConfig, read_toml(self.config), str(self.config))

    def search_command(self, *options: str) -> str:
        """What goes on with the recorded settings, whatever study file or options they are from."""
        return shlex.join(["dsaccel", "search", self.config.as_posix(), *options])

    def storage_url(self, config: StudyConfig) -> str:
        return config.storage or f"sqlite:///{self.database.as_posix()}"


def find_study(text: str) -> tuple[str, dict[str, Any]]:
    """The name and the tables of a study, with its search space in them.

    Args:
        text: path of a study file, name of a file in `studies/`, or name of a study that was run.

    Raises:
        ConfigError: if there is none.
    """
    path = Path(text)
    if path.suffix != ".toml" and "/" not in text:
        StudyDir(text)  # refuses what is no name
        path = _find_file(STUDIES, f"{text}.toml") or STUDIES / text / "study.toml"
        if not path.is_file():
            raise ConfigError(
                f"study must be a TOML file, a name in {STUDIES}/ or a study that was run, "
                f"but got {text!r}; known here: {', '.join(known_studies()) or 'none'}"
            )
    name = path.parent.name if path.name == "study.toml" else path.stem
    tables = read_toml(path)
    if isinstance(tables.get("space"), str):
        tables["space"] = find_space(tables["space"], path.parent)
    if path.name != "study.toml":  # what a study has recorded may come from elsewhere
        trust(words_of(tables), path.parent)
    return name, tables


def find_space(text: str, folder: Path = Path()) -> dict[str, Any]:
    """The tables of a search space: a path (also relative to `folder`) or a name.

    Raises:
        ConfigError: if there is none, or something in it is wrong.
    """
    if text.endswith(".toml"):
        beside = folder / text
        path = beside if beside.is_file() else Path(text)
    else:
        path = _find_file(SPACES, f"{text}.toml")
    if path is None:
        known = sorted({p.stem for folder in _folders(SPACES) for p in folder.glob("*.toml")})
        raise ConfigError(
            f"space must be a TOML file or one of {', '.join(known)}, but got {text!r}"
        )
    tables = read_toml(path)
    parse_config(SpaceConfig, tables, str(path))  # a mistake is told with the file that has it
    return tables


def has_space(name: str) -> bool:
    """Whether there is a search space of this name."""
    return _find_file(SPACES, f"{name}.toml") is not None


def _folders(folder: Path) -> list[Path]:
    """The places of named files: here, in the installed package, in the checkout it runs from."""
    package = Path(str(importlib.resources.files("dsaccel")))
    return [folder, package / folder, package.parent / folder]


def _find_file(folder: Path, name: str) -> Path | None:
    paths = (place / name for place in _folders(folder))
    return next((path for path in paths if path.is_file()), None)


def known_studies() -> list[str]:
    """Study files here and those that are shipped, and studies that were run here."""
    files = {path.stem for folder in _folders(STUDIES) for path in folder.glob("*.toml")}
    return sorted(files | {path.parent.name for path in STUDIES.glob("*/study.toml")})
