"""Read the images of a study and put them on the device. The test split is read by `load_test` and
`load_test_alone`, and only looked at by `look_at_test`.
"""

# N images, H = W side, C channels

import numpy as np
import torch

from dsaccel.config.study import DataConfig
from dsaccel.data.batches import EVAL_BATCH_SIZE, Data, EvalSplit
from dsaccel.data.images import Images, Split, check_same_classes, fingerprint
from dsaccel.data.source import DataSource, open_source, read_images
from dsaccel.data.splits import split_off_validation, subset
from dsaccel.errors import ConfigError

SHARE = 0.5
"""The share of a GPU's free memory that images may take."""


def load_data(
    config: DataConfig,
    *,
    seed: int,
    batch_size: int,
    device: torch.device,
    download: bool = False,
    source: DataSource | None = None,
    room_bytes: int | None = None,
) -> Data:
    """Read the training and the validation images and put both on the device.

    Args:
        config: the settings; of what `source` has, they name it alone.
        seed: of the split, the order and the augmentation.
        batch_size: images a training step.
        device: where to.
        download: fetch a named data set that is not there.
        source: of the images; None: the one that the settings name.
        room_bytes: what the device has free, a GPU: images that take more than half of it stay in
            host memory; None: as much as they need.

    Raises:
        ConfigError: if the images cannot be read, a class is too small to be split, or a setting
            does not fit the images.
    """
    if source is None:
        source = open_source(config, download=download)
    else:
        config = config.model_copy(update={"name": source.name})
    resolved, train, val, val_is_given = _train_and_val(source, config, seed)
    mean, std = _mean_and_std(train.images)
    padded = _padded(train.images, resolved.crop_padding or 0)
    needed = padded.nbytes + val.images.nbytes
    stay = room_bytes is not None and needed > SHARE * room_bytes
    return Data(
        source=source,
        resolved=resolved,
        class_names=train.class_names,
        notes=tuple(source.notes()),
        has_test=source.has("test"),
        val_is_given=val_is_given,
        fingerprint=fingerprint(train, val),
        mean=mean,
        std=std,
        seed=seed,
        batch_size=min(batch_size, len(train.labels)),
        train_pixels=padded if stay else padded.to(device),
        train_labels=torch.tensor(train.labels, device="cpu" if stay else device),
        val=_eval_split(val, mean, std, device, batch_size, stay=stay),
    )


def _train_and_val(
    source: DataSource, config: DataConfig, seed: int
) -> tuple[DataConfig, Images, Images, bool]:
    """The settings with every default filled in, the images to train and to validate on, and
    whether the source has the latter itself.
    """
    images = read_images(source, "train", config)
    if images is None:
        raise ConfigError(f"{source.name} must have images to train on, but has none")
    resolved = _resolve(config, images, source.default_flip)
    given = _read_same_classes(source, "val", resolved, images.class_names)
    if given is None:
        train, val = split_off_validation(resolved, images, seed)
    else:
        train, val = images, given
    return resolved, subset(resolved, train, seed), val, given is not None


def _padded(pixels_NHWC: np.ndarray, padding: int) -> torch.Tensor:
    """Images with black around them, for the crops; made on the host, so that the device never
    holds them twice.
    """
    sides = (padding, padding)
    return torch.from_numpy(np.pad(pixels_NHWC, ((0, 0), sides, sides, (0, 0))))


def look_at_test(data: Data) -> None:
    """Read the test images, if there are any, and forget them: what is wrong with them is told
    before training.

    Raises:
        ConfigError: as `load_test`.
    """
    _read_same_classes(data.source, "test", data.resolved, data.class_names)


def load_test(data: Data) -> EvalSplit:
    """Read the test images that belong to the training images, for `confirm`.

    Raises:
        ConfigError: if there are none, they cannot be read, or are of other classes.
    """
    test = _read_test(data.source, data.resolved, data.class_names)
    stay = data.train_pixels.device != data.device
    return _eval_split(test, data.mean, data.std, data.device, data.val.batch_size, stay=stay)


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
    test = _read_test(open_source(config, download=download), config, class_names)
    return _eval_split(test, mean, std, device, batch_size)


def _read_test(source: DataSource, config: DataConfig, class_names: tuple[str, ...]) -> Images:
    test = _read_same_classes(source, "test", config, class_names)
    if test is None:
        raise ConfigError(
            f"{source.name} must have test images for a test accuracy, but has none: add them (to "
            f"a folder as test/<class>/), or use the validation accuracy"
        )
    return test


def _read_same_classes(
    source: DataSource, split: Split, config: DataConfig, class_names: tuple[str, ...]
) -> Images | None:
    images = read_images(source, split, config)
    if images is not None:
        check_same_classes(source.name, split, class_names, images.class_names)
    return images


def _eval_split(
    images: Images,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    device: torch.device,
    batch_size: int,
    *,
    stay: bool = False,
) -> EvalSplit:
    place = torch.device("cpu") if stay else device
    return EvalSplit(
        torch.tensor(images.images, device=place),  # a copy: arrays from a file may be read-only
        torch.tensor(images.labels, device=place),
        *(torch.tensor([255 * level for level in levels], device=device) for levels in (mean, std)),
        fingerprint=fingerprint(images),
        batch_size=min(EVAL_BATCH_SIZE, batch_size),
    )


def _resolve(config: DataConfig, images: Images, default_flip: bool) -> DataConfig:
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
        "flip": default_flip if config.flip is None else config.flip,
    }
    return config.model_copy(update=filled)


def _mean_and_std(pixels_NHWC: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each channel, with pixels within 0..1. They come from sums of integers,
    so they are equal on any machine.
    """
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
