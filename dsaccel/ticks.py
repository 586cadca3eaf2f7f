"""Tell how far a long loop is: images that are read, or batches of an epoch."""

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
