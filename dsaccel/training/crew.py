"""What a team has done for a run so far: who trains what, who waits, what is trained twice."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from dsaccel.spec.hierarchy import Hierarchy


class Crew:
    """The workers of a run, as they are shown."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.parts: dict[str, int] = dict.fromkeys(names, 0)
        """Networks that each has trained last."""
        self.twice = 0.0
        """The share of the blocks that are trained in more than one part."""
        self._busy_s, self._elapsed_s = 0.0, 0.0

    @property
    def idle(self) -> float:
        """The share of the workers' time in which they waited for each other."""
        all_s = self._elapsed_s * len(self.names)
        return max(0.0, 1 - self._busy_s / all_s) if all_s else 0.0

    @contextmanager
    def working(self) -> Iterator[None]:
        """While parts are trained."""
        started = time.perf_counter()
        self.parts = dict.fromkeys(self.names, 0)
        try:
            yield
        finally:
            self._elapsed_s += time.perf_counter() - started

    def note(self, worker: int, hierarchies: Sequence[Hierarchy], seconds: float) -> None:
        """Note that a worker has trained these."""
        self.parts[self.names[worker]] += len(hierarchies)
        self._busy_s += seconds

    def line(self) -> str:
        """The crew in a few words."""
        parts = " | ".join(map(str, self.parts.values()))
        return f"{parts} networks, idle {self.idle:.0%}, blocks trained twice {self.twice:.0%}"
