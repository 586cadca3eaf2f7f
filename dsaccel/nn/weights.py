"""A network's weights in a file, with its settings; names of other programs are mapped here only.

The names are torchvision's: a network of `resnet18` loads into torchvision's ResNet (with a 3x3
stem, no max-pool and leaky ReLU), one of `vgg` into its `features`. What torchvision does not have
keeps apart: local heads are `heads.NAME.classifier`, `.similarity`, `.pred_conv`, where NAME is the
convolution that they follow.
"""

import hashlib
import importlib.metadata
import json
import shlex
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load
from torch import Tensor

from dsaccel.config.study import RunConfig
from dsaccel.errors import ConfigError, NoResultError
from dsaccel.families import Family
from dsaccel.files import atomic_write, read_file
from dsaccel.nn.layers import LayerModule
from dsaccel.nn.sealed import are_sealed, sealed_weights
from dsaccel.nn.units import LocalHead, Unit
from dsaccel.parts import part_of

SUFFIX = ".safetensors"


class ImageFacts(NamedTuple):
    """What a network must know of the images that it was trained on, beside its settings."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    """Standard deviation of each channel, with pixels within 0..1."""
    class_names: tuple[str, ...]
    """The classes in the order of the logits."""
    fingerprint: str
    """Hash of the images trained and validated on; empty if there were none."""


def save_weights(
    path: Path,
    units: Iterable[Unit],
    run: RunConfig,
    facts: ImageFacts,
    num_heads: int | None = None,
) -> None:
    """Write a network's weights and buffers, whole or not at all, with the settings beside them.

    Where the data lay is left out: the file may be given away. The heads of the last `num_heads`
    units are written; None: all heads.

    Raises:
        NoResultError: if they are not finite, for training has diverged.
        StorageError: if the file cannot be written.
    """
    data = run.data.model_copy(update={"dir": None})
    portable = run.model_copy(update={"data": data})
    metadata = {
        "format": "pt",
        "config": portable.model_dump_json(exclude_none=True),
        "images": json.dumps(facts._asdict()),
        "version": importlib.metadata.version("dsaccel"),
    }
    tensors = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in named_tensors(units, run, num_heads).items()
    }
    diverged = _not_finite(tensors)
    if diverged is not None:
        raise NoResultError(
            f"{run.hierarchy} must have finite weights to be written, but training has diverged: "
            f"{diverged} is not finite; use a smaller training.learning_rate"
        )
    with atomic_write(path) as temporary:
        temporary.write_bytes(sealed_weights(tensors, metadata))


def read_config(path: Path) -> RunConfig:
    """The settings that a file's weights were trained with.

    Raises:
        ConfigError: if the file cannot be read, or was not written by `save_weights`.
    """
    try:
        return RunConfig.model_validate_json(_metadata(path, "config"))
    except ValidationError as error:
        raise _not_ours(path, str(error).splitlines()[0]) from None


def read_facts(path: Path) -> ImageFacts:
    """The facts of the images that a file's weights were trained on.

    Raises:
        ConfigError: as `read_config`.
    """
    try:
        facts = json.loads(_metadata(path, "images"))
        mean, std, class_names = (tuple(facts[name]) for name in ImageFacts._fields[:3])
        return ImageFacts(mean, std, class_names, str(facts["fingerprint"]))
    except (json.JSONDecodeError, KeyError, TypeError):
        raise _not_ours(path, "its metadata about the images are damaged") from None


def weights_hash(path: Path) -> str:
    """The identity of a file of weights: the first half of its SHA-256, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:32]


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All weights and buffers of a file, on the CPU.

    Raises:
        ConfigError: if it cannot be read, is damaged, or a value is not finite.
    """
    with _reading(path):
        content = read_file(path)
        tensors = load(content)
    if not are_sealed(content):
        raise _not_ours(
            path, "it is damaged, or another program wrote it: its SHA-256 is not the recorded one"
        )
    diverged = _not_finite(tensors)
    if diverged is not None:
        raise _not_ours(path, f"{diverged} is not finite, as after a training that diverged")
    return tensors


def load_weights(
    path: Path, units: Iterable[Unit], run: RunConfig, num_heads: int | None = None
) -> frozenset[int]:
    """Put a file's weights into a network, bit for bit.

    Args:
        path: what `save_weights` wrote.
        units: the network.
        run: its settings.
        num_heads: of how many of the last units the file must hold the heads; None: of all.

    Returns:
        the units whose heads are not in the file; those heads stay as they are.

    Raises:
        ConfigError: as `read_tensors`, or if names or shapes are not the network's.
    """
    tensors, (body, heads) = read_tensors(path), _body_and_heads(units, run)
    spare = heads[:-num_heads] if num_heads else []
    absent = frozenset(n for n, head in enumerate(spare) if head.keys().isdisjoint(tensors))
    targets = _merged(body, *(head for n, head in enumerate(heads) if n not in absent))
    unlike = sorted(set(tensors) ^ set(targets))
    if unlike:
        raise _not_ours(path, f"only one of file and network has {', '.join(unlike[:3])}")
    for name, target in targets.items():
        if tensors[name].shape != target.shape:
            raise _not_ours(path, f"{name} has shape {tuple(tensors[name].shape)}")
    with torch.no_grad():
        for name, target in targets.items():
            target.copy_(tensors[name])  # in place: memory format and device stay
    return absent


def named_tensors(
    units: Iterable[Unit], run: RunConfig, num_heads: int | None = None
) -> dict[str, Tensor]:
    """All weights and buffers by their outside names; they are the network's own, not copies. Of
    heads those of the last `num_heads` units; None: of all.
    """
    body, heads = _body_and_heads(units, run)
    return _merged(body, *(heads if num_heads is None else heads[-num_heads:]))


def _body_and_heads(
    units: Iterable[Unit], run: RunConfig
) -> tuple[dict[str, Tensor], list[Mapping[str, Tensor]]]:
    """The named tensors of all layers, and those of each unit's head."""
    units = list(units)
    family = _family(run)
    layers = [layer for unit in units for layer in unit.layers if isinstance(layer, LayerModule)]
    blocks = [layer.block for layer in layers if layer.opens_block]
    names = dict(zip(layers, family.names(blocks), strict=True))
    body: dict[str, Tensor] = {}
    for layer, name in names.items():
        for own, module in layer.named_children():
            body |= _under(name(own), module)
    heads: list[Mapping[str, Tensor]] = []
    for unit in units:
        if isinstance(unit.head, LocalHead):
            last = unit.layers[-1]
            assert isinstance(last, LayerModule)
            heads.append(_under(f"heads.{names[last]('weight')}", unit.head))
        else:
            heads.append(_under(family.output_name(), unit.head.classifier))
    return body, heads


def _merged(*tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for each in tensors for name, tensor in each.items()}


def output_name(run: RunConfig) -> str:
    """The name of a network's output layer."""
    return _family(run).output_name()


def _family(run: RunConfig) -> Family:
    return part_of(run.network, "family", run.family)


def _not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """The first tensor with a value that is no finite number."""
    return next((name for name, tensor in tensors.items() if not tensor.isfinite().all()), None)


def _under(name: str, module: torch.nn.Module) -> Mapping[str, Tensor]:
    return {f"{name}.{key}": tensor for key, tensor in module.state_dict().items()}


def _metadata(path: Path, key: str) -> str:
    with _reading(path), safe_open(path, framework="pt") as file:
        text = (file.metadata() or {}).get(key)
    if text is None:
        raise _not_ours(path, f"its metadata have no {key!r}")
    return text


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        if not path.is_file():
            raise ConfigError(
                f"{path} must be weights, but is not there; write them with: "
                f"dsaccel train CONFIG --output {shlex.quote(str(path))}"
            ) from None
        raise _not_ours(path, str(error)) from None


def _not_ours(path: Path, why: str) -> ConfigError:
    return ConfigError(f"{path} must hold weights that dsaccel train --output wrote, but: {why}")
