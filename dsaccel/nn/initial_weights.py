"""Begin with trained weights in place of drawn ones: what is taken from a file, what starts anew.

A network's *body* is all but its classifiers and the branches of its local losses. It is taken
whole: a body of which a part is trained and a part is not would be neither of two experiments.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from dsaccel.config.study import RunConfig
from dsaccel.errors import ConfigError
from dsaccel.nn.units import Unit
from dsaccel.nn.weights import (
    named_tensors,
    output_name,
    read_config,
    read_facts,
    read_tensors,
    weights_hash,
)


class Count(NamedTuple):
    """Parts of a kind."""

    taken: int
    total: int


class Taken(NamedTuple):
    """What a network took from a file; the rest of it starts anew."""

    weights: str
    """Hash of the file."""
    body: int
    """Tensors; always all."""
    classifiers: Count
    """The classifiers of local heads."""
    branches: Count
    """Convolutions and linear maps of local losses, beside their classifiers."""
    output: Count
    """The output layer: one."""

    def __str__(self) -> str:
        kinds = {
            "local classifiers": self.classifiers,
            "branches of local losses": self.branches,
            "output layer": self.output,
        }
        counts = [f"{k} {n.taken} of {n.total}" for k, n in kinds.items() if n.total]
        return ", ".join([f"body whole ({self.body} tensors)", *counts])


def take_weights(
    path: Path, units: Iterable[Unit], run: RunConfig, class_names: tuple[str, ...]
) -> Taken:
    """Put a file's weights into a network: the body, and of the rest what fits.

    A classifier (weights and bias) fits if its shapes and the classes, in their order, are the
    file's; a branch of a local loss if its shape is.

    Args:
        path: what `save_weights` wrote.
        units: the network, which is left as it was if the body does not fit.
        run: the network's settings.
        class_names: what its classifiers tell apart.

    Raises:
        ConfigError: if the file cannot be read, or the bodies differ in a name or a shape.
    """
    theirs, knows_classes = read_config(path), read_facts(path).class_names == class_names
    weights, tensors = weights_hash(path), read_tensors(path)
    targets, output = named_tensors(units, run), output_name(run)
    body = _body(targets, output)
    if unlike := _first_difference(body, _body(tensors, output_name(theirs))):
        raise ConfigError(
            f"{path} must hold the body of the network that begins with it, "
            f"{_described(run)}, but is of {_described(theirs)}: {unlike}"
        )
    counts = {kind: [0, 0] for kind in ("classifiers", "branches", "output")}
    with torch.no_grad():
        for name, target in body.items():
            target.copy_(tensors[name])  # in place: memory format and device stay
        for part, of_part in _parts(targets, body).items():
            kind = "classifiers" if part.endswith(".classifier") else "branches"
            kind = "output" if part == output else kind
            fits = _fit(of_part, tensors) and (kind == "branches" or knows_classes)
            if fits:
                for name, target in of_part.items():
                    target.copy_(tensors[name])
            counts[kind][0] += fits
            counts[kind][1] += 1
    return Taken(weights, len(body), **{kind: Count(*count) for kind, count in counts.items()})


def _body(tensors: Mapping[str, Tensor], output: str) -> dict[str, Tensor]:
    rest = ("heads.", f"{output}.")
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(rest)}


def _parts(
    targets: Mapping[str, Tensor], body: Mapping[str, Tensor]
) -> dict[str, dict[str, Tensor]]:
    """All that is not body, by module: a bias is nothing without its weights."""
    parts: dict[str, dict[str, Tensor]] = {}
    for name, target in targets.items():
        if name not in body:
            parts.setdefault(name.rpartition(".")[0], {})[name] = target
    return parts


def _fit(of_part: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> bool:
    return all(n in tensors and tensors[n].shape == t.shape for n, t in of_part.items())


def _first_difference(mine: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> str | None:
    """The first difference in order of depth; what only the file has comes last."""
    for name, tensor in mine.items():
        if name not in theirs:
            return f"it has no {name}"
        if tensor.shape != theirs[name].shape:
            shapes = tuple(theirs[name].shape), tuple(tensor.shape)
            return f"{name} has shape {shapes[0]} there, but {shapes[1]} here"
    more = sorted(theirs.keys() - mine.keys())
    return f"only it has {more[0]}" if more else None


def _described(run: RunConfig) -> str:
    """Describe what decides a body's shapes; of images a ResNet sees only the channels."""
    data, network = run.data, run.network
    images = f"{data.image_size}x{data.image_size}x{data.channels}"
    return f"{run.family} {run.hierarchy} at width {network.width:g} for images of {images}"
