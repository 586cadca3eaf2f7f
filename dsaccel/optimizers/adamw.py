"""AdamW: Adam with weight decay apart from the gradient."""

from typing import TYPE_CHECKING, Any, ClassVar

from dsaccel.optimizers import Optimizer

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class AdamW(Optimizer):
    """Adam; weights shrink by the learning rate times the weight decay."""

    records: ClassVar = True
    adam_eps: float

    def make(self, groups: list[Any], lr: "float | Tensor") -> "torch.optim.Optimizer":
        import torch

        # torch's own weight decay is not 0
        return torch.optim.AdamW(
            groups,
            lr=lr,
            eps=self.adam_eps,
            weight_decay=0,
            fused=True,
            capturable=isinstance(lr, torch.Tensor),
        )
