"""Tell how far long work is: images that are read, batches of an epoch, time that is left."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

T = TypeVar("T")
Listener = Callable[[str, int, int], None]
"""Called with what is counted, how many are done, and how many there are."""

_listener: Listener | None = None


def counted(items: Iterable[T], what: str, total: int) -> Iterator[T]:
    """The items, and a word to the listener before each."""
    for done, item in enumerate(items):
        if _listener is not None:
            _listener(what, done, total)
        yield item
    if _listener is not None:
        _listener(what, total, total)


def unheard() -> AbstractContextManager[None]:
    """Let nobody know of what is counted in this block."""
    return listening(None)


@contextmanager
def listening(listener: Listener | None) -> Iterator[None]:
    """Let a listener know of all that is counted in this block."""
    global _listener
    before, _listener = _listener, listener
    try:
        yield
    finally:
        _listener = before


class Pace:
    """How fast some work goes since it was first looked at: it may have been begun long before."""

    def __init__(self) -> None:
        self._first: tuple[float, float] | None = None

    def left_s(self, done: float, total: float) -> float | None:
        """The time that the rest takes; None: not known yet, or nothing is left."""
        now = time.perf_counter()
        if self._first is None or done <= self._first[0]:
            self._first = done, now
            return None
        first, since = self._first
        return (now - since) / (done - first) * (total - done) or None
