"""Heads: what turns the features of a unit into logits, a file each."""

from abc import ABC, abstractmethod
from typing import ClassVar

from dsaccel.config.section import Section
from dsaccel.spec.local import HeadPlan, UnitShape


class Head(Section, ABC):
    """A kind of head; its fields are its options.

    An option that `[network]` has too is taken from there.
    """

    of_training: ClassVar[frozenset[str]] = frozenset()
    """Options that say nothing where the features learn nothing from the head."""

    @abstractmethod
    def plan(self, unit: UnitShape) -> HeadPlan:
        """The head of a unit."""
