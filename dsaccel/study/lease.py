"""One driver a study: who may train it and write to it, whatever folders and machines there are.

The driver holds the lock of its folder, and a lease: a row in a table beside Optuna's. It counts
the row up every few seconds and in every transaction that writes. A challenger watches this counter
by its own clock; only if it stands still for `LEASE_S` does it take the row over. Each transaction
begins by counting up the row of its driver, so that one that slept and wakes finds it gone and
writes nothing.
"""

import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import filelock
import sqlalchemy
from sqlalchemy import Column, Integer, MetaData, String, Table, Text, event
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from dsaccel.errors import StorageError
from dsaccel.files import check_writable, make_folder, write_text
from dsaccel.study.folder import StudyDir
from dsaccel.study.outage import while_racing
from dsaccel.text import utc_now

log = logging.getLogger("dsaccel")

LEASE_S = 30.0
"""A driver that shows no life for so long is taken for dead."""
BEAT_S = 5.0
POLL_S = 0.5
TABLES = MetaData()
LEASES = Table(
    "dsaccel_leases",
    TABLES,
    Column("study", String(512), primary_key=True),
    Column("driver", String(64), nullable=False),
    Column("place", Text, nullable=False),
    Column("who", Text, nullable=False),
    Column("since", String(32), nullable=False),
    Column("beats", Integer, nullable=False),
)


@contextmanager
def folder_lock(directory: StudyDir) -> Iterator[None]:
    """Keep other processes from training in a study's folder.

    Raises:
        StorageError: if one does, or the folder cannot be written.
    """
    is_new = not directory.path.is_dir()
    make_folder(directory.path)
    check_writable(directory.lock)
    if directory.lock.is_dir():
        raise StorageError(f"{directory.lock} must be a file, but is a folder: remove it")
    lock = filelock.FileLock(directory.lock, timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise _refused(directory.name, _said_in(directory.driver)) from None
    try:
        write_text(directory.driver, f"{_who(directory)}, since {utc_now()}")
        yield
        directory.driver.unlink(missing_ok=True)
    except BaseException:
        directory.driver.unlink(missing_ok=True)
        if is_new:
            _leave_no_trace(directory)
        raise
    finally:
        lock.release()


@contextmanager
def leased(engine: sqlalchemy.Engine, study: str, directory: StudyDir) -> Iterator[None]:
    """Be the driver of a study: every write through the engine checks that this is still so.

    Args:
        engine: of the study's storage.
        study: its name there.
        directory: whose lock is held.

    Raises:
        StorageError: if another driver lives, or later, if another one has taken the study over.
    """
    while_racing(lambda: TABLES.create_all(engine))
    lease = _Lease(engine, study, directory)
    lease.take()
    event.listen(engine, "before_cursor_execute", lease.check)
    released = threading.Event()
    threading.Thread(target=lease.beat, args=(released,), daemon=True).start()
    try:
        yield
    finally:
        released.set()
        event.remove(engine, "before_cursor_execute", lease.check)
        lease.release()


class _Lease:
    def __init__(self, engine: sqlalchemy.Engine, study: str, directory: StudyDir) -> None:
        self._engine, self._study = engine, study
        self._driver, self._who, self._place = uuid4().hex, _who(directory), _place(directory.path)
        self._is_ours = (LEASES.c.study == study) & (LEASES.c.driver == self._driver)
        self._alive = time.monotonic()

    def take(self) -> None:
        """Insert the row, or take over that of a driver that is gone."""
        watched: Any = None
        since = time.monotonic()
        while True:
            row = self._row()
            if row is None:
                if self._insert():
                    return
                continue
            # this folder's lock is ours: whoever drove from here is gone
            is_dead = row.place == self._place or time.monotonic() - since > LEASE_S
            if watched is None:
                watched = row
                if not is_dead:
                    log.info(
                        "study %s is driven by %s, since %s: watching for up to %.0f s whether "
                        "that process lives",
                        *(self._study, row.who, row.since, LEASE_S),
                    )
            if (row.driver, row.beats) != (watched.driver, watched.beats):
                raise _refused(self._study, f"{row.who}, since {row.since}")
            if is_dead and self._replace(row):
                return
            time.sleep(POLL_S)

    def check(self, conn: sqlalchemy.Connection, _c: Any, _s: Any, _p: Any, context: Any, _m: Any):
        """Count up the row before the first write of a transaction, and refuse if it is gone."""
        writes = context is not None and (context.isinsert or context.isupdate or context.isdelete)
        transaction = conn.get_transaction()
        if not writes or conn.info.get("leased") is transaction:
            return
        conn.info["leased"] = transaction
        if not self._count_up(conn):
            raise self._lost(conn)

    def beat(self, released: threading.Event) -> None:
        """Count up the row now and then while nothing is written, on a connection of its own."""
        engine = sqlalchemy.create_engine(self._engine.url, poolclass=sqlalchemy.NullPool)
        while not released.wait(BEAT_S / 5):
            if time.monotonic() - self._alive < BEAT_S:
                continue
            # a storage that is away is waited for by who writes
            with suppress(SQLAlchemyError), engine.begin() as conn:
                if not released.is_set():
                    self._count_up(conn)

    def release(self) -> None:
        """Remove the row; one that cannot be removed grows old."""
        with suppress(SQLAlchemyError), self._engine.begin() as conn:
            conn.execute(LEASES.delete().where(self._is_ours))

    def _row(self) -> Any:
        with self._engine.connect() as conn:
            return conn.execute(LEASES.select().where(LEASES.c.study == self._study)).first()

    def _mine(self) -> dict[str, str]:
        return {
            "driver": self._driver,
            "place": self._place,
            "who": self._who,
            "since": utc_now(),
        }

    def _insert(self) -> bool:
        try:
            with self._engine.begin() as conn:
                conn.execute(LEASES.insert().values(study=self._study, beats=0, **self._mine()))
        except IntegrityError:  # another process was faster
            return False
        return True

    def _replace(self, row: Any) -> bool:
        """Take over a row, unless it has shown life meanwhile."""
        is_same = (LEASES.c.study == self._study) & (LEASES.c.driver == row.driver)
        with self._engine.begin() as conn:
            change = LEASES.update().where(is_same, LEASES.c.beats == row.beats)
            return conn.execute(change.values(beats=row.beats + 1, **self._mine())).rowcount == 1

    def _count_up(self, conn: sqlalchemy.Connection) -> bool:
        self._alive = time.monotonic()
        change = LEASES.update().where(self._is_ours).values(beats=LEASES.c.beats + 1)
        return conn.execute(change).rowcount == 1

    def _lost(self, conn: sqlalchemy.Connection) -> StorageError:
        row = conn.execute(LEASES.select().where(LEASES.c.study == self._study)).first()
        by = "another process" if row is None else f"{row.who}, since {row.since}"
        return StorageError(
            f"study {self._study} was taken over by {by}, as this process showed no life for "
            f"{LEASE_S:.0f} s; nothing more is written here"
        )


def _refused(study: str, who: str) -> StorageError:
    return StorageError(
        f"study {study} must be trained by one process at a time, but another process is at it: "
        f"{who}; wait for its end, or use --study-name for a study of its own"
    )


def _said_in(file: Path) -> str:
    """Who holds the lock of a folder, which is written just after it is taken."""
    for _ in range(10):
        with suppress(OSError):
            return file.read_text(encoding="utf-8", errors="replace")
        time.sleep(0.1)
    return "another process in this folder"


def _who(directory: StudyDir) -> str:
    return f"process {os.getpid()} on {socket.gethostname()} in {directory.path.resolve()}"


def _place(path: Path) -> str:
    """A folder, among those of all machines."""
    return f"{socket.gethostname()}:{path.resolve()}:{path.stat().st_ino}"


def _leave_no_trace(directory: StudyDir) -> None:
    """Remove a folder that was made in vain."""
    with suppress(OSError):
        if set(directory.path.iterdir()) <= {directory.lock}:
            directory.lock.unlink()
            directory.path.rmdir()
            directory.path.parent.rmdir()  # which does nothing if others lie in it
