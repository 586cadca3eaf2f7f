"""Parts that can be added to a study: a file each, found by a name or by an import path.

A part is a class: a frozen `Section` whose fields are its options, whose docstring is its help, and
whose base says of which kind it is. Shipped parts have names in `BUILTIN`, a table of text: to list
them imports nothing. A user's own part is `mypackage.heads:Mine` or `./heads.py:Mine`. It is code,
so it is imported only after `trust` (`imports.py`).
"""

import hashlib
import inspect
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dsaccel.errors import ConfigError, MismatchError
from dsaccel.imports import import_attribute, is_foreign, trusted

if TYPE_CHECKING:
    from pydantic import BaseModel

# fmt: off
Kind = Literal[
    "head", "loss", "family", "optimizer", "lr_schedule", "schedule", "strategy", "pruner", "data",
    "executor", "figure",
]
# fmt: on

KINDS: dict[Kind, str] = {
    "head": "dsaccel.heads:Head",
    "loss": "dsaccel.losses:LocalLoss",
    "family": "dsaccel.families:Family",
    "optimizer": "dsaccel.optimizers:Optimizer",
    "lr_schedule": "dsaccel.lr_schedules:LRSchedule",
    "schedule": "dsaccel.schedules:Schedule",
    "strategy": "dsaccel.search.strategies:Strategy",
    "pruner": "dsaccel.search.pruners:PrunerKind",
    "data": "dsaccel.data.source:DataSource",
    "executor": "dsaccel.executors:Executor",
    "figure": "dsaccel.report.figures:Figure",
}
"""The class that every part of a kind derives from, as `module:Class`."""
BUILTIN: dict[Kind, dict[str, str]] = {
    "head": {
        "linear": "dsaccel.heads.linear:Linear",
        "gap": "dsaccel.heads.gap:Gap",
        "conv": "dsaccel.heads.conv:Conv",
        "mlp": "dsaccel.heads.mlp:Mlp",
        "tail": "dsaccel.heads.tail:Tail",
    },
    "loss": {
        "predsim": "dsaccel.losses.predsim:PredSim",
        "pred": "dsaccel.losses.pred:Pred",
        "sim": "dsaccel.losses.sim:Sim",
        "mse": "dsaccel.losses.mse:Mse",
        "transport": "dsaccel.losses.transport:Transport",
        "reconstruct": "dsaccel.losses.reconstruct:Reconstruct",
    },
    "family": {
        "resnet18": "dsaccel.families.resnet:ResNet18",
        "resnet34": "dsaccel.families.resnet:ResNet34",
        "resnet50": "dsaccel.families.resnet:ResNet50",
        "resnet101": "dsaccel.families.resnet:ResNet101",
        "resnext50": "dsaccel.families.resnext:ResNeXt50",
        "vgg": "dsaccel.families.vgg:VGG",
        "vgg8b": "dsaccel.families.vgg:VGG8b",
    },
    "optimizer": {
        "adam": "dsaccel.optimizers.adam:Adam",
        "adamw": "dsaccel.optimizers.adamw:AdamW",
        "sgd": "dsaccel.optimizers.sgd:SGD",
    },
    "lr_schedule": {
        "steps": "dsaccel.lr_schedules.steps:Steps",
        "cosine": "dsaccel.lr_schedules.cosine:Cosine",
        "constant": "dsaccel.lr_schedules.constant:Constant",
    },
    "schedule": {
        "simultaneous": "dsaccel.schedules.simultaneous:Simultaneous",
        "sequential": "dsaccel.schedules.sequential:Sequential",
    },
    "pruner": {
        "halving": "dsaccel.search.pruners.halving:Halving",
        "percentile": "dsaccel.search.pruners.percentile:Percentile",
        "none": "dsaccel.search.pruners.none:Nobody",
    },
    "strategy": {
        "exhaustive": "dsaccel.search.strategies.exhaustive:Exhaustive",
        "tpe": "dsaccel.search.strategies.tpe:Tpe",
        "gp": "dsaccel.search.strategies.gp:Gp",
        "nsga2": "dsaccel.search.strategies.nsga2:Nsga2",
        "random": "dsaccel.search.strategies.random:Random",
        "beam": "dsaccel.search.strategies.beam:Beam",
    },
    "data": {
        "digits": "dsaccel.data.sources.digits:Digits",
        **dict.fromkeys(
            ("cifar10", "cifar100", "fashion-mnist", "kmnist", "mnist", "stl10", "svhn"),
            "dsaccel.data.sources.torchvision:Torchvision",
        ),
    },
    "executor": {
        "in-process": "dsaccel.executors.in_process:InProcess",
        "local": "dsaccel.executors.local:Local",
        "cluster": "dsaccel.executors.cluster:Cluster",
    },
    "figure": {  # in the order of a study's page
        "confirmation": "dsaccel.report.figures.confirmation:ConfirmationFigure",
        "history": "dsaccel.report.figures.history:History",
        "hierarchies": "dsaccel.report.figures.hierarchies:Hierarchies",
        "parameters": "dsaccel.report.figures.parameters:Parameters",
        "overlay": "dsaccel.report.figures.overlay:Overlay",
        "heads": "dsaccel.report.figures.heads:Heads",
        "depth": "dsaccel.report.figures.depth:Depth",
    },
}
"""The shipped parts of each kind: name -> `module:Class`."""

_parts: dict[tuple[type, str], Any] = {}
"""The parts of configs, by class and options: many ask for the same ones."""


@dataclass(frozen=True)
class PartRef:
    """A part as a study records it."""

    kind: Kind
    name: str
    sha256: str | None
    """The hash of the file that defines it, not of its imports; None: the part is shipped."""


@dataclass(frozen=True)
class NamesPart:
    """Marks a text field of a config as the name of a part: `Annotated[str, NamesPart("head")]`."""

    kind: Kind
    or_else: str | None = None
    """The meaning of any other text: a data set may also be a folder."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core.core_schema import no_info_after_validator_function

        return no_info_after_validator_function(self.check, handler(source))

    def check(self, name: str | None) -> str | None:
        """The name, if there may be such a part or none is named; nothing is imported.

        Raises:
            ValueError: if there is none.
        """
        if name is not None and self.or_else is None and not self.is_part(name):
            known = ", ".join(BUILTIN[self.kind])
            raise ValueError(f"must be one of {known}, or an import path as ./mine.py:Mine")
        return name

    def is_part(self, name: str) -> bool:
        """Whether a name is that of a shipped part, or an import path."""
        return name in BUILTIN[self.kind] or is_foreign(name)


def load_part(kind: Kind, name: str, options: Mapping[str, Any] | None = None) -> Any:
    """A part with its options.

    Raises:
        ConfigError: as `load_class`, or if the part has no such options.
    """
    from dsaccel.config.toml import parse_config

    return parse_config(load_class(kind, name), dict(options or {}), f"{kind} {name}")


def load_class(kind: Kind, name: str) -> type[Any]:
    """The class of a part, imported and checked.

    Raises:
        ConfigError: if there is no such part, if it is not trusted or cannot be imported, if it is
            of another kind or leaves out what its kind must define.
    """
    path = BUILTIN[kind].get(name)
    if path is None:
        try:
            NamesPart(kind).check(name)
        except ValueError as error:
            raise ConfigError(f"{kind} {error}, but got {name!r}") from None
        _refuse_untrusted(kind, name)
    base, part = import_attribute(KINDS[kind]), _imported(kind, path or name)
    if not (isinstance(part, type) and issubclass(part, base)):
        expected = KINDS[kind].replace(":", ".")
        raise ConfigError(f"{kind} {name} must be a class derived from {expected}, but is {part!r}")
    if missing := getattr(part, "__abstractmethods__", ()):
        raise ConfigError(f"{kind} {name} must define {', '.join(sorted(missing))}, but does not")
    return part


def part_of(section: "BaseModel", kind: Kind, name: str | None = None) -> Any:
    """The part that a section of a config names, with its options: those of a table of their own,
    and those that the section has itself.

    Args:
        section: of the config.
        kind: what the part is, as the section names it.
        name: of the part, where it stands elsewhere in the config.

    Raises:
        ConfigError: as `load_part`.
    """
    chosen: str = name or getattr(section, kind)
    table = {"lr_schedule": "lr_options", "pruner": "options"}.get(kind, f"{kind}_options")
    part, options = load_class(kind, chosen), dict(getattr(section, table))
    for option in sorted(part.model_fields.keys() & type(section).model_fields.keys()):
        if option in options:
            raise ConfigError(f"{table}.{option} must be left out: it is {option}, beside {kind}")
        options[option] = getattr(section, option)
    key = (part, repr(options))
    if key not in _parts:
        _parts[key] = load_part(kind, chosen, options)
    return _parts[key]


def part_ref(kind: Kind, name: str) -> PartRef:
    """The reference by which a study records a part.

    Raises:
        ConfigError: as `load_class`.
    """
    if name in BUILTIN[kind]:
        return PartRef(kind, name, None)
    part = load_class(kind, name)
    module = sys.modules.get(part.__module__)
    file = getattr(module, "__file__", None)
    # a class of a notebook has no file
    source = Path(file).read_bytes() if file else inspect.getsource(part).encode()
    return PartRef(kind, name, hashlib.sha256(source).hexdigest())


def named_parts(config: "BaseModel") -> Iterator[tuple[Kind, str]]:
    """The parts that a config names, in the order of its fields; nothing is imported."""
    kinds: dict[str, Kind] = {kind: kind for kind in KINDS}
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        marks = [mark for mark in field.metadata if isinstance(mark, NamesPart)]
        kind = kinds.get(name)
        if kind and getattr(value, "choices", None):  # it is searched
            for choice in value.choices:
                yield kind, choice
        elif hasattr(type(value), "model_fields"):
            yield from named_parts(value)
        elif marks and value is not None and marks[0].is_part(value):
            yield marks[0].kind, value


def foreign_parts(config: "BaseModel") -> list[PartRef]:
    """The parts of a config that are not shipped, as a study records them; not who trains, which
    decides no result.

    Raises:
        ConfigError: as `load_class`.
    """
    named = dict.fromkeys(named_parts(config))
    return [part_ref(kind, name) for kind, name in named if is_foreign(name) and kind != "executor"]


def refuse_changed(recorded: Iterable[PartRef], now: Iterable[PartRef]) -> None:
    """Refuse to go on with parts that have changed since they were recorded.

    Raises:
        MismatchError: if a part's file is another one.
    """
    current = {(part.kind, part.name): part.sha256 for part in now}
    for part in recorded:
        if current.get((part.kind, part.name), part.sha256) != part.sha256:
            raise MismatchError(
                f"{part.kind} {part.name} has changed since the study began; restore its file, or "
                f"begin a new study"
            )


def _refuse_untrusted(kind: Kind, name: str) -> None:
    if name not in trusted():
        raise ConfigError(
            f"{kind} {name} is code that you have not named yourself; if you trust it, allow its "
            f"import with --trust-part {name}"
        )


def _imported(kind: Kind, path: str) -> Any:
    try:
        return import_attribute(path)
    except Exception as error:  # whatever a user's file raises
        raise ConfigError(
            f"{kind} {path} must be importable, but: {type(error).__name__}: {error}"
        ) from error
