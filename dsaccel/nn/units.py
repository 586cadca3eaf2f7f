"""Units: what one loss trains, a run of layers and the head that ends it.

B batch, C channels, H = W side, F features, K classes.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, NoReturn, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from dsaccel.errors import ConfigError
from dsaccel.nn.labels import Labels, cross_entropy_gradient
from dsaccel.nn.layers import Draw, LayerModule, Position, pooled
from dsaccel.nn.similarity import exact
from dsaccel.spec.blocks import Output
from dsaccel.spec.local import Head, Read
from dsaccel.spec.plan import Segment

Run = Literal["block", "stage"]
RUNS: Mapping[bool | str, tuple[Run, ...]] = {
    False: (),
    True: ("block",),
    "block": ("block",),
    "stage": ("stage",),
    "nested": ("stage", "block"),
}
"""The runs of layers that each kind of recomputing keeps the inputs of."""


class Features(NamedTuple):
    """The tensors that one unit passes on to the next."""

    x: Tensor
    """(B, C, H, W) or (B, F), channels dropped."""
    skip: Tensor | None
    """The open block's input, for its shortcut; None: no block has been opened."""


class LocalHead(nn.Module):
    """A unit's classifier and the layers of its local loss; reads features before dropout."""

    def __init__(self, head: Head, position: Position, seed: int) -> None:
        super().__init__()
        self.spec = head
        draw = Draw(seed, position)
        layers = [*head.classifier.build(draw).items(), *head.loss.build(draw).items()]
        for name, layer in layers:
            if hasattr(self, name):
                raise ConfigError(f"a head and its loss must not both have a layer {name}")
            self.add_module(name, layer)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def logits(self, h: Tensor) -> Tensor:
        """Features -> (B, K)."""
        return self.spec.classifier.logits(h, self)

    def loss(self, h: Tensor, y_B: Tensor, **read: Any) -> Tensor:
        """The local loss, a scalar."""
        return self.spec.loss.loss(h, self._exact_logits, y_B, self, **read)

    def gradients(
        self, h: Tensor, labels: Labels, **read: Any
    ) -> list[tuple[Tensor, Tensor | None]]:
        """Where its gradient begins, without its value."""
        return self.spec.loss.gradients(h, self._exact_logits, labels, self, **read)

    def _exact_logits(self, h: Tensor) -> Tensor:
        return exact(self.logits(h))


class OutputLayer(nn.Module):
    """The classifier at a network's end; reads features after dropout, as the next unit would."""

    def __init__(self, output: Output, *, zero: bool, seed: int) -> None:
        super().__init__()
        self.spec = output
        draw = Draw(seed, None)
        self.classifier = draw("output", nn.Linear, output.num_features, output.num_classes)
        if zero:
            nn.init.zeros_(self.classifier.weight)

    def logits(self, x: Tensor) -> Tensor:
        """Features -> (B, K)."""
        x = pooled(x, self.spec.pool)
        if self.spec.average:
            x = x.mean(dim=(2, 3))
        return self.classifier(x.flatten(1))

    def loss(self, x: Tensor, y_B: Tensor) -> Tensor:
        if self.spec.loss is not None:
            return self.spec.weight * self.spec.loss.loss(x, self._exact_logits, y_B, self)
        logits_BK, smoothing = exact(self.logits(x)), self.spec.label_smoothing
        return self.spec.weight * F.cross_entropy(logits_BK, y_B, label_smoothing=smoothing)

    def gradients(self, x: Tensor, labels: Labels) -> list[tuple[Tensor, Tensor | None]]:
        if self.spec.loss is not None:
            return [(self.loss(x, labels.y_B), None)]
        logits_BK, smoothing = exact(self.logits(x)), self.spec.label_smoothing
        return [cross_entropy_gradient(logits_BK, labels, smoothing, self.spec.weight)]

    def _exact_logits(self, x: Tensor) -> Tensor:
        return exact(self.logits(x))


class AbsentHead(LocalHead):
    """The place of a head that a file of weights does not hold."""

    def __init__(self, head: Head, name: str) -> None:
        nn.Module.__init__(self)  # without the layers of a head
        self.spec, self.name = head, name

    def logits(self, h: Tensor) -> Tensor:
        """
        Raises:
            ConfigError: always.
        """
        self.refuse()

    def refuse(self) -> NoReturn:
        """Say that the head is not there."""
        raise ConfigError(
            f"weights must hold the head {self.name} for this, but hold those alone that the "
            f"network's exit reads; dsaccel search --all-heads and dsaccel train write all heads"
        )


class Unit(nn.Module):
    """What one loss trains: a run of layers and the head at its end."""

    def __init__(self, layers: list[LayerModule], head: LocalHead | OutputLayer) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.head = head
        self.recomputes: tuple[Run, ...] = ()
        """Runs of layers, the longest first, of which only the input is kept: a gradient computes
        each again."""
        self.reads = head.spec.loss.reads if isinstance(head, LocalHead) else frozenset()
        for layer in layers:
            layer.keeps_residual = "residuals" in self.reads

    def forward(
        self,
        x: Tensor,
        skip: Tensor | None,
        generators: Mapping[Position, torch.Generator | None] | None,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Input and open block's input -> what the head reads, what goes forward, block's input.

        Channels are dropped where `generators` are given.
        """
        layers, h = cast("list[LayerModule]", [*self.layers]), x
        recomputes = self.recomputes if torch.is_grad_enabled() else ()
        if layers:
            drawn = {} if recomputes else None
            h, x, skip = _run_again(recomputes, layers, drawn, x, skip, generators)
        return (x if isinstance(self.head, OutputLayer) else h), x, skip

    def loss(self, h: Tensor, labels: Labels, x: Tensor) -> Tensor:
        """The loss of what the head reads, where the unit was fed `x`."""
        return self.head.loss(h, labels.y_B, **self._read(labels, x))

    def gradients(self, h: Tensor, labels: Labels, x: Tensor) -> list[tuple[Tensor, Tensor | None]]:
        """Where the gradient of `loss` begins."""
        return self.head.gradients(h, labels, **self._read(labels, x))

    def _read(self, labels: Labels, x: Tensor) -> dict[Read, Any]:
        """The tensors that the loss reads beside features and logits."""
        there: dict[Read, Any] = {"image": labels.images, "previous": x}
        if "residuals" in self.reads:
            layers = cast("list[LayerModule]", [*self.layers])
            there["residuals"] = tuple(r for layer in layers if (r := layer.residual) is not None)
            for layer in layers:
                layer.residual = None
        return {name: there[name] for name in self.reads}


def _run_again(
    runs: Sequence[Run],
    layers: Sequence[LayerModule],
    drawn: dict[Position, Tensor] | None,
    x: Tensor,
    skip: Tensor | None,
    generators: Mapping[Position, torch.Generator | None] | None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Like `Unit.forward`, for some layers, of which runs are computed again for the gradient with
    the masks that were `drawn` first.
    """
    if not runs:
        return _run(layers, x, skip, generators, drawn)
    h = x
    for part in _parts(layers, runs[0]):
        h, x, skip = checkpoint(
            partial(_run_again, runs[1:], part, drawn, generators=generators),
            x,
            skip,
            use_reentrant=False,
            preserve_rng_state=False,
            context_fn=lambda part=part: (nullcontext(), statistics_kept(part)),
        )  # pyright: ignore[reportGeneralTypeIssues]
    return h, x, skip


def _run(
    layers: Sequence[LayerModule],
    x: Tensor,
    skip: Tensor | None,
    generators: Mapping[Position, torch.Generator | None] | None,
    drawn: dict[Position, Tensor] | None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The same, computed once."""
    h = x
    for layer in layers:
        h, skip = layer(x, skip)
        x = layer.drop(h, generators[layer.position], drawn) if generators else h
    return h, x, skip


def _parts(layers: Sequence[LayerModule], run: Run) -> Iterator[list[LayerModule]]:
    """The layers of a unit, block by block or stage by stage; the first block may have been opened
    below.
    """
    part: list[LayerModule] = []
    for layer in layers:
        if part and _starts(layer, part[-1], run):
            yield part
            part = []
        part.append(layer)
    if part:
        yield part


def _starts(layer: LayerModule, before: LayerModule, run: Run) -> bool:
    return layer.opens_block and (run == "block" or layer.position.stage != before.position.stage)


@contextmanager
def statistics_kept(layers: Sequence[nn.Module]) -> Iterator[None]:
    """Throw away the running statistics of what is computed again."""
    modules = [module for layer in layers for module in layer.modules()]
    kept = [(m, name, b) for m in modules for name, b in m.named_buffers(recurse=False)]
    try:
        for module, name, buffer in kept:
            setattr(module, name, buffer.clone())
        yield
    finally:
        for module, name, buffer in kept:
            setattr(module, name, buffer)


def build_units(segment: Segment, seed: int) -> list[Unit]:
    """The units of a segment, initialised by position; on the CPU, in fp32."""
    units: list[Unit] = []
    run: list[LayerModule] = []
    for block in segment.blocks:
        for number, layer in enumerate(block.layers):
            draw = Draw(seed, Position(block.stage, block.index, number + 1))
            run.append(block.build(number, draw) or LayerModule(block, number, draw))
            if layer.head is not None:
                units.append(Unit(run, LocalHead(layer.head, run[-1].position, seed)))
                run = []
    if segment.output is not None:
        # an output layer on detached features starts at zero, as the local classifiers do
        units.append(Unit(run, OutputLayer(segment.output, zero=not run, seed=seed)))
    return units


def layer_outputs(units: Iterable[Unit], x: Tensor) -> list[Tensor]:
    """The output of each layer for normalised images, (B, C, H, W) or (B, F), without dropout."""
    skip: Tensor | None = None
    outputs: list[Tensor] = []
    for unit in units:
        for layer in unit.layers:
            x, skip = layer(x, skip)
            outputs.append(x)
    return outputs


def positions(units: list[Unit]) -> Iterator[Position]:
    """Where the layers of some units stand."""
    for unit in units:
        for layer in unit.layers:
            assert isinstance(layer, LayerModule)
            yield layer.position
