"""A wish to stop, which waits for a place where nothing is lost: so long, and no longer.

Whoever trains says where such places are; whoever handles signals says that it is wished for.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

WAIT_S = 4
"""A safe place that is farther away is not waited for."""

_waits = False
_wished: BaseException | None = None


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
    leave()


def is_wished() -> bool:
    """Whether to save at once, and then to `leave`."""
    return _wished is not None


def leave() -> None:
    """Raise what is waiting to be raised, if anything."""
    if _wished is not None:
        signal.alarm(0)
        _raise_wished()


def _raise_wished() -> None:
    global _wished
    error, _wished = _wished, None
    if error is not None:
        raise error
