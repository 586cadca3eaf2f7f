"""Training images on the device, and the batches made of them there.

Images stay uint8 on the device; crop, flip, cutout and normalisation are one gather and a few
tensor operations a batch. The order and the augmentation of an epoch are drawn on the CPU from
seeds of their own, so that they depend on the seed and the epoch alone, not on the device or on
what else is trained. The test split is read by `load_test` and nothing else.
"""

# N images, B batch, C channels, H = W side, P padded side

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dsaccel.config.study import DataConfig
from dsaccel.data.datasets import default_flip, has_test, read_test, read_train, read_val
from dsaccel.data.images import Images
from dsaccel.errors import ConfigError
from dsaccel.seeds import derive

EVAL_BATCH_SIZE = 512
"""At most; no more than a training step's, so that evaluation needs less memory than training."""


@dataclass(frozen=True, eq=False)
class EvalSplit:
    """Images that are looked at as they are, in a fixed order."""

    pixels: Tensor
    """(N, H, W, C) uint8, on the device."""
    labels: Tensor
    """(N,) int64, on the device."""
    mean: Tensor
    std: Tensor
    """(C,) float32, of pixels within 0..255."""
    fingerprint: str
    """Hash of these images and labels."""
    batch_size: int = EVAL_BATCH_SIZE

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """All images: x (B, C, H, W) float32 and y (B,) int64; the last batch may be smaller."""
        pixels_and_labels = self.pixels.split(self.batch_size), self.labels.split(self.batch_size)
        for pixels_BHWC, y_B in zip(*pixels_and_labels, strict=True):
            yield _normalise(pixels_BHWC, self.mean, self.std), y_B


@dataclass(frozen=True, eq=False)
class Data:
    """Training and validation images of a study, on the device."""

    resolved: DataConfig
    """The settings with every default filled in."""
    class_names: tuple[str, ...]
    has_test: bool
    val_is_given: bool
    """Whether the validation images are a folder's `val/`, the same for every seed; otherwise each
    seed holds out its own."""
    fingerprint: str
    """Hash of the training and of the validation images and labels."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    """Of each channel of the training images, with pixels within 0..1."""
    seed: int
    batch_size: int
    """Images a training step: those asked for, or all training images if they are fewer."""
    train_pixels: Tensor
    """(N, P, P, C) uint8, padded with black for the crops, on the device."""
    train_labels: Tensor
    """(N,) int64, on the device."""
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
    def num_train(self) -> int:
        return len(self.train_labels)

    @property
    def num_val(self) -> int:
        return len(self.val.labels)

    @property
    def num_steps(self) -> int:
        """Training batches an epoch; a last partial batch is dropped."""
        return self.num_train // self.batch_size

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
        for index_B, *drawn in zip(*per_batch, strict=True):
            yield self._augment(index_B, *drawn), self.train_labels[index_B]

    def val_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The validation images, as `EvalSplit.batches`."""
        return self.val.batches()

    def _augment(self, index_B: Tensor, *draws: Tensor) -> Tensor:
        """Crop, flip, normalise and cut out a square around (y, x): one gather for the batch."""
        top_B, left_B, flip_B, y_B, x_B = draws
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
        pixels_BHWC = pixels_BHWC.unflatten(0, at_BHW.shape)
        batch_BCHW = _normalise(pixels_BHWC, self.val.mean, self.val.std)
        if length := self.resolved.cutout:
            y_BH, x_BW = along_H - y_B[:, None] + length // 2, along_H - x_B[:, None] + length // 2
            in_row_BH, in_column_BW = (at.ge(0) & at.lt(length) for at in (y_BH, x_BW))
            # zero is the mean; in place, because it keeps the memory format
            batch_BCHW.masked_fill_((in_row_BH[:, :, None] & in_column_BW[:, None, :])[:, None], 0)
        return batch_BCHW


def load_data(
    config: DataConfig, *, seed: int, batch_size: int, device: torch.device, download: bool = False
) -> Data:
    """Read the training and validation images and put both on the device.

    Those of a folder's `val/` are for validation; without one some training images are held out.

    Raises:
        ConfigError: if the images cannot be read, a class is too small to be split, or a setting
            does not fit the images.
    """
    images = read_train(config, download=download)
    resolved = _resolve(config, images)
    given = read_val(resolved, images.class_names)
    if given is None:
        train, val = _split_off_validation(resolved, images, seed)
    else:
        train, val = images, given
    train = _subset(resolved, train, seed)
    mean, std = _mean_and_std(train.images)
    padding = resolved.crop_padding or 0
    train_pixels = torch.from_numpy(train.images).to(device)
    return Data(
        resolved=resolved,
        class_names=images.class_names,
        has_test=has_test(config),
        val_is_given=given is not None,
        fingerprint=_fingerprint(train, val),
        mean=mean,
        std=std,
        seed=seed,
        batch_size=min(batch_size, len(train.labels)),
        train_pixels=F.pad(train_pixels, (0, 0, padding, padding, padding, padding)),
        train_labels=torch.from_numpy(train.labels).to(device),
        val=_eval_split(val, mean, std, device, batch_size),
    )


def load_test(data: Data, *, download: bool = False) -> EvalSplit:
    """Read the test images that belong to the training images, for `confirm`.

    Raises:
        ConfigError: as `load_test_alone`.
    """
    return load_test_alone(
        data.resolved,
        class_names=data.class_names,
        mean=data.mean,
        std=data.std,
        batch_size=data.batch_size,
        device=data.train_pixels.device,
        download=download,
    )


def load_test_alone(
    config: DataConfig,
    *,
    class_names: tuple[str, ...],
    mean: tuple[float, ...],
    std: tuple[float, ...],
    batch_size: int,
    device: torch.device,
    download: bool = False,
) -> EvalSplit:
    """Read test images for a network that was trained, perhaps on others, for `evaluate`.

    Args:
        config: with the `image_size` and `channels` that the network takes.
        class_names: those that the network tells apart.
        mean: of each channel of the images that it was trained on, with pixels within 0..1.
        std: likewise.
        batch_size: images at a time, at most `EVAL_BATCH_SIZE`.
        device: where to.
        download: fetch a named data set that is not there.

    Raises:
        ConfigError: if there are none, they cannot be read, or are of other classes.
    """
    test = read_test(config, class_names, download=download)
    if test is None:
        raise ConfigError(
            f"{config.name} must hold test/<class>/ for a test accuracy, but has no test "
            f"folder: add one, or use the validation accuracy"
        )
    return _eval_split(test, mean, std, device, batch_size)


def _eval_split(
    images: Images,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    device: torch.device,
    batch_size: int,
) -> EvalSplit:
    return EvalSplit(
        torch.tensor(images.images, device=device),  # a copy: arrays from a file may be read-only
        torch.tensor(images.labels, device=device),
        *(torch.tensor([255 * level for level in levels], device=device) for levels in (mean, std)),
        fingerprint=_fingerprint(images),
        batch_size=min(EVAL_BATCH_SIZE, batch_size),
    )


def _normalise(pixels_BHWC: Tensor, mean_C: Tensor, std_C: Tensor) -> Tensor:
    """uint8 images as float32 (B, C, H, W), channels-last in memory."""
    return pixels_BHWC.float().sub_(mean_C).div_(std_C).permute(0, 3, 1, 2)


def _resolve(config: DataConfig, images: Images) -> DataConfig:
    _, side, _, channels = images.images.shape
    for name in ("crop_padding", "cutout"):
        if (getattr(config, name) or 0) > side:
            raise ConfigError(
                f"data.{name} must be within 0..{side}, the side of the images, but got "
                f"{getattr(config, name)}"
            )
    filled = {
        "image_size": side,
        "channels": channels,
        "crop_padding": side // 8 if config.crop_padding is None else config.crop_padding,
        "flip": default_flip(config.name) if config.flip is None else config.flip,
    }
    return config.model_copy(update=filled)


def _split_off_validation(config: DataConfig, images: Images, seed: int) -> tuple[Images, Images]:
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
    return _select(images, ~is_val), _select(images, is_val)


def _subset(config: DataConfig, train: Images, seed: int) -> Images:
    """As many of the training images as the settings ask for."""
    if (wanted := config.train_images) is None:
        return train
    num, num_classes = len(train.labels), len(train.class_names)
    if not num_classes <= wanted <= num:
        raise ConfigError(
            f"data.train_images must be within {num_classes}..{num} (one a class, all "
            f"that the validation split leaves), but got {wanted}"
        )
    return _select(train, _stratified(train.labels, wanted, derive(seed, "subset"), spare=0))


def _select(images: Images, mask: np.ndarray) -> Images:
    return Images(images.images[mask], images.labels[mask], images.class_names)


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


def _mean_and_std(pixels_NHWC: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Of each channel, pixels within 0..1; from sums of integers, hence equal on any machine."""
    num, num_channels = pixels_NHWC[..., 0].size, pixels_NHWC.shape[-1]
    totals, squares = [0] * num_channels, [0] * num_channels
    for part in np.array_split(pixels_NHWC, len(pixels_NHWC) // 1024 + 1):  # bounds the memory
        for channel in range(num_channels):
            counts = np.bincount(part[..., channel].ravel(), minlength=256)
            totals[channel] += int(counts @ np.arange(256))
            squares[channel] += int(counts @ np.arange(256) ** 2)
    means = tuple(total / num / 255 for total in totals)
    stds = (
        (num * square - total**2) ** 0.5 / num / 255
        for total, square in zip(totals, squares, strict=True)
    )
    return means, tuple(std or 1.0 for std in stds)  # a constant channel says nothing


def _fingerprint(*parts: Images) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        for array in (part.images, part.labels):
            digest.update(repr((array.shape, array.dtype.str)).encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
