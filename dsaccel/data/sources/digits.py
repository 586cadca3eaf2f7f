"""scikit-learn's handwritten digits: 1,797 grey images of 8x8 pixels, always at hand."""

from functools import cache

import numpy as np

from dsaccel.config.study import DataConfig
from dsaccel.data.images import Images, Split
from dsaccel.data.source import DataSource


class Digits(DataSource):
    name = "digits"
    default_flip = False

    def __init__(self, config: DataConfig, *, download: bool = False) -> None:
        pass

    def read(self, split: Split) -> Images | None:
        """Four fifths to train on; the same test images for every seed of every study."""
        if split == "val":
            return None
        from sklearn.model_selection import train_test_split

        pixels, labels = _load()
        train, test = train_test_split(
            np.arange(len(labels)), test_size=0.2, stratify=labels, random_state=0
        )
        chosen = np.sort(train if split == "train" else test)
        images = np.rint(pixels[chosen] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
        return Images(images, labels[chosen].astype(np.int64), tuple("0123456789"))


@cache
def _load() -> tuple[np.ndarray, np.ndarray]:
    """All images, (1797, 64) in 0..16, and labels; reading them takes as long as a small epoch."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    return pixels, labels
