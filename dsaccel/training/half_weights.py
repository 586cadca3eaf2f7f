"""Weights of a unit as autocast would have them in bf16, but all in one operation each way.

Autocast casts each weight by itself, and autograd each gradient: most of what a GPU launches for
them is too small to be worth a launch. The numbers are the same.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

Slot = tuple[nn.Module, str]
"""A module and the name of one of its parameters."""


def cast_by_autocast(unit: nn.Module) -> list[Slot]:
    """The parameters of convolutions and linear maps."""
    return [
        (module, name)
        for module in unit.modules()
        if isinstance(module, (nn.Conv2d, nn.Linear))
        for name, _ in module.named_parameters(recurse=False)
    ]


@contextmanager
def half_weights(slots: Sequence[Slot]) -> Iterator[None]:
    """Put copies in bf16 into their places, and at the end the weights back, with gradients."""
    weights = [getattr(module, name) for module, name in slots]
    copies = [torch.empty_like(weight, dtype=torch.bfloat16) for weight in weights]
    try:
        _copy(copies, [weight.detach() for weight in weights])
        for (module, name), copy in zip(slots, copies, strict=True):
            module._parameters[name] = copy.requires_grad_()  # pyright: ignore[reportArgumentType]
        yield
    finally:
        for (module, name), weight in zip(slots, weights, strict=True):
            module._parameters[name] = weight
    learned = [(w, c.grad) for w, c in zip(weights, copies, strict=True) if c.grad is not None]
    gradients = [torch.empty_like(weight) for weight, _ in learned]
    _copy(gradients, [gradient for _, gradient in learned])
    for (weight, _), gradient in zip(learned, gradients, strict=True):
        weight.grad = gradient


def _copy(to: list[Tensor], of: list[Tensor]) -> None:
    if to:
        torch._foreach_copy_(to, of)  # pyright: ignore[reportPrivateImportUsage]
