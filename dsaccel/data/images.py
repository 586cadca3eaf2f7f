"""Images in memory: uint8, square, in a wanted size and number of channels."""

# N images, H = W side, C channels

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps

from dsaccel.errors import ConfigError

Split = Literal["train", "val", "test"]

CONVERSION_VERSION = 1  # to be raised whenever `to_square` gives other pixels


@dataclass(frozen=True, eq=False)
class Images:
    images: np.ndarray
    """(N, H, W, C) uint8, square."""
    labels: np.ndarray
    """(N,) int64, indices into `class_names`."""
    class_names: tuple[str, ...]

    def __getitem__(self, mask: np.ndarray) -> "Images":
        """Those that a mask or indices (N,) choose."""
        return Images(self.images[mask], self.labels[mask], self.class_names)


def fingerprint(*parts: Images) -> str:
    """A hash of images and labels."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        for array in (part.images, part.labels):
            digest.update(repr((array.shape, array.dtype.str)).encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def check_same_classes(
    name: object, split: str, train: tuple[str, ...], other: tuple[str, ...]
) -> None:
    """Refuse a split of other classes than the training images."""
    if train != other:
        only_other, only_train = sorted({*other} - {*train}), sorted({*train} - {*other})
        raise ConfigError(
            f"train and {split} of {name} must have the same classes, but only in {split}: "
            f"{', '.join(only_other) or 'none'}; only in train: {', '.join(only_train) or 'none'}"
        )


def cache_dir() -> Path:
    """The folder for decoded images and downloads: DSACCEL_CACHE, or the user's cache folder."""
    import platformdirs

    return Path(os.environ.get("DSACCEL_CACHE") or platformdirs.user_cache_dir("dsaccel"))


def convert(images: np.ndarray, side: int, channels: int) -> np.ndarray:
    """Images in memory (N, H, W, C) in another size or number of channels."""
    if images.shape[1:] == (side, side, channels):
        return images
    squares = (
        Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image) for image in images
    )
    return np.stack([to_square(image, side, channels) for image in squares])


def to_square(image: Image.Image, side: int, channels: int) -> np.ndarray:
    """An image of any mode as (H, W, C) uint8: the largest central square, scaled."""
    if image.mode == "F":
        raise ValueError("the range of floating-point pixels is unknown")
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip to 255
        grey = np.asarray(image).astype(np.int64).clip(0, 65535)
        image = Image.fromarray(((grey + 128) // 257).astype(np.uint8))
    if image.has_transparency_data:  # on white, as viewers show it
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB")
    if channels == 1:
        image = image.convert("L")
    pixels = np.asarray(ImageOps.fit(image, (side, side)))
    return pixels.reshape(side, side, channels)
