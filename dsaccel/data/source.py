"""What a source of images is, and the one that a study names.

A source is `digits` (scikit-learn's), the name of a torchvision data set, or a folder with
`train/<class>/`; in Python also arrays, tensors or a torch `Dataset` (`ArraySource`). Nothing here
is random, and the test split is read only for who asks for it.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dsaccel.config.study import DataConfig
from dsaccel.data.arrays import as_images
from dsaccel.data.images import Images, Split, convert
from dsaccel.errors import ConfigError
from dsaccel.imports import is_foreign
from dsaccel.parts import BUILTIN, load_class

IN_MEMORY = "arrays"
"""What a study calls images that it was given in Python."""


class DataSource(ABC):
    """Images with labels. A source of one's own says at least how a split is read."""

    name: str = IN_MEMORY
    """How messages and the study's settings call it."""
    default_flip: bool = True
    """Whether a mirrored image keeps its class, so that training may flip it."""

    @abstractmethod
    def read(self, split: Split) -> Images | None:
        """The images of a split, in the same order each time; None: there is no such split.

        There must be `train`. Without `val` some of the training images are held out.
        """

    def has(self, split: Split) -> bool:
        """Whether there is a split; a source that reads slowly says it without reading."""
        return self.read(split) is not None

    def notes(self) -> Sequence[str]:
        """What to know of the images, a line each: how many, what was passed over, copies."""
        return ()


def open_source(config: DataConfig, *, download: bool = False) -> DataSource:
    """The source that the settings name.

    Raises:
        ConfigError: if there is none of that name.
    """
    name = config.name
    if name in BUILTIN["data"]:
        shipped: Any = load_class("data", name)
        return shipped(config, download=download)
    if _folder(name) is not None:
        from dsaccel.data.sources.folder import Folder

        return Folder(config)
    if is_foreign(name):
        own: Any = load_class("data", name)
        source: DataSource = own()
        source.name = name
        return source
    if name == IN_MEMORY:
        raise ConfigError(f"data {name!r} were in memory: go on in Python, with the same")
    raise ConfigError(
        f"data must be one of {', '.join(BUILTIN['data'])}, or a folder with train/<class>/, "
        f"but got {name!r}, and there is no such folder; if it was moved, say where it lies with "
        f"--data (of a study that was run: once, to dsaccel search)"
    )


def whole_paths(config: DataConfig) -> DataConfig:
    """The settings for a process whose working directory is another one."""
    name, place = _folder(config.name), config.dir
    whole = {
        "name": str(name.resolve()) if name is not None else config.name,
        "dir": str(Path(place).expanduser().resolve()) if place else place,
    }
    return config.model_copy(update=whole)


def _folder(name: str) -> Path | None:
    """The folder of that name, unless it means something else."""
    folder = Path(name).expanduser()
    # no name would be the working directory
    return folder if name and name not in BUILTIN["data"] and folder.is_dir() else None


def read_images(source: DataSource, split: Split, config: DataConfig) -> Images | None:
    """The images of a split, checked, in the size and channels that the settings ask for (None: as
    the source has them).

    Raises:
        ConfigError: if they are missing, damaged or no such images.
    """
    found = source.read(split)
    if found is None:
        return None
    stored = as_images(found.images, found.labels, found.class_names, f"{split} of {source.name}")
    _, side, _, channels = stored.images.shape
    images = convert(stored.images, config.image_size or side, config.channels or channels)
    return Images(images, stored.labels, stored.class_names)
