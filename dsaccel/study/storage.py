"""The Optuna storage of a study: opened to search or to read, and its failures in a line."""

import os
import warnings
import weakref
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
from dsaccel.study.lease import folder_lock, leased
from dsaccel.study.outage import LIMIT_S, Patience, first_line, while_racing
from dsaccel.study.urls import connectable, redact

TUNING_SUFFIX = ":global"
"""Ends the name of the study in which a confirmation tunes back-propagation; no study of a folder
can be named so.
"""
OLD_TUNING_SUFFIX = "-global"


class Storage(optuna.storages.RDBStorage):
    """Optuna's, which may wait while it is away. Its connections are closed with it, or at the end
    of the process.
    """

    def __init__(self, url: sqlalchemy.URL) -> None:
        options: dict[str, Any] = {"pool_pre_ping": True}
        if url.get_backend_name() == "postgresql" and "connect_timeout" not in url.query:
            # a server that is cut off does not say so
            options["connect_args"] = {"connect_timeout": 10, "tcp_user_timeout": 30_000}
        super().__init__(url.render_as_string(hide_password=False), engine_kwargs=options)
        weakref.finalize(self, self.engine.dispose)
        self.patience = Patience(self.engine)


def storage_of(study: optuna.Study) -> Storage:
    """The storage of a study that was opened here."""
    return study._storage._backend  # pyright: ignore[reportAttributeAccessIssue]


def open_study(directory: StudyDir, config: StudyConfig, *, create: bool = False) -> optuna.Study:
    """The Optuna study of a directory; made if `create`.

    Raises:
        StorageError: if the storage cannot be reached, or holds no such study.
    """
    url = directory.storage_url(config)
    _check_lasting(url)
    if not create and config.storage is None and not directory.database.is_file():
        raise StorageError(f"{directory.database} must be the study's database, but is not there")
    with _opening(url):
        storage = _open_storage(connectable(url) if create else _readable(connectable(url)))
        name = _name_in(storage, directory, config)
        if create:
            return _create(storage, name, redact(url))
        return optuna.load_study(study_name=name, storage=storage, sampler=_unasked())


@contextmanager
def beginning(directory: StudyDir, config: StudyConfig) -> Iterator[optuna.Study]:
    """Drive a study, which is made if there is none, as long as this lasts.

    Raises:
        StorageError: if the storage cannot be reached, or another process drives the study.
    """
    url = directory.storage_url(config)
    _check_lasting(url)
    with folder_lock(directory):
        with _opening(url):
            storage = _open_storage(connectable(url))
            name = _name_in(storage, directory, config)
        with storage_errors(url), leased(storage.engine, name, directory):
            yield _create(storage, name, redact(url))


@contextmanager
def driving(study: optuna.Study, directory: StudyDir) -> Iterator[None]:
    """Drive a study: no other process writes to it, and its storage may be away for a while.

    Raises:
        StorageError: if another process drives it, or the storage fails.
    """
    storage = storage_of(study)
    with (
        storage_errors(storage.url),
        folder_lock(directory),
        leased(storage.engine, study.study_name, directory),
        storage.patience.within(LIMIT_S),
    ):
        yield


def open_tuning(study: optuna.Study) -> optuna.Study:
    """The study beside a study in which back-propagation is tuned; made if there is none."""
    return _create(storage_of(study), study.study_name + TUNING_SUFFIX, "the study's storage")


def _create(storage: Storage, name: str, place: str) -> optuna.Study:
    study = optuna.create_study(
        study_name=name,
        storage=storage,
        sampler=_unasked(),
        direction="maximize",
        load_if_exists=True,
    )
    if study.direction != optuna.study.StudyDirection.MAXIMIZE:
        raise MismatchError(
            f"study {name} in {place} minimises, so it is not ours; choose another --study-name"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(["val_accuracy"])
    return study


def _unasked() -> optuna.samplers.BaseSampler:
    """Stored trials are proposed elsewhere: this sampler is never asked, and costs nothing."""
    return optuna.samplers.RandomSampler(seed=0)


def stored_attributes(directory: StudyDir, config: StudyConfig) -> dict[str, Any] | None:
    """The user attributes of a study; None: it is not in its storage, in which nothing is created.

    Raises:
        StorageError: if the storage cannot be reached.
    """
    url = directory.storage_url(config)
    _check_lasting(url)
    with _opening(url):
        place = connectable(url)
        is_path = place.get_backend_name() == "sqlite" and "uri" not in place.query
        if is_path and not Path(place.database or "").is_file():
            return None
        engine = sqlalchemy.create_engine(place)
        try:
            is_optunas = sqlalchemy.inspect(engine).has_table("studies")
        finally:
            engine.dispose()
        if not is_optunas:
            return None
        storage = _open_storage(place)
        try:
            name = _name_in(storage, directory, config)
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
            f"study ({first_line(error)}); let one of them finish, or use --study-name"
        ) from None
    except (SQLAlchemyError, StorageInternalError) as error:
        raise StorageError(
            f"storage {redact(url)} failed: {first_line(error)}; mend that and run the command "
            "again: a study goes on from where it stands"
        ) from None


def _check_lasting(url: str) -> None:
    """Refuse a database in memory."""
    with _opening(url):
        place = connectable(url)
    is_sqlite = place.get_backend_name() == "sqlite"
    is_nowhere = (place.database or ":memory:").endswith(":memory:")
    if is_sqlite and (is_nowhere or place.query.get("mode") == "memory"):
        raise ConfigError(
            f"storage must outlast its process, but {url} is a database in memory; leave it out, "
            "or name a file as sqlite:///FILE"
        )


@contextmanager
def _opening(url: str) -> Iterator[None]:
    """Like `storage_errors`, while a storage is opened: also for a bad URL, a missing driver or
    study.
    """
    with storage_errors(url):
        try:
            yield
        except ConfigError:
            raise
        except KeyError:
            raise StorageError(f"storage {redact(url)} holds no such study") from None
        except (ArgumentError, ImportError, ValueError) as error:
            raise StorageError(
                f"storage {redact(url)} cannot be opened: {first_line(error)}; expected "
                "sqlite:///FILE or postgresql+psycopg://USER@HOST/DATABASE "
                "(pip install 'dsaccel[postgres]')"
            ) from None


def _open_storage(url: sqlalchemy.URL) -> Storage:
    """A storage whose tables are there: whoever creates them at the same time is waited for."""
    storage = while_racing(lambda: Storage(url))
    if storage.engine.dialect.name == "sqlite" and "mode" not in url.query:
        # one writer, many small commits: no need to wait for the disk at each of them
        @listens_for(storage.engine, "connect")
        def _set_pragmas(connection: Any, _record: Any) -> None:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")

        storage.engine.dispose()
    return storage


def _name_in(storage: Storage, directory: StudyDir, config: StudyConfig) -> str:
    """A study's name in its storage: that of its folder, unless the folder was moved."""
    if config.storage is not None:
        return directory.name
    names = set(optuna.get_all_study_names(storage))
    names -= {known + end for known in names for end in (TUNING_SUFFIX, OLD_TUNING_SUFFIX)}
    return names.pop() if len(names) == 1 else directory.name


def _readable(url: sqlalchemy.URL) -> sqlalchemy.URL:
    """An SQLite file in a folder that cannot be written, opened to be read alone: otherwise SQLite
    would make its log there, even to read.
    """
    path = Path(url.database or "")
    is_file = url.get_backend_name() == "sqlite" and path.is_file()
    if not is_file or os.access(path.parent, os.W_OK):
        return url
    query = {"mode": "ro", "uri": "true"}
    if not path.with_name(path.name + "-wal").is_file():
        query["immutable"] = "1"  # nobody writes, and all that was written is in the file
    return url.set(database=f"file:{quote(path.as_posix())}", query=query)
