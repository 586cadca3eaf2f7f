"""3x3 convolutions with a quarter of the multiplications (Lavin and Gray, 2016): F(4x4, 3x3).

An output tile of 4x4 pixels is 6 x 6 products in another basis instead of 16 x 9. The same function
as the direct convolution, rounded a few times more coarsely in fp32; on a CPU, where the processor
is the limit, wide layers on small maps take half of the time.

In that basis the input is 36/16 and the weights are 4 times as large. So they are taken there a
part at a time (`tiling.py`), and once more in the backward pass: what is kept for it is the input
and the weights alone, as of the direct convolution.
"""

# B batch, C input channels, D output channels, H = W side, T tiles a side, N = B T T tiles,
# P = 6 x 6 products of a tile

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dsaccel.nn.hollow import Hollow
from dsaccel.nn.placement import is_on_gpu
from dsaccel.spec.tiling import TILE, WINDOW, parts, suits

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
        not is_on_gpu(x)
        and x.dtype in (torch.float32, torch.float64)
        and not torch.is_autocast_enabled("cpu")
        and conv.kernel_size == (3, 3)
        and conv.stride == conv.dilation == (1, 1)
        and conv.padding == (1, 1)
        and conv.groups == 1
        and suits(conv.in_channels, conv.out_channels, *x.shape[2:])
    )


class Convolve(torch.autograd.Function):
    """(B, C, H, W), (D, C, 3, 3) -> (B, D, H, W), zeros around the input; H and W divisible by 4.

    Results and gradients are channels-last in memory.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        y = x.new_empty(len(x), *x.shape[2:], len(weight)).permute(0, 3, 1, 2)
        image_parts, output_parts = _parts(x, len(weight))
        for images in image_parts:
            _convolve_images(x[images], weight, y[images], output_parts)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        (grad_y,) = gradients
        needs_x, needs_weight = ctx.needs_input_grad
        last = torch.channels_last
        grad_x = torch.empty_like(x, memory_format=last) if needs_x else None
        grad_weight = torch.zeros_like(weight, memory_format=last) if needs_weight else None
        image_parts, output_parts = _parts(x, len(weight))
        for images in image_parts:
            if grad_weight is not None:
                _add_weight_gradient(x[images], grad_y[images], grad_weight, output_parts)
            if grad_x is not None:
                _write_input_gradient(grad_x[images], grad_y[images], weight, output_parts)
        return grad_x, grad_weight


def _parts(x: Tensor, num_outputs: int) -> tuple[list[slice], list[slice]]:
    images, outputs = parts(x.shape, num_outputs)
    # of a tensor without numbers only the memory is wanted, and each part takes as much
    return (images[:1], outputs[:2]) if isinstance(x, Hollow) else (images, outputs)


def _convolve_images(x: Tensor, weight: Tensor, y: Tensor, output_parts: list[slice]) -> None:
    x_PNC = _windows(x)
    for outputs in output_parts:
        weight_PCD = _kernels(weight[outputs]).transpose(1, 2)
        _write_tiles(torch.bmm(x_PNC, weight_PCD), y[:, outputs])


def _add_weight_gradient(
    x: Tensor, grad_y: Tensor, grad_weight: Tensor, output_parts: list[slice]
) -> None:
    x_PNC = _windows(x)
    for outputs in output_parts:
        grad_PDN = _tiles(grad_y[:, outputs]).transpose(1, 2)
        _add_kernels(torch.bmm(grad_PDN, x_PNC), grad_weight[outputs])


def _write_input_gradient(
    grad_x: Tensor, grad_y: Tensor, weight: Tensor, output_parts: list[slice]
) -> None:
    grad_PNC = None
    for outputs in output_parts:
        factors = _tiles(grad_y[:, outputs]), _kernels(weight[outputs])
        grad_PNC = torch.bmm(*factors) if grad_PNC is None else grad_PNC.baddbmm_(*factors)
    assert grad_PNC is not None
    _write_windows(grad_PNC, grad_x)


# ---------------------------------------------------------------------- to the other basis and back


_BASES = {
    dtype: tuple(torch.tensor(rows, dtype=torch.float64).to(dtype) for rows in matrices)
    for dtype in (torch.float32, torch.float64)
    for matrices in [(_INPUT, _KERNEL, _OUTPUT)]
}
"""Maps of a row of a window, of a kernel and of products."""


def _change(matrix: Tensor, x: Tensor) -> Tensor:
    """Map rows, then columns: (from, from, X) -> (to, to, X)."""
    num_to, num_from = matrix.shape
    x = torch.mm(matrix, x.reshape(num_from, -1)).view(num_to, num_from, -1)
    return torch.matmul(matrix, x)


def _windows(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (P, N, C): what each output tile depends on."""
    to_inner, _, _ = _BASES[x.dtype]
    windows = F.pad(x, (1, 1, 1, 1)).unfold(2, WINDOW, TILE).unfold(3, WINDOW, TILE)
    inner = _change(to_inner, windows.permute(4, 5, 0, 2, 3, 1).reshape(WINDOW, WINDOW, -1))
    return inner.view(WINDOW**2, -1, x.shape[1])


def _write_windows(x_PNC: Tensor, x: Tensor) -> None:
    """The transpose of `_windows`: sums where windows overlap."""
    to_inner, _, _ = _BASES[x.dtype]
    batch, channels, height, width = x.shape
    rows, columns = height // TILE, width // TILE
    w = _change(to_inner.T, x_PNC).view(WINDOW, WINDOW, batch, rows, columns, channels)
    w = w.permute(2, 3, 0, 4, 1, 5)
    # rows and columns as (tile, pixel within): of a window's 6, 4 are its own, 2 the next tile's
    total = w.new_zeros(batch, rows + 1, TILE, columns + 1, TILE, channels)
    total[:, :rows, :, :columns] = w[:, :, :TILE, :, :TILE]
    total[:, 1:, :2, :columns] += w[:, :, TILE:, :, :TILE]
    total[:, :rows, :, 1:, :2] += w[:, :, :TILE, :, TILE:]
    total[:, 1:, :2, 1:, :2] += w[:, :, TILE:, :, TILE:]
    padded = total.view(batch, TILE * (rows + 1), TILE * (columns + 1), channels)
    x.copy_(padded[:, 1 : height + 1, 1 : width + 1].permute(0, 3, 1, 2))


def _kernels(weight: Tensor) -> Tensor:
    """(D, C, 3, 3) -> (P, D, C)."""
    _, kernel, _ = _BASES[weight.dtype]
    weight_33X = weight.permute(2, 3, 0, 1).reshape(3, 3, -1)
    return _change(kernel, weight_33X).view(WINDOW**2, *weight.shape[:2])


def _add_kernels(weight_PDC: Tensor, weight: Tensor) -> None:
    """The transpose of `_kernels`, added."""
    _, kernel, _ = _BASES[weight.dtype]
    weight_33DC = _change(kernel.T, weight_PDC).view(3, 3, *weight.shape[:2])
    weight += weight_33DC.permute(2, 3, 0, 1)


def _write_tiles(y_PND: Tensor, y: Tensor) -> None:
    """(P, N, D) -> (B, D, H, W)."""
    _, _, to_output = _BASES[y.dtype]
    tiles = _by_tile(y)
    tiles.copy_(_change(to_output, y_PND).view(tiles.shape))


def _tiles(y: Tensor) -> Tensor:
    """The transpose of `_write_tiles`."""
    _, _, to_output = _BASES[y.dtype]
    inner = _change(to_output.T, _by_tile(y).reshape(TILE, TILE, -1))
    return inner.view(WINDOW**2, -1, y.shape[1])


def _by_tile(y: Tensor) -> Tensor:
    """(B, D, H, W) -> (4, 4, B, T, T, D), the same numbers in memory."""
    return y.unflatten(3, (-1, TILE)).unflatten(2, (-1, TILE)).permute(3, 5, 0, 2, 4, 1)
