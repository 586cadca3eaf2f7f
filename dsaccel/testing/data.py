"""The contract of data sources."""

from typing import get_args

import numpy as np

from dsaccel.config.study import DataConfig
from dsaccel.data.images import Split
from dsaccel.data.source import DataSource, read_images


def check_source(source: DataSource) -> None:
    """It has images to train on, reads the same ones each time, and keeps splits apart.

    Raises:
        ConfigError: if what it reads are no images with labels.
    """
    config = DataConfig(name=source.name)
    splits = {split: read_images(source, split, config) for split in get_args(Split)}
    train = splits["train"]
    assert train is not None, "a source must have images to train on"
    for split, images in splits.items():
        assert source.has(split) == (images is not None), f"has({split!r}) must tell what is read"
        if images is None:
            continue
        again = read_images(source, split, config)
        assert again is not None
        for name in ("images", "labels"):
            equal = np.array_equal(getattr(images, name), getattr(again, name))
            assert equal, f"{name} of {split} must be the same, in the same order, each time"
        assert images.class_names == train.class_names, f"{split} must have the classes of train"
        assert images.images.shape[1:] == train.images.shape[1:], f"{split} must be of train's size"
