"""Layers and heads compiled by torch, once for each shape.

Compiled, they learn the same up to rounding, in fewer kernels that move less. Units of one shape
run the same code, so that a network in a trie still learns bit for bit as it would alone.
"""

import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from types import FunctionType
from typing import Any, cast
from weakref import ref

import torch
from torch import Tensor, nn
from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException
from torch._functorch import config as functorch
from torch.utils._python_dispatch import _get_current_dispatch_mode

from dsaccel.errors import CompilerError
from dsaccel.nn.labels import Labels, Target
from dsaccel.nn.layers import LayerModule
from dsaccel.nn.placement import as_on_gpu
from dsaccel.nn.units import LocalHead, OutputLayer, Unit, statistics_kept

BACKEND = "inductor"


def compile_unit(unit: Unit) -> None:
    """Let layers and head learn by compiled code; what is only read runs as it is."""
    for layer in cast("list[LayerModule]", [*unit.layers]):
        _learn_by(layer, "forward", _compiled(type(layer).forward, _shape(layer)))
    head = cast("LocalHead | OutputLayer", unit.head)
    gradients = _compiled(type(head).gradients, head.spec)

    def learn(head: Any, h: Tensor, labels: Labels, **read: Any) -> Any:
        # made before: to look something up is not to be compiled
        made = [labels[target] for target in _targets(head, h, labels, read)]
        return gradients(head, h, Given(labels, made), **read)

    _learn_by(head, "gradients", learn)


class Given:
    """The labels of a batch for code that is compiled, with what it looks up, one after another."""

    def __init__(self, labels: Labels, made: Sequence[Tensor]) -> None:
        self.y_B, self.images = labels.y_B, labels.images
        self._made, self._next = made, 0

    def __getitem__(self, target: Target) -> Tensor:
        self._next += 1
        return self._made[self._next - 1]


def _learn_by(module: nn.Module, name: str, compiled: Callable[..., Any]) -> None:
    """Put compiled code in the place of a method where gradients are wanted."""
    plain = getattr(type(module), name)
    owner = ref(module)  # a cycle would keep a retired unit's memory until it is collected

    def run(*args: Any, **options: Any) -> Any:
        # who counts operations wants to see them: torch would never compile these shapes again
        if not torch.is_grad_enabled() or _get_current_dispatch_mode() is not None:
            return plain(owner(), *args, **options)
        try:
            # what a CPU gains by other operations, a compiler gains by itself; a backward pass
            # that cannot be compiled is to fail here, too
            with as_on_gpu(), functorch.patch(force_non_lazy_backward_lowering=True), _quiet():
                return compiled(owner(), *args, **options)
        except (TorchDynamoException, FailOnRecompileLimitHit) as error:
            inner = getattr(error, "inner_exception", error)
            if isinstance(inner, (MemoryError, torch.OutOfMemoryError)):
                raise inner from None
            reason = f"{type(inner).__name__}: {str(inner).strip().partition(chr(10))[0]}"
            raise CompilerError(
                "training.compile must be false where torch.compile fails, but here it said: "
                f"{reason}"
            ) from error

    setattr(module, name, run)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch warns of when it traces: it looks at what it should not."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The .grad attribute of a Tensor that is not a leaf")
        warnings.filterwarnings("ignore", ".*autograd.function.Function.* should not be inst")
        yield


@cache
def _compiled(function: FunctionType, shape: Hashable) -> Callable[..., Any]:
    """One for each shape: torch keeps what it compiled with a function's code, eight of them at
    most.
    """
    own = FunctionType(
        function.__code__.replace(),
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    own.__kwdefaults__ = function.__kwdefaults__
    # without gaps: what lies between two would be kept for all shapes together
    return torch.compile(own, backend=BACKEND, dynamic=False, fullgraph=True)


def _shape(layer: LayerModule) -> Hashable:
    """Equal for layers that compute alike, wherever they stand."""
    layers = tuple(replace(given, head=None, dropout=0.0) for given in layer.block.layers)
    block = replace(layer.block, stage=1, index=1, layers=layers)
    return block, layer.position.unit, layer.keeps_residual


_known: dict[Hashable, tuple[Target, ...]] = {}


def _targets(head: Any, h: Tensor, labels: Labels, read: Any) -> tuple[Target, ...]:
    """What a head looks up of labels, in order: it is run once to see."""
    key = head.spec, h.dtype
    if key not in _known:
        fresh = Seen(labels.y_B, labels.images)
        with torch.no_grad(), statistics_kept([head]), as_on_gpu():
            type(head).gradients(head, h, fresh, **read)
        _known[key] = tuple(fresh.asked)
    return _known[key]


class Seen(Labels):
    """Labels that note what is looked up."""

    def __init__(self, y_B: Tensor, images: Tensor | None) -> None:
        super().__init__(y_B, images)
        self.asked: list[Target] = []

    def __getitem__(self, target: Target) -> Tensor:
        self.asked.append(target)
        return super().__getitem__(target)
