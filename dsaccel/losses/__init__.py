"""Local losses: what a unit learns from, a file each."""

from abc import ABC, abstractmethod
from typing import ClassVar

from dsaccel.config.section import Section
from dsaccel.spec.local import LossPlan, UnitShape


class LocalLoss(Section, ABC):
    """A kind of local loss; its fields are its options.

    An option that `[network]` has too is taken from there.
    """

    trains_head: ClassVar[bool] = True
    """Whether the features learn from the head; otherwise it only reads them."""

    @abstractmethod
    def plan(self, unit: UnitShape) -> LossPlan:
        """The loss of a unit."""
