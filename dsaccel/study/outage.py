"""A storage that is away for a while: what is written waits, or is kept and sent later."""

import logging
import random
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import sqlalchemy
from optuna.exceptions import StorageInternalError
from sqlalchemy import event
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from dsaccel.text import redacted

log = logging.getLogger("dsaccel")
Made = TypeVar("Made")

LIMIT_S = 600.0
"""A storage that is away for longer ends a search; the same command goes on."""
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 20.0
NUM_RACES = 20
"""How often others may be faster in creating the same tables."""


class Patience:
    """Tries a lost connection again and again, as nothing was written through it yet.

    Args:
        engine: of a storage.
    """

    def __init__(self, engine: sqlalchemy.Engine) -> None:
        self._limit_s = 0.0
        # not the storage itself: an engine outlives it until its connections are closed
        event.listen(engine, "do_connect", self._connect)

    @contextmanager
    def within(self, limit_s: float) -> Iterator[None]:
        """Wait for so long where a connection is lost; 0: do not wait."""
        before, self._limit_s = self._limit_s, limit_s
        try:
            yield
        finally:
            self._limit_s = min(before, self._limit_s) if limit_s else before

    def end(self) -> None:
        """Wait no more: the process ends."""
        self._limit_s = 0.0

    def _connect(self, dialect: Any, _record: Any, args: Any, options: Any) -> Any:
        started, pause_s = time.monotonic(), FIRST_PAUSE_S
        while True:
            try:
                return dialect.connect(*args, **options)
            except dialect.loaded_dbapi.OperationalError:
                if time.monotonic() - started + pause_s > self._limit_s:
                    self.end()
                    raise
            if pause_s == FIRST_PAUSE_S:
                log.info("the storage is away: waiting for up to %.0f s", self._limit_s)
            try:
                time.sleep(pause_s)
            except BaseException:
                self.end()
                raise
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


class Outbox:
    """What is to be written, in order. What cannot be sent is kept, and sent before what follows.

    Args:
        patience: of the storage that it is written to.
    """

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._kept: deque[Callable[[], object]] = deque()
        self._pause_s, self._tried = 0.0, 0.0

    def put(self, write: Callable[[], object]) -> None:
        """Send, or keep if the storage is away.

        Args:
            write: may be called again if it fails, and then does what was left undone.
        """
        self._kept.append(write)
        if time.monotonic() - self._tried < self._pause_s:
            return
        try:
            with self._patience.within(0.0):
                self._send()
        except (OperationalError, StorageInternalError) as error:
            if not _is_away(error):
                raise
            if not self._pause_s:
                log.info("the storage is away: training goes on, and what it reports is kept")
            self._tried = time.monotonic()
            self._pause_s = min(max(2 * self._pause_s, FIRST_PAUSE_S), LONGEST_PAUSE_S)

    def flush(self) -> None:
        """Send all, and wait for the storage as long as there is patience."""
        self._send()

    def clear(self) -> None:
        """Forget what is kept: the next run reports it again."""
        self._kept.clear()

    def _send(self) -> None:
        num = len(self._kept)
        while self._kept:
            self._kept[0]()
            self._kept.popleft()
        if self._pause_s:
            log.info("the storage is back: %d kept reports are written", num)
        self._pause_s = 0.0


def _is_away(error: Exception) -> bool:
    """Whether the connection failed, not what was written."""
    cause = error if isinstance(error, OperationalError) else error.__cause__
    return isinstance(cause, OperationalError)


def while_racing(make: Callable[[], Made]) -> Made:
    """Make what needs tables, again if another process creates the same ones meanwhile."""
    for _ in range(NUM_RACES - 1):
        try:
            return make()
        except (SQLAlchemyError, StorageInternalError) as error:
            text = first_line(error).lower()
            if not any(word in text for word in ("already exists", "unique", "duplicate")):
                raise
        time.sleep(random.uniform(0.05, 0.5))
    return make()


def first_line(error: BaseException) -> str:
    """The cause, which Optuna and SQLAlchemy wrap, in one line without a password."""
    cause = error.__cause__ or error
    return redacted(str(getattr(cause, "orig", cause)).strip().splitlines()[0])
