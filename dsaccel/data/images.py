"""Images in memory: uint8, square, in a wanted size and number of channels."""

# N images, H = W side, C channels

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps

Split = Literal["train", "val", "test"]

CONVERSION_VERSION = 1  # to be raised whenever `to_square` gives other pixels


@dataclass(frozen=True, eq=False)
class Images:
    images: np.ndarray
    """(N, H, W, C) uint8, square."""
    labels: np.ndarray
    """(N,) int64, indices into `class_names`."""
    class_names: tuple[str, ...]


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
