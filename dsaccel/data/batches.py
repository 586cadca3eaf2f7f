"""Images, and the batches made of them on the device.

Images stay uint8, on the device or, where they take too much of it, in host memory; crop, flip,
cutout and normalisation are one gather and a few tensor operations a batch. The order and the
augmentation of an epoch are drawn on the CPU from seeds of their own, so that they depend on the
seed and the epoch alone, not on the device or on what else is trained.
"""

# N images, B batch, C channels, H = W side, P padded side

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dsaccel.config.study import DataConfig
from dsaccel.data.ahead import on_device
from dsaccel.data.source import DataSource
from dsaccel.seeds import derive
from dsaccel.ticks import counted

EVAL_BATCH_SIZE = 512
"""The most images at a time. On a CPU it is no more than a training step's, so that evaluation
needs less memory than training."""


@dataclass(frozen=True, eq=False)
class EvalSplit:
    """Images that are looked at as they are, in a fixed order."""

    pixels: Tensor
    """(N, H, W, C) uint8, on the device or in host memory."""
    labels: Tensor
    """(N,) int64, where the pixels are."""
    mean: Tensor
    std: Tensor
    """(C,) float32, of pixels within 0..255, on the device."""
    fingerprint: str
    """Hash of these images and labels."""
    batch_size: int = EVAL_BATCH_SIZE

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """All images: x (B, C, H, W) float32 and y (B,) int64; the last batch may be smaller."""
        pixels_and_labels = self.pixels.split(self.batch_size), self.labels.split(self.batch_size)
        batches = zip(*pixels_and_labels, strict=True)
        for pixels_BHWC, y_B in on_device(batches, self.mean.device):
            yield _normalise(pixels_BHWC, self.mean, self.std), y_B

    def spread(self, num_images: int) -> "EvalSplit":
        """About so many of the images, evenly over the split, which may be in the order of the
        classes; all, if it has fewer.
        """
        every = max(1, len(self.labels) // num_images)
        some = slice(None, every * num_images, every)
        return replace(self, pixels=self.pixels[some], labels=self.labels[some], fingerprint="")


@dataclass(frozen=True, eq=False)
class Data:
    """Training and validation images of a study, on the device."""

    source: DataSource
    """The source of the images, and of the test images."""
    resolved: DataConfig
    """The settings with every default filled in."""
    class_names: tuple[str, ...]
    notes: tuple[str, ...]
    """What to know of the images, a line each: how many, what was passed over, equal files."""
    has_test: bool
    val_is_given: bool
    """Whether the validation images are a folder's `val/`, the same for every seed; otherwise each
    seed holds out its own."""
    fingerprint: str
    """Hash of the training and of the validation images and labels."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    """Standard deviation of each channel of the training images, with pixels within 0..1."""
    seed: int
    batch_size: int
    """Images a training step: those asked for, or all training images if they are fewer."""
    train_pixels: Tensor
    """(N, P, P, C) uint8, padded with black for the crops, on the device or in host memory."""
    train_labels: Tensor
    """(N,) int64, where the pixels are."""
    val: EvalSplit

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def channels(self) -> int:
        return self.train_pixels.shape[-1]

    @property
    def side(self) -> int:
        return self.val.pixels.shape[1]

    @property
    def device(self) -> torch.device:
        """Where the batches are."""
        return self.val.mean.device

    @property
    def num_train(self) -> int:
        return len(self.train_labels)

    @property
    def num_val(self) -> int:
        return len(self.val.labels)

    @property
    def num_steps(self) -> int:
        """Training batches an epoch; a last partial batch is dropped."""
        return self.num_train // self.batch_size

    def train_as_they_are(self) -> EvalSplit:
        """The training images without crops, flips and cutouts, in their order."""
        padding = self.resolved.crop_padding or 0
        inside = slice(padding, padding + self.side)
        pixels_NHWC = self.train_pixels[:, inside, inside]
        return replace(self.val, pixels=pixels_NHWC, labels=self.train_labels, fingerprint="")

    def train_batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The augmented batches of an epoch: x (B, C, H, W) float32 and y (B,) int64."""
        num_used = self.num_steps * self.batch_size
        orderly, augmenting = (
            torch.Generator().manual_seed(derive(self.seed, purpose, epoch))
            for purpose in ("order", "augment")
        )
        order_N = torch.randperm(self.num_train, generator=orderly)[:num_used]
        # all are drawn, used or not, and cutout last: switching one leaves the others as they were
        highest = (2 * (self.resolved.crop_padding or 0) + 1,) * 2 + (2,) + (self.side,) * 2
        draws = [order_N, *(torch.randint(h, (num_used,), generator=augmenting) for h in highest)]
        per_batch = (draw.to(self.train_pixels.device).split(self.batch_size) for draw in draws)
        batches = (
            (self._crop(index_B, *where), self.train_labels[index_B], y_B, x_B)
            for index_B, *where, y_B, x_B in zip(*per_batch, strict=True)
        )
        placed = counted(on_device(batches, self.device), "batches", self.num_steps)
        for pixels_BHWC, labels_B, y_B, x_B in placed:
            yield self._finish(pixels_BHWC, y_B, x_B), labels_B

    def seen_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """As many of the training images as there are validation images, as they are."""
        return self.train_as_they_are().spread(self.num_val).batches()

    def val_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The validation images, as `EvalSplit.batches`."""
        return self.val.batches()

    def _crop(self, index_B: Tensor, top_B: Tensor, left_B: Tensor, flip_B: Tensor) -> Tensor:
        """Crop and flip: one gather for the batch."""
        along_H = torch.arange(self.side, device=index_B.device)
        row_BH = top_B[:, None] + along_H
        column_BW = left_B[:, None] + along_H
        if self.resolved.flip:
            column_BW = torch.where(flip_B[:, None] == 1, column_BW.flip(1), column_BW)
        # pixels as rows of a matrix: index_select takes a quarter of the time of three indices
        padded_side = self.train_pixels.shape[1]
        first_BH = (index_B[:, None] * padded_side + row_BH) * padded_side
        at_BHW = first_BH[:, :, None] + column_BW[:, None, :]
        pixels_BHWC = self.train_pixels.flatten(0, 2).index_select(0, at_BHW.flatten())
        return pixels_BHWC.unflatten(0, at_BHW.shape)

    def _finish(self, pixels_BHWC: Tensor, y_B: Tensor, x_B: Tensor) -> Tensor:
        """Normalise, and cut out a square around (y, x)."""
        batch_BCHW = _normalise(pixels_BHWC, self.val.mean, self.val.std)
        if length := self.resolved.cutout:
            along_H = torch.arange(self.side, device=y_B.device)
            y_BH, x_BW = along_H - y_B[:, None] + length // 2, along_H - x_B[:, None] + length // 2
            in_row_BH, in_column_BW = (at.ge(0) & at.lt(length) for at in (y_BH, x_BW))
            # zero is the mean; in place, because it keeps the memory format
            batch_BCHW.masked_fill_((in_row_BH[:, :, None] & in_column_BW[:, None, :])[:, None], 0)
        return batch_BCHW


def _normalise(pixels_BHWC: Tensor, mean_C: Tensor, std_C: Tensor) -> Tensor:
    """uint8 images as float32 (B, C, H, W), channels-last in memory."""
    return pixels_BHWC.float().sub_(mean_C).div_(std_C).permute(0, 3, 1, 2)
