"""Learning-rate schedules: how the rate changes from epoch to epoch, a file each.

The schedule is always that of all epochs: a pruned network is a full training cut off, never one
with a shorter schedule.
"""

from abc import ABC, abstractmethod

from dsaccel.config.section import Section


class LRSchedule(Section, ABC):
    """A kind of learning-rate schedule; its fields are its options.

    An option that `[training]` has too is taken from there.
    """

    @abstractmethod
    def factor(self, epoch: int, epochs: int) -> float:
        """The factor of the learning rate throughout an epoch (1-based); above 0."""

    @abstractmethod
    def first_rung(self, epochs: int) -> int | None:
        """The first epoch after which networks can be ranked; None: the user must say it.

        Before it the noise of a large learning rate hides which network is better.
        """
