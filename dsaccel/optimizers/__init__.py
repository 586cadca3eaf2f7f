"""Optimizers: how a unit goes down its gradient, a file each."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from dsaccel.config.section import Section

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Optimizer(Section, ABC):
    """A kind of optimizer; its fields are its options.

    An option that `[training]` has too is taken from there.
    """

    records: ClassVar[bool] = False
    """Whether a CUDA graph may record its step, which then reads its learning rate in a tensor."""
    weight_decay: float

    @abstractmethod
    def make(
        self, groups: "list[dict[str, list[Tensor]]]", lr: "float | Tensor"
    ) -> "torch.optim.Optimizer":
        """The optimizer of a unit.

        Args:
            groups: torch's parameter groups; those that decay say by how much (`weight_decay`).
            lr: the learning rate of the first epoch; a tensor only if the optimizer `records`.
        """
