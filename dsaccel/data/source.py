"""What a source of images is, and the one that a study names.

A source is `digits` (scikit-learn's), the name of a torchvision data set, or a folder with
`train/<class>/`; in Python also arrays, tensors or a torch `Dataset` (`ArraySource`). Nothing here
is random, and the test split is read only for who asks for it.
"""

import importlib
from collections.abc import Sequence
from pathlib import Path

from dsaccel.config.study import DataConfig
from dsaccel.data.arrays import as_images
from dsaccel.data.images import Images, Split, convert
from dsaccel.errors import ConfigError

_TORCHVISION = "dsaccel.data.sources.torchvision:Torchvision"
BUILTIN = {
    "digits": "dsaccel.data.sources.digits:Digits",
    **dict.fromkeys(
        ("cifar10", "cifar100", "fashion-mnist", "kmnist", "mnist", "stl10", "svhn"), _TORCHVISION
    ),
}
"""Every source with a name; what else is named is a folder."""

IN_MEMORY = "arrays"
"""What a study calls images that it was given in Python."""


class DataSource:
    """Images with labels. A source of one's own says at least how a split is read."""

    name: str = IN_MEMORY
    """How messages and the study's settings call it."""
    default_flip: bool = True
    """Whether a mirrored image keeps its class, so that training may flip it."""

    def read(self, split: Split) -> Images | None:
        """The images of a split, in the same order each time; None: there is no such split.

        There must be `train`. Without `val` some of the training images are held out.
        """
        raise NotImplementedError

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
    place = BUILTIN.get(config.name)
    if place is None and not (config.name and Path(config.name).expanduser().is_dir()):
        if config.name == IN_MEMORY:
            raise ConfigError(f"data {IN_MEMORY!r} were in memory: go on in Python, with the same")
        # no name at all would be the path of the working directory
        raise ConfigError(
            f"data must be one of {', '.join(BUILTIN)}, or a folder with train/<class>/, "
            f"but got {config.name!r}, and there is no such folder; if it was moved, say where it "
            f"lies with --data (of a study that was run: once, to dsaccel search)"
        )
    module, _, kind = (place or "dsaccel.data.sources.folder:Folder").partition(":")
    return getattr(importlib.import_module(module), kind)(config, download=download)


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
