"""Where a study lies: its files, the study files and spaces it is made from, and its storage."""

import hashlib
import importlib.resources
import os
import re
import shlex
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import filelock
import optuna
import sqlalchemy
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from sqlalchemy.event import listens_for
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from dsaccel.config import (
    NAME_PATTERN,
    ConfirmConfig,
    StudyConfig,
    differences,
    parse_config,
    read_toml,
    write_toml,
)
from dsaccel.errors import ConfigError, MismatchError, StorageError
from dsaccel.files import check_writable, make_folder

STUDIES = Path("studies")
SPACES = Path("search_spaces")
TUNING_SUFFIX = "-global"
"""Ends the name of the study in which a confirmation tunes back-propagation."""


class StudyDir:
    """`studies/NAME/`: everything that a search writes."""

    def __init__(self, name: str) -> None:
        if not re.match(NAME_PATTERN, name):
            raise ConfigError(
                "a study's name must start with a letter or digit and hold only letters, digits, "
                f"'.', '_' and '-', but got {name!r}; choose one with --study-name"
            )
        self.name = name
        self.path = STUDIES / name

    @property
    def config(self) -> Path:
        """The resolved settings."""
        return self.path / "study.toml"

    @property
    def database(self) -> Path:
        return self.path / "study.db"

    @property
    def best(self) -> Path:
        return self.path / "best.toml"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def harvest(self) -> Path:
        """Networks that were read on the way and are no trials of the study."""
        return self.path / "harvest.csv"

    @property
    def confirmation(self) -> Path:
        """Folder of networks whose test accuracy has not been read yet."""
        return self.path / "confirmation"

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoint.pt"

    @property
    def parts(self) -> Path:
        """Learners of a cohort that is trained in parts, while others are trained."""
        return self.path / "parts"

    @property
    def exists(self) -> bool:
        """Whether a search was run here."""
        return self.config.is_file()

    @property
    def lock(self) -> Path:
        """Held by the process that trains here."""
        return self.path / ".lock"

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
        if not re.match(NAME_PATTERN, text):
            StudyDir(text)
        path = _find_file(STUDIES, f"{text}.toml") or STUDIES / text / "study.toml"
        if not path.is_file():
            raise ConfigError(
                f"study must be a TOML file, a name in {STUDIES}/ or a study that was run, "
                f"but got {text!r}; known here: {', '.join(_known_studies()) or 'none'}"
            )
    name = path.parent.name if path.name == "study.toml" else path.stem
    tables = read_toml(path)
    if isinstance(tables.get("space"), str):
        tables["space"] = find_space(tables["space"], path.parent)
    return name, tables


def find_space(text: str, folder: Path = Path()) -> dict[str, Any]:
    """The tables of a search space: a path (also relative to `folder`) or a name.

    Raises:
        ConfigError: if there is none.
    """
    if text.endswith(".toml"):
        beside = folder / text
        return read_toml(beside if beside.is_file() else Path(text))
    path = _find_file(SPACES, f"{text}.toml")
    if path is None:
        known = sorted({p.stem for folder in _folders(SPACES) for p in folder.glob("*.toml")})
        raise ConfigError(
            f"space must be a TOML file or one of {', '.join(known)}, but got {text!r}"
        )
    return read_toml(path)


def open_study(directory: StudyDir, config: StudyConfig, *, create: bool = False) -> optuna.Study:
    """The Optuna study of a directory; made if `create`.

    Raises:
        StorageError: if the storage cannot be reached, or holds no such study.
    """
    url = directory.storage_url(config)
    if not create and config.storage is None and not directory.database.is_file():
        raise StorageError(f"{directory.database} must be the study's database, but is not there")
    # stored trials are proposed elsewhere: this sampler is never asked, and costs nothing
    sampler = optuna.samplers.RandomSampler(seed=0)
    with _opening(url):
        storage = _open_storage(url if create else _readable(url))
        name = directory.name
        if config.storage is None:
            name = _name_in_folder(storage, name)
        if not create:
            return optuna.load_study(study_name=name, storage=storage, sampler=sampler)
        study = optuna.create_study(
            study_name=name,
            storage=storage,
            sampler=sampler,
            direction="maximize",
            load_if_exists=True,
        )
        if study.direction != optuna.study.StudyDirection.MAXIMIZE:
            raise MismatchError(
                f"study {directory.name} in {_redact(url)} minimises, so it is not ours; "
                "choose another --study-name"
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names(["val_accuracy"])
        return study


def quiet_optuna() -> None:
    """Keep Optuna's log to warnings: a program that shows its own progress calls this."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)


@contextmanager
def storage_errors(url: str) -> Iterator[None]:
    """Turn the failure of a storage in use into one line without a password."""
    try:
        yield
    except UpdateFinishedTrialError as error:
        raise StorageError(
            f"storage {_redact(url)} was written to by another process, which searches the same "
            f"study ({_first_line(error)}); let one of them finish, or use --study-name"
        ) from None
    except (SQLAlchemyError, StorageInternalError) as error:
        raise StorageError(
            f"storage {_redact(url)} failed: {_first_line(error)}; mend that and run the command "
            "again: a study goes on from where it stands"
        ) from None


@contextmanager
def _opening(url: str) -> Iterator[None]:
    """Likewise for a storage that is opened: also a bad URL, a missing driver or study."""
    with storage_errors(url):
        try:
            yield
        except KeyError:
            raise StorageError(f"storage {_redact(url)} holds no such study") from None
        except (ArgumentError, ImportError, ValueError) as error:
            raise StorageError(
                f"storage {_redact(url)} cannot be opened: {_first_line(error)}; expected "
                "sqlite:///FILE or postgresql+psycopg://USER@HOST/DATABASE "
                "(pip install 'dsaccel[postgres]')"
            ) from None


@contextmanager
def alone(directory: StudyDir) -> Iterator[None]:
    """Keep other processes of this machine from training in a study's folder.

    Raises:
        StorageError: if one does, or the folder cannot be written.
    """
    make_folder(directory.path)
    check_writable(directory.lock)
    try:
        with filelock.FileLock(directory.lock, timeout=0):
            yield
    except filelock.Timeout:
        raise StorageError(
            f"study {directory.name} must be trained by one process at a time, but another one is "
            "at it; wait for its end, or use --study-name for a study of its own"
        ) from None


class Recorded(NamedTuple):
    """What a study was begun with."""

    config: StudyConfig
    fingerprint: str | None
    """Of the images; None: unknown."""


def recorded_study(directory: StudyDir, asked: StudyConfig) -> Recorded | None:
    """What the storage says of a study, or else its folder; None: there is no such study.

    Raises:
        StorageError: if the storage cannot be reached.
        MismatchError: if the study is in another storage than the one that is asked for.
    """
    local = directory.read_config() if directory.exists else None
    if asked.storage is None and local is not None:
        asked = asked.model_copy(update={"storage": local.storage})
    stored = _stored_study(directory, asked)
    if stored is not None or local is None:
        return stored
    if asked.storage != local.storage:
        old, new = (_redact(directory.storage_url(config)) for config in (local, asked))
        raise MismatchError(
            f"storage: {old} in the study, {new} asked for, which holds no study "
            f"{directory.name}; use --study-name for a new study, or the old storage"
        )
    return Recorded(local, None)


def _stored_study(directory: StudyDir, config: StudyConfig) -> Recorded | None:
    """What a storage says of a study; nothing is created in it."""
    url = directory.storage_url(config)
    with _opening(url):
        place = sqlalchemy.engine.make_url(url)
        if place.drivername.startswith("sqlite") and not Path(place.database or "").is_file():
            return None
        engine = sqlalchemy.create_engine(place)
        is_optunas = sqlalchemy.inspect(engine).has_table("studies")
        engine.dispose()
        if not is_optunas:
            return None
        storage = _open_storage(url)
        try:
            name = directory.name
            if config.storage is None:
                name = _name_in_folder(storage, name)
            if name not in optuna.get_all_study_names(storage):
                return None
            attributes = optuna.load_study(study_name=name, storage=storage).user_attrs
        finally:
            storage.remove_session()
            storage.engine.dispose()
    if "config" not in attributes:
        return None
    recorded = parse_config(StudyConfig, attributes["config"], f"study {name}")
    return Recorded(recorded, attributes.get("fingerprint"))


def check_same(recorded: Recorded, asked: StudyConfig, fingerprint: str) -> None:
    """Refuse to continue a study with settings that would give other results.

    Args:
        recorded: what it was begun with.
        asked: what it is to be continued with.
        fingerprint: of the images that are there now; equal ones may lie elsewhere.

    Raises:
        MismatchError: with a line for each difference.
    """
    begun, now = _deciding(recorded.config), _deciding(asked)
    if recorded.fingerprint == fingerprint:
        place = {"name": now.data.name, "dir": now.data.dir}
        begun = begun.model_copy(update={"data": begun.data.model_copy(update=place)})
    lines = differences(begun, now)
    if lines:
        raise MismatchError(
            "the study was begun with other settings, which would give other results; use "
            "--study-name for a new study, or the old settings:\n  " + "\n  ".join(lines)
        )


def study_fingerprint(config: StudyConfig, images: str) -> str:
    """Of all that decides a study's results: resolved settings, and the images' fingerprint."""
    return hashlib.sha256(repr((_deciding(config), images)).encode()).hexdigest()


def as_recorded(config: StudyConfig, recorded: StudyConfig) -> StudyConfig:
    """What is left to be chosen, chosen as when the study began."""
    data = {
        key: getattr(recorded.data, key)
        for key in ("image_size", "channels", "crop_padding", "flip")
        if getattr(config.data, key) is None
    }
    runtime = {}
    if config.runtime.device == "auto":
        runtime["device"] = recorded.runtime.device
    if config.runtime.threads is None:
        runtime["threads"] = recorded.runtime.threads
    budget = {
        key: getattr(recorded.budget, key)
        for key in ("strategy", "cohort_size")
        if getattr(config.budget, key) is None
    }
    return config.model_copy(
        update={
            "data": config.data.model_copy(update=data),
            "runtime": config.runtime.model_copy(update=runtime),
            "budget": config.budget.model_copy(update=budget),
            "storage": config.storage or recorded.storage,
        }
    )


def write_config(directory: StudyDir, config: StudyConfig) -> None:
    """Write the resolved settings beside the study."""
    make_folder(directory.path)
    write_toml(directory.config, config)


def _deciding(config: StudyConfig) -> StudyConfig:
    """A config without the settings that say only how far to go and where to keep it."""
    budget = config.budget.model_copy(update={"n_trials": 1, "timeout_s": None, "baseline": True})
    runtime = config.runtime.model_copy(update={"memory_mib": None})
    return config.model_copy(
        update={
            "training": config.training.deciding,
            "budget": budget,
            "confirm": ConfirmConfig(),
            "runtime": runtime,
            "storage": None,
        }
    )


def _open_storage(url: str) -> optuna.storages.RDBStorage:
    storage = optuna.storages.RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
    if storage.engine.dialect.name == "sqlite" and "mode" not in storage.engine.url.query:
        # one writer, many small commits: no need to wait for the disk at each of them
        @listens_for(storage.engine, "connect")
        def _set_pragmas(connection: Any, _record: Any) -> None:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")

        storage.engine.dispose()
    return storage


def _name_in_folder(storage: optuna.storages.RDBStorage, name: str) -> str:
    """The name of the study in a folder's own database: that of the folder, unless it was moved."""
    names = [
        known for known in optuna.get_all_study_names(storage) if not known.endswith(TUNING_SUFFIX)
    ]
    return names[0] if len(names) == 1 else name


def _readable(url: str) -> str:
    """An SQLite file in a folder that cannot be written, opened to be read alone: otherwise SQLite
    would make its log there, even to read.
    """
    asked = sqlalchemy.engine.make_url(url)
    path = Path(asked.database or "")
    is_file = asked.get_backend_name() == "sqlite" and path.is_file()
    if not is_file or os.access(path.parent, os.W_OK):
        return url
    query = {"mode": "ro", "uri": "true"}
    if not path.with_name(path.name + "-wal").is_file():
        query["immutable"] = "1"  # nobody writes, and all that was written is in the file
    read_only = asked.set(database=f"file:{quote(path.as_posix())}", query=query)
    return read_only.render_as_string(hide_password=False)


def _redact(url: str) -> str:
    try:
        return sqlalchemy.engine.make_url(url).render_as_string(hide_password=True)
    except (SQLAlchemyError, ValueError):
        return "(not a URL)"


def _first_line(error: BaseException) -> str:
    """The cause, which Optuna and SQLAlchemy wrap, in one line."""
    cause = error.__cause__ or error
    return str(getattr(cause, "orig", cause)).strip().splitlines()[0]


def _folders(folder: Path) -> list[Path]:
    """Where named files lie: here, in the installed package, in the checkout it runs from."""
    package = Path(str(importlib.resources.files("dsaccel")))
    return [folder, package / folder, package.parent / folder]


def _find_file(folder: Path, name: str) -> Path | None:
    paths = (place / name for place in _folders(folder))
    return next((path for path in paths if path.is_file()), None)


def _known_studies() -> list[str]:
    files = {path.stem for folder in _folders(STUDIES) for path in folder.glob("*.toml")}
    return sorted(files | {path.parent.name for path in STUDIES.glob("*/study.toml")})
