"""A wish to stop, which waits for a place where nothing is lost: so long, and no longer.

Whoever trains says where such places are; whoever handles signals says that it is wished for. What
a worker does for a driver ends likewise where the driver waits for it no more.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

WAIT_S = 4
"""A safe place that is farther away is not waited for."""


class LostJobError(Exception):
    """A worker does not do a job to its end, because nobody waits for it or it was started anew."""


_waits = False
_wished: BaseException | None = None
_is_wanted: ContextVar[Callable[[], bool]] = ContextVar("_is_wanted", default=lambda: True)


def stop(error: BaseException) -> None:
    """Raise an error: in a block that waits at its next safe place, otherwise now."""
    global _wished
    if not (_waits and hasattr(signal, "alarm")):
        raise error
    _wished = error

    def give_up(_number: int, _frame: object) -> None:
        _raise_wished()

    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(WAIT_S)


@contextmanager
def waiting() -> Iterator[None]:
    """Let a wish to stop wait for a safe place in this block, or for its end."""
    global _waits
    before, _waits = _waits, True
    try:
        yield
    finally:
        _waits = before
    _raise_wished()


@contextmanager
def while_wanted(is_wanted: Callable[[], bool]) -> Iterator[None]:
    """Leave this block at its next safe place when nobody waits for it any more.

    Args:
        is_wanted: whether somebody does.
    """
    token = _is_wanted.set(is_wanted)
    try:
        yield
    finally:
        _is_wanted.reset(token)


def is_wished() -> bool:
    """Whether to save at once, and then to `leave`."""
    return _wished is not None or not _is_wanted.get()()


def leave() -> None:
    """Raise what is waiting to be raised, if anything.

    Raises:
        LostJobError: if nobody waits for this any more.
    """
    _raise_wished()
    if not _is_wanted.get()():
        raise LostJobError("nobody waits for this job any more")


def _raise_wished() -> None:
    global _wished
    error, _wished = _wished, None
    if error is not None:
        signal.alarm(0)
        raise error
