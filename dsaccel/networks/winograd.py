"""3x3 convolutions with a quarter of the multiplications (Lavin and Gray, 2016): F(4x4, 3x3).

An output tile of 4x4 pixels is 6 x 6 products in another basis instead of 16 x 9. The same function
as the direct convolution, rounded a few times more coarsely in fp32; on a CPU, where the processor
is the limit, wide layers on small maps take half of the time.
"""

# B batch, C input channels, D output channels, H = W side, T tiles a side, N = B T T tiles

import functools
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

TILE, WINDOW = 4, 6
"""Sides of an output tile, and of the input that it depends on."""

MIN_CHANNELS = 256
"""Narrower layers gain nothing: their transforms take longer than the products they save."""

# points 0, 1, -1, 2, -2 and infinity
_INPUT = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
_KERNEL = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
_OUTPUT = (
    (1, 1, 1, 1, 1, 0),
    (0, 1, -1, 2, -2, 0),
    (0, 1, 1, 4, 4, 0),
    (0, 1, -1, 8, -8, 1),
)


class Conv2d(nn.Conv2d):
    """A convolution that takes the shorter way where there is one."""

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D, H', W')."""
        if not pays(self, input):
            return super().forward(input)
        y = Convolve.apply(input, self.weight)
        return y if self.bias is None else y + self.bias[:, None, None]


def pays(conv: nn.Conv2d, x: Tensor) -> bool:
    """Whether to convolve by tiles: decided by the layer and its input's shape alone."""
    return (
        x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.float64)
        and not torch.is_autocast_enabled("cpu")
        and conv.kernel_size == (3, 3)
        and conv.stride == conv.dilation == (1, 1)
        and conv.padding == (1, 1)
        and conv.groups == 1
        and min(conv.in_channels, conv.out_channels) >= MIN_CHANNELS
        and x.shape[2] % TILE == x.shape[3] % TILE == 0
    )


class Convolve(torch.autograd.Function):
    """(B, C, H, W), (D, C, 3, 3) -> (B, D, H, W), zeros around the input; H and W divisible by 4.

    Results and gradients are channels-last in memory.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        to_inner, kernel, to_output = _bases(x.dtype)
        num_outputs, num_inputs = weight.shape[:2]
        weight_9X = weight.permute(2, 3, 0, 1).reshape(9, -1)
        x_PNC = (to_inner @ _windows(x)).view(WINDOW**2, -1, num_inputs)
        weight_PDC = (kernel @ weight_9X).view(WINDOW**2, num_outputs, num_inputs)
        ctx.save_for_backward(x_PNC, weight_PDC)
        ctx.shape = x.shape
        y_PND = torch.bmm(x_PNC, weight_PDC.transpose(1, 2))
        y_tiles = (to_output @ y_PND.view(WINDOW**2, -1)).view(
            TILE, TILE, len(x), x.shape[2] // TILE, x.shape[3] // TILE, num_outputs
        )
        y_BHWD = y_tiles.permute(2, 3, 0, 4, 1, 5).reshape(len(x), *x.shape[2:], num_outputs)
        return y_BHWD.permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x_PNC, weight_PDC = ctx.saved_tensors
        to_inner, kernel, to_output = _bases(x_PNC.dtype)
        num_outputs, num_inputs = weight_PDC.shape[1:]
        y_PND = (to_output.T @ _tiles(gradients[0])).view(WINDOW**2, -1, num_outputs)
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            inner_PX = torch.bmm(y_PND, weight_PDC).view(WINDOW**2, -1)
            grad_x = _add_windows(to_inner.T @ inner_PX, ctx.shape)
        if ctx.needs_input_grad[1]:
            inner_PX = torch.bmm(y_PND.transpose(1, 2), x_PNC).view(WINDOW**2, -1)
            weight_33DC = (kernel.T @ inner_PX).view(3, 3, num_outputs, num_inputs)
            grad_weight = _channels_last(weight_33DC.permute(2, 3, 0, 1))
        return grad_x, grad_weight


@functools.cache
def _bases(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Maps of two-dimensional windows, kernels and products, each as one matrix."""
    matrices = (torch.tensor(rows, dtype=torch.float64) for rows in (_INPUT, _KERNEL, _OUTPUT))
    to_inner, kernel, to_output = (torch.kron(m, m).to(dtype) for m in matrices)
    return to_inner, kernel, to_output


def _windows(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (36, N C): what each output tile depends on."""
    windows = F.pad(x, (1, 1, 1, 1)).unfold(2, WINDOW, TILE).unfold(3, WINDOW, TILE)
    return windows.permute(4, 5, 0, 2, 3, 1).reshape(WINDOW**2, -1)


def _add_windows(windows: Tensor, shape: torch.Size) -> Tensor:
    """The transpose of `_windows`: (36, N C) -> (B, C, H, W), sums where windows overlap."""
    batch, channels, height, width = shape
    rows, columns = height // TILE, width // TILE
    w = windows.view(WINDOW, WINDOW, batch, rows, columns, channels).permute(2, 3, 0, 4, 1, 5)
    # rows and columns as (tile, pixel within): of a window's 6, 4 are its own, 2 the next tile's
    total = w.new_zeros(batch, rows + 1, TILE, columns + 1, TILE, channels)
    total[:, :rows, :, :columns] = w[:, :, :TILE, :, :TILE]
    total[:, 1:, :2, :columns] += w[:, :, TILE:, :, :TILE]
    total[:, :rows, :, 1:, :2] += w[:, :, :TILE, :, TILE:]
    total[:, 1:, :2, 1:, :2] += w[:, :, TILE:, :, TILE:]
    padded = total.view(batch, TILE * (rows + 1), TILE * (columns + 1), channels)
    inside = padded[:, 1 : height + 1, 1 : width + 1]
    return _channels_last(inside.permute(0, 3, 1, 2))


def _tiles(y: Tensor) -> Tensor:
    """(B, D, H, W) -> (16, N D)."""
    batch, channels, height, width = y.shape
    tiles = y.view(batch, channels, height // TILE, TILE, width // TILE, TILE)
    return tiles.permute(3, 5, 0, 2, 4, 1).reshape(TILE**2, -1)


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)
