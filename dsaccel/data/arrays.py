"""Arrays and tensors as images: checked, and made uint8 (N, H, W, C) with int64 labels."""

# N images, H = W side, C channels, K classes

from collections.abc import Sequence
from typing import Any

import numpy as np

from dsaccel.data.images import Images
from dsaccel.errors import ConfigError

SMALLEST_SIDE = 4


def as_images(
    x: Any, y: Any, class_names: Sequence[str] | None = None, name: str = "images"
) -> Images:
    """Check images and labels and bring them into the form in which they are kept.

    Args:
        x: (N, H, W), (N, H, W, C) or (N, C, H, W) with H = W and C of 1 or 3; whole numbers within
            0..255, or floats within 0..1, which are rounded to 256 levels.
        y: (N,) whole numbers within 0..K-1.
        class_names: K names; None: the numbers.
        name: what messages call them.

    Raises:
        ConfigError: with the shape or type or range, and what is expected.
    """
    pixels_NHWC = _pixels(_array(x), name)
    labels_N = _labels(_array(y), len(pixels_NHWC), class_names, name)
    if class_names is None:
        class_names = tuple(map(str, range(int(labels_N.max()) + 1)))
    return Images(pixels_NHWC, labels_N, tuple(class_names))


def _array(values: Any) -> np.ndarray:
    """A numpy array of a tensor (on any device, with a gradient or without), an array or a list."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        if not values.dtype.is_complex and values.dtype.is_floating_point:
            values = values.float()  # numpy has no bfloat16
    try:
        return np.asarray(values)
    except ValueError as error:  # of lists of unequal length
        raise ConfigError(f"images and labels must be arrays, but: {error}") from None


def _pixels(x: np.ndarray, name: str) -> np.ndarray:
    shaped = x[..., None] if x.ndim == 3 else x
    if shaped.ndim == 4 and shaped.shape[3] not in (1, 3) and shaped.shape[1] in (1, 3):
        shaped = shaped.transpose(0, 2, 3, 1)
    is_shaped = shaped.ndim == 4 and shaped.shape[3] in (1, 3)
    if not is_shaped or shaped.shape[1] != shaped.shape[2] or shaped.shape[1] < SMALLEST_SIDE:
        raise ConfigError(
            f"{name} must be an array of shape (N, H, W), (N, H, W, C) or (N, C, H, W) with C of 1 "
            f"or 3 and H = W of at least {SMALLEST_SIDE}, but got the shape {x.shape}"
        )
    if not len(shaped):
        raise ConfigError(f"{name} must hold at least one image, but got the shape {x.shape}")
    if x.dtype == np.uint8:
        return np.ascontiguousarray(shaped)
    if x.dtype.kind not in "fiu":
        raise ConfigError(
            f"{name} must be whole numbers within 0..255 or floats within 0..1, but got an array "
            f"of type {x.dtype}"
        )
    highest, kind = (1, "floats") if x.dtype.kind == "f" else (255, "whole numbers")
    low, high = float(x.min()), float(x.max())
    if not (low >= 0 and high <= highest):  # so that NaN is refused, too
        raise ConfigError(
            f"{name} must be within 0..{highest} if they are {kind}, but go from {low:g} to "
            f"{high:g}: scale them, or give uint8"
        )
    if x.dtype.kind == "f":
        shaped = np.rint(shaped * 255)
    return np.ascontiguousarray(shaped.astype(np.uint8))


def _labels(y: np.ndarray, num: int, class_names: Sequence[str] | None, name: str) -> np.ndarray:
    if y.shape != (num,):
        hint = "; of one-hot labels take argmax(1)" if y.ndim == 2 else ""
        raise ConfigError(
            f"the labels of {name} must have the shape ({num},), a label an image, but got "
            f"{y.shape}{hint}"
        )
    if y.dtype.kind not in "iu":
        raise ConfigError(
            f"the labels of {name} must be whole numbers, but got an array of type {y.dtype}"
        )
    low, high = int(y.min()), int(y.max())
    if low < 0 or (class_names is not None and high >= len(class_names)):
        most = "" if class_names is None else len(class_names) - 1
        raise ConfigError(
            f"the labels of {name} must be within 0..{most}, but go from {low} to {high}"
        )
    return y.astype(np.int64)
