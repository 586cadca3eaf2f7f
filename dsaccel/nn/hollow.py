"""Tensors that have a shape, a type and a storage, but no numbers.

Torch's own (`FakeTensorMode`) loads its compiler, which takes two seconds, and is slower besides.
"""

from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

CPU, META = torch.device("cpu"), torch.device("meta")
DEVICE = torch.ops.prim.device.default
CONVOLUTIONS = (torch.ops.aten.convolution.default, torch.ops.aten.convolution_backward.default)


class Hollow(Tensor):
    """Looks like a tensor on a CPU, so that it goes the way of one; operations see a meta tensor.

    Modules and operations handle it within a mode whose dispatch is `run_hollow`.
    """

    @staticmethod
    def __new__(cls, meta: Tensor) -> "Hollow":
        return Tensor._make_subclass(
            cls, meta, False, dispatch_device=True, device_for_backend_keys=CPU
        )

    @property
    def device(self) -> torch.device:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The device where it seems to be."""
        return META if torch._C._meta_in_tls_dispatch_include() else CPU

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Tell the device, which torch asks for this way; all else is the mode's."""
        if func is DEVICE:
            return args[0].device
        raise NotImplementedError(f"{func} of a hollow tensor, outside of its mode")

    __torch_function__ = torch._C._disabled_torch_function_impl  # pyright: ignore[reportAssignmentType]


def run_hollow(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Run an operation that torch dispatches: shapes alone. Maps are channels-last, as all are."""
    if func is DEVICE:
        return args[0].device
    if "device" in kwargs:
        kwargs = {**kwargs, "device": META}
    args, kwargs = _emptied(args), {name: _emptied(value) for name, value in kwargs.items()}
    if not _makes_anew(func):
        return _hollow(_run(func, args, kwargs))
    key = func, _signature(args), _signature(kwargs)
    if key not in _made:
        _made[key] = _signature(_run(func, args, kwargs))
    return _of_signature(_made[key])


_made: dict[Any, Any] = {}
"""The shapes that operations have made, by what they were given: most are done again and again, and
torch takes a millisecond to find the shapes of some.
"""


def _run(func: Any, args: Any, kwargs: Any) -> Any:
    with torch._C._DisableTorchDispatch(), torch._C._PreserveDispatchKeyGuard():
        torch._C._set_meta_in_tls_dispatch_include(True)
        made = func(*args, **kwargs)
    if func in CONVOLUTIONS:  # whose layout torch chooses by library, where there are numbers
        made = tree_map_only(Tensor, _channels_last, made)
    return made


@cache
def _makes_anew(func: Any) -> bool:
    """Whether no result is, or is a view of, what an operation was given."""
    schema = func._schema
    parts = (*schema.arguments, *schema.returns)
    is_view = func is torch.ops.aten._unsafe_view.default  # which its schema does not tell
    is_known = func.namespace == "aten" and schema.returns and not is_view
    return bool(is_known) and all(part.alias_info is None for part in parts)


class _Shape(NamedTuple):
    """All that is known of a hollow tensor."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype


def _signature(value: Any) -> Any:
    """The value with the shape of each tensor in its place; hashable."""
    if isinstance(value, Tensor):
        return _Shape(tuple(value.shape), value.stride(), value.dtype)
    if isinstance(value, dict):
        return tuple((name, _signature(each)) for name, each in value.items())
    if isinstance(value, (list, tuple)):
        return tuple(map(_signature, value))
    return type(value), value  # 1 and 1.0 are equal, but not to torch


def _of_signature(made: Any) -> Any:
    if isinstance(made, _Shape):
        return Hollow(torch.empty_strided(made.shape, made.stride, dtype=made.dtype, device=META))
    if made and isinstance(made[0], type):
        return made[1]
    return tuple(map(_of_signature, made))


def _channels_last(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.channels_last) if x.ndim == 4 else x


def _emptied(value: Any) -> Any:
    """Tensors with numbers may be read: constants, for instance."""
    if isinstance(value, (list, tuple)):
        return type(value)(_emptied(part) for part in value)
    if isinstance(value, Tensor) and not isinstance(value, Hollow):
        return Hollow(value.detach().to(META))
    return value


def _hollow(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(_hollow(part) for part in value)
    return Hollow(value) if isinstance(value, Tensor) and not isinstance(value, Hollow) else value
