"""What is kept of a network that was trained: files, named by all that decides it."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsaccel.config.section import Section
from dsaccel.config.study import RunConfig
from dsaccel.paper.rows import Way
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.rung import Point

LATER = frozenset({"output_loss", "cuts", "compile"})
"""Settings that came after the first networks were named: at their defaults they change no name. A
test knows a name, and fails where one is missing here."""


@dataclass(frozen=True)
class Trained:
    """The results of a network."""

    heads: list[str]
    """Their names in order of depth, the output layer's last."""
    accuracies: list[list[float]]
    """Epochs x heads, 0..1, on the images that the protocol says."""
    num_images: int
    """The number of images behind an accuracy."""
    time_s: float
    """Its share of the training time of its cohort."""
    points: Sequence[Sequence[Any]] = ()
    """The points of its curves, as `Point.values`; none: it is older than their recording."""

    @property
    def accuracy(self) -> float:
        """The output layer's accuracy after the last epoch."""
        return self.accuracies[-1][-1]

    @property
    def curve(self) -> list[Point]:
        return [Point(*values) for values in self.points]

    @property
    def errors(self) -> list[float]:
        """The output layer's error after each epoch."""
        return [1 - heads[-1] for heads in self.accuracies]


def file_name(config: RunConfig, hierarchy: Hierarchy, way: Way, images: tuple[str, str]) -> str:
    """The file name of a network: equal for rows that train the same one.

    Args:
        config: its settings.
        hierarchy: in place of the config's.
        way: how it is trained.
        images: the protocol, and a hash of what is trained on and read.
    """
    others = map(repr, (config.data.train_images, *images, config.runtime.threads))
    decides = ", ".join((_told(config.network), _told(config.training.deciding), *others))
    key = hashlib.sha256(f"({decides})".encode()).hexdigest()[:12]
    return f"{config.family}-{hierarchy}-{way}-seed{config.seed}-{key}.json"


def _told(section: Section) -> str:
    """The settings of a section; those of `LATER` are told where they are set."""
    fields = type(section).model_fields
    told = (
        f"{name}={value!r}"
        for name, value in section
        if name not in LATER or value != fields[name].default
    )
    return f"{type(section).__name__}({', '.join(told)})"


def layers_path(path: Path, epoch: int) -> Path:
    """The file, beside a network's, of what was measured of its layers after an epoch."""
    return path.with_name(f"{path.stem}-epoch{epoch}.measured")


def hybrids_path(path: Path) -> Path:
    return path.with_name(f"{path.stem}.hybrids")
