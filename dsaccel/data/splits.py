"""Which images are trained on and which are held out: seeded, and each class in proportion."""

import numpy as np
import torch

from dsaccel.config.study import DataConfig
from dsaccel.data.images import Images
from dsaccel.errors import ConfigError
from dsaccel.seeds import derive


def split_off_validation(config: DataConfig, images: Images, seed: int) -> tuple[Images, Images]:
    """The training and the validation images, each in the order they had."""
    num, num_classes = len(images.labels), len(images.class_names)
    counts = np.bincount(images.labels, minlength=num_classes)
    for name, count in zip(images.class_names, counts, strict=True):
        if count < 2:
            raise ConfigError(
                f"class {name!r} of {config.name} must have at least 2 training images, one to "
                f"train on and one to validate on, but has {count}: add images or remove the class"
            )
    num_val = min(max(round(config.val_fraction * num), num_classes), num - num_classes)
    is_val = _stratified(images.labels, num_val, derive(seed, "split"), spare=1)
    return images[~is_val], images[is_val]


def subset(config: DataConfig, train: Images, seed: int) -> Images:
    """As many of the training images as the settings ask for."""
    if (wanted := config.train_images) is None:
        return train
    num, num_classes = len(train.labels), len(train.class_names)
    if not num_classes <= wanted <= num:
        raise ConfigError(
            f"data.train_images must be within {num_classes}..{num} (one a class, all "
            f"that the validation split leaves), but got {wanted}"
        )
    return train[_stratified(train.labels, wanted, derive(seed, "subset"), spare=0)]


def _stratified(labels: np.ndarray, num: int, seed: int, *, spare: int) -> np.ndarray:
    """Choose `num` images at random, each class in proportion, as a mask.

    Each class gives at least one image and keeps at least `spare`.
    """
    counts = np.bincount(labels)
    shares = counts * (num / len(labels))
    takes = np.clip(np.floor(shares).astype(int), 1, counts - spare)
    while (missing := num - takes.sum()) != 0:  # the largest remainders get the rest
        step = np.sign(missing)
        possible = takes < counts - spare if step > 0 else takes > 1
        takes[np.argmax(np.where(possible, step * (shares - takes), -np.inf))] += step
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed)).numpy()
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    rank = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    mask = np.zeros(len(labels), bool)
    mask[by_class[rank < np.repeat(takes, counts)]] = True
    return mask
