"""The Optuna storage of a study: opened to search or to read, and its failures in a line."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import optuna
import sqlalchemy
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from sqlalchemy.event import listens_for
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from dsaccel.config.study import StudyConfig
from dsaccel.errors import ConfigError, MismatchError, StorageError
from dsaccel.study.folder import StudyDir

TUNING_SUFFIX = "-global"
"""Ends the name of the study in which a confirmation tunes back-propagation."""


def open_study(directory: StudyDir, config: StudyConfig, *, create: bool = False) -> optuna.Study:
    """The Optuna study of a directory; made if `create`.

    Raises:
        StorageError: if the storage cannot be reached, or holds no such study.
    """
    url = directory.storage_url(config)
    _check_lasting(url)
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
                f"study {directory.name} in {redact(url)} minimises, so it is not ours; "
                "choose another --study-name"
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names(["val_accuracy"])
        return study


def stored_attributes(directory: StudyDir, config: StudyConfig) -> dict[str, Any] | None:
    """The user attributes of a study; None: it is not in its storage, in which nothing is created.

    Raises:
        StorageError: if the storage cannot be reached.
    """
    url = directory.storage_url(config)
    _check_lasting(url)
    with _opening(url):
        place = sqlalchemy.engine.make_url(url)
        is_path = place.get_backend_name() == "sqlite" and "uri" not in place.query
        if is_path and not Path(place.database or "").is_file():
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
            return optuna.load_study(study_name=name, storage=storage).user_attrs
        finally:
            storage.remove_session()
            storage.engine.dispose()


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
            f"storage {redact(url)} was written to by another process, which searches the same "
            f"study ({_first_line(error)}); let one of them finish, or use --study-name"
        ) from None
    except (SQLAlchemyError, StorageInternalError) as error:
        raise StorageError(
            f"storage {redact(url)} failed: {_first_line(error)}; mend that and run the command "
            "again: a study goes on from where it stands"
        ) from None


def redact(url: str) -> str:
    """A storage's URL without its password."""
    try:
        return sqlalchemy.engine.make_url(url).render_as_string(hide_password=True)
    except (SQLAlchemyError, ValueError):
        return "(not a URL)"


def _check_lasting(url: str) -> None:
    """Refuse a database in memory."""
    with _opening(url):
        place = sqlalchemy.engine.make_url(url)
    is_sqlite = place.get_backend_name() == "sqlite"
    is_nowhere = place.database in (None, "", ":memory:") or place.query.get("mode") == "memory"
    if is_sqlite and is_nowhere:
        raise ConfigError(
            f"storage must outlast its process, but {url} is a database in memory; leave it out, "
            "or name a file as sqlite:///FILE"
        )


@contextmanager
def _opening(url: str) -> Iterator[None]:
    """As `storage_errors` while a storage is opened: a bad URL, a missing driver or study, too."""
    with storage_errors(url):
        try:
            yield
        except KeyError:
            raise StorageError(f"storage {redact(url)} holds no such study") from None
        except (ArgumentError, ImportError, ValueError) as error:
            raise StorageError(
                f"storage {redact(url)} cannot be opened: {_first_line(error)}; expected "
                "sqlite:///FILE or postgresql+psycopg://USER@HOST/DATABASE "
                "(pip install 'dsaccel[postgres]')"
            ) from None


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
    names = set(optuna.get_all_study_names(storage))
    names -= {known + TUNING_SUFFIX for known in names}
    return names.pop() if len(names) == 1 else name


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


def _first_line(error: BaseException) -> str:
    """The cause, which Optuna and SQLAlchemy wrap, in one line."""
    cause = error.__cause__ or error
    return str(getattr(cause, "orig", cause)).strip().splitlines()[0]
