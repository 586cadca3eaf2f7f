"""Adam, the paper's optimizer."""

from typing import TYPE_CHECKING, Any, ClassVar

from dsaccel.optimizers import Optimizer

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Adam(Optimizer):
    """Adam; weight decay is added to the gradient."""

    records: ClassVar = True
    adam_eps: float

    def make(self, groups: list[Any], lr: "float | Tensor") -> "torch.optim.Optimizer":
        import torch

        on_cuda = isinstance(lr, torch.Tensor)
        return torch.optim.Adam(groups, lr=lr, eps=self.adam_eps, fused=True, capturable=on_cuda)
