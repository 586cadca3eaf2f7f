"""Average pooling with a backward pass that is fast on a CPU. B batch, C channels, H = W side."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from dsaccel.nn.placement import is_on_gpu


def average_pool(h: Tensor, kernel: tuple[int, int]) -> Tensor:
    """Means over windows of `kernel`, smaller at the far edges: (B, C, H, W) -> (B, C, H', W')."""
    if is_on_gpu(h) or h.shape[2] % kernel[0] or h.shape[3] % kernel[1]:
        return F.avg_pool2d(h, kernel, ceil_mode=True)
    return AveragePool.apply(h, kernel)  # pyright: ignore[reportReturnType]


class AveragePool(torch.autograd.Function):
    """Means over windows that divide the map; torch's, with a backward faster on a CPU."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, kernel: tuple[int, int]) -> Tensor:
        ctx.kernel = kernel
        return F.avg_pool2d(h, kernel)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        height, width = ctx.kernel
        each_BHWC = (gradients[0] / (height * width)).permute(0, 2, 3, 1).contiguous()
        windows = each_BHWC[:, :, None, :, None].expand(-1, -1, height, -1, width, -1)
        return windows.flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2), None
