"""Stochastic gradient descent with momentum."""

from typing import TYPE_CHECKING, Any

from pydantic import Field

from dsaccel.optimizers import Optimizer

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class SGD(Optimizer):
    """Stochastic gradient descent; weight decay is added to the gradient."""

    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Share of the last step that is taken again."""
    nesterov: bool = True
    """Whether the gradient is looked at after the momentum's step; needs momentum."""

    def make(self, groups: list[Any], lr: "float | Tensor") -> "torch.optim.Optimizer":
        import torch

        nesterov = self.nesterov and self.momentum > 0
        return torch.optim.SGD(groups, lr, self.momentum, nesterov=nesterov, fused=True)
