"""What a trained network says of each image of a split."""

# N images, K classes

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from dsaccel.config.study import RunConfig
from dsaccel.files import write_text
from dsaccel.nn.network import load_network
from dsaccel.training.evaluate import split_images
from dsaccel.training.predict import probabilities


@dataclass(frozen=True, eq=False)
class Predictions:
    """In the order in which the split is read: class by class, files by name."""

    class_names: tuple[str, ...]
    labels: Tensor
    """(N,)"""
    probabilities: Tensor
    """(N, K)"""

    @property
    def predicted(self) -> Tensor:
        """(N,)"""
        return self.probabilities.argmax(dim=1)

    @property
    def confusion(self) -> Tensor:
        """How many images of each class (rows) were taken for each class, (K, K)."""
        num = len(self.class_names)
        pairs = self.labels * num + self.predicted
        return torch.bincount(pairs, minlength=num * num).reshape(num, num)

    @property
    def per_class(self) -> dict[str, dict[str, float]]:
        """Images, recall (0..1: of the images of a class, those taken for it) and precision."""
        right, rows = self.confusion.diag(), self.confusion.sum(dim=1)
        columns = self.confusion.sum(dim=0)
        return {
            name: {
                "images": int(rows[k]),
                "recall": float(right[k] / rows[k].clamp(min=1)),
                "precision": float(right[k] / columns[k].clamp(min=1)),
            }
            for k, name in enumerate(self.class_names)
        }

    def write(self, path: Path) -> None:
        """A CSV with a line an image: its class, the one it is taken for, all probabilities."""
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(("image", "class", "predicted", *self.class_names))
        names, values = self.class_names, self.probabilities.tolist()
        of_images = zip(self.labels.tolist(), self.predicted.tolist(), values, strict=True)
        for number, (label, predicted, shares) in enumerate(of_images):
            shown = (f"{share:.6f}" for share in shares)
            table.writerow((number, names[label], names[predicted], *shown))
        write_text(path, text.getvalue())


def read_predictions(
    path: Path, run: RunConfig, split: Literal["val", "test"], *, download: bool = False
) -> Predictions:
    """Predict a split with weights; this reading is not recorded, see `read_accuracy`.

    Raises:
        ConfigError: as `read_accuracy`.
    """
    network = load_network(path)
    images: Any = split_images(path, run, split, torch.device("cpu"), download=download)
    pixels_NCHW = images.pixels.permute(0, 3, 1, 2)
    shares = probabilities(network, pixels_NCHW)
    return Predictions(network.class_names, images.labels, shares)
