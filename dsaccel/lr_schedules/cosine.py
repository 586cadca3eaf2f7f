"""Half a cosine wave from the full rate to almost none."""

import math

from dsaccel.lr_schedules import LRSchedule


class Cosine(LRSchedule):
    """The rate falls along half a cosine wave over all epochs."""

    def factor(self, epoch: int, epochs: int) -> float:
        return (1 + math.cos(math.pi * (epoch - 1) / epochs)) / 2

    def first_rung(self, epochs: int) -> int:
        """The first epoch with at most half of the rate."""
        return epochs // 2 + epochs % 2 + 1
