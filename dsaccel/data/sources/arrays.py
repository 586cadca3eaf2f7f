"""Images that are in memory: numpy arrays, tensors, or the items of a torch `Dataset`.

A file can carry the images of any source to processes that cannot read it themselves.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np

from dsaccel.data.arrays import as_images
from dsaccel.data.images import Images, Split
from dsaccel.data.source import DataSource
from dsaccel.errors import ConfigError
from dsaccel.files import atomic_write


class ArraySource(DataSource):
    """Arrays or tensors, as `dsaccel.data.arrays.as_images` takes them.

    ArraySource(x, y, test=(x_test, y_test))
    ArraySource.of_dataset(train_dataset, test=test_dataset)
    """

    def __init__(
        self,
        x: Any,
        y: Any,
        *,
        val: tuple[Any, Any] | None = None,
        test: tuple[Any, Any] | None = None,
        class_names: Sequence[str] | None = None,
        flip: bool = True,
    ) -> None:
        """Check everything at once.

        Args:
            x: training images.
            y: their labels.
            val: images and labels to validate on; None: some training images are held out.
            test: images and labels that `confirm` and `evaluate` read; None: there are none.
            class_names: in the order of the labels; None: the labels.
            flip: whether a mirrored image keeps its class.

        Raises:
            ConfigError: a wrong shape, type or range, or a label out of range.
        """
        self.default_flip = flip
        train = as_images(x, y, class_names, "the training images")
        self._images: dict[Split, Images] = {"train": train}
        others: tuple[tuple[Split, Any], ...] = (("val", val), ("test", test))
        for split, pair in others:
            if pair is not None:
                self._images[split] = as_images(*pair, train.class_names, f"the {split} images")

    @classmethod
    def of_dataset(
        cls, train: Any, *, val: Any = None, test: Any = None, flip: bool = True
    ) -> "ArraySource":
        """The items `(image, label)` of torch data sets, each read once.

        An image is a PIL image, an array or a tensor; random transforms must not be among the data
        set's, because training augments by itself (`[data]`: crop, flip, cutout).
        """
        val, test = (None if items is None else _stacked(items) for items in (val, test))
        names = getattr(train, "classes", None)
        return cls(*_stacked(train), val=val, test=test, class_names=names, flip=flip)

    def read(self, split: Split) -> Images | None:
        """The images as they were given."""
        return self._images.get(split)


class Carried(DataSource):
    """The images of another source, each split read when it is asked for, from the file that
    `carry` has written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with np.load(path, allow_pickle=False) as arrays:
            about = json.loads(str(arrays["about"]))
        self.name, self.default_flip = about["name"], about["flip"]
        self._classes: dict[Split, list[str]] = about["classes"]

    def has(self, split: Split) -> bool:
        return split in self._classes

    def read(self, split: Split) -> Images | None:
        if not self.has(split):
            return None
        with np.load(self._path, allow_pickle=False) as arrays:
            images, labels = arrays[f"{split}.images"], arrays[f"{split}.labels"]
        return Images(images, labels, tuple(self._classes[split]))


def carry(source: DataSource, path: Path, at_most: int | None = None) -> Path | None:
    """Write all images of a source to one file; None: they are more than so many bytes."""
    arrays: dict[str, Any] = {}
    classes: dict[Split, Sequence[str]] = {}
    num_bytes = 0
    for split in get_args(Split):
        if (found := source.read(split)) is None:
            continue
        num_bytes += found.images.nbytes
        if at_most is not None and num_bytes > at_most:
            return None
        arrays |= {f"{split}.images": found.images, f"{split}.labels": found.labels}
        classes[split] = found.class_names
    about = {"name": source.name, "flip": source.default_flip, "classes": classes}
    arrays["about"] = np.array(json.dumps(about))
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)
    return path


def _stacked(items: Any) -> tuple[np.ndarray, np.ndarray]:
    """The images and the labels of a data set, an array each."""
    if not len(items):
        raise ConfigError("a data set must hold at least one image, but got an empty one")
    images, labels = [], []
    for index in range(len(items)):  # a map-style data set need not end an iteration by itself
        image, label = items[index]
        images.append(np.asarray(image))
        labels.append(int(label))
        if images[-1].shape != images[0].shape:
            raise ConfigError(
                f"the images of a data set must have one shape, but image 0 has {images[0].shape} "
                f"and image {index} has {images[-1].shape}: add a transform that resizes them"
            )
    return np.stack(images), np.array(labels)
