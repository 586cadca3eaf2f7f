"""Effects that several seeds have measured: means with intervals, and what they say of a claim."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from dsaccel.statistics import Paired, paired

Verdict = Literal["holds", "is contradicted", "open", "not testable at this scale"]


@dataclass(frozen=True)
class Effect:
    """A difference of accuracies that a claim says is positive."""

    claim: str
    by_seed: Mapping[int, float]
    """0..1."""
    why_not: str | None = None
    """Why it cannot be tested; None: it can."""

    @cached_property
    def measured(self) -> Paired | None:
        """Mean and 95 % interval over seeds; None: there is none yet."""
        return paired(self.by_seed, dict.fromkeys(self.by_seed, 0.0))

    @property
    def verdict(self) -> Verdict:
        """The verdict of the interval alone; `open` if it holds zero, or if there is none."""
        if self.why_not is not None or self.measured is None:
            return "not testable at this scale"
        low, high = self.measured.low, self.measured.high
        if low is None or high is None or low <= 0 <= high:
            return "open"
        return "holds" if low > 0 else "is contradicted"


def slope(x: Sequence[float], y: Sequence[float]) -> float | None:
    """The slope of the least squares line; None: all x are equal."""
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    spread = sum((each - mean_x) ** 2 for each in x)
    if not spread:
        return None
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / spread
