"""Read images into memory: uint8 as stored, labels, class names. Nothing here is random.

A data set is `digits` (scikit-learn's), the name of a torchvision data set, or a folder with
`train/<class>/`, and optionally `val/<class>/` and `test/<class>/`. Folders are decoded once into
the user's cache folder, keyed by the contents of their files. A test split is read by `read_test`
alone.
"""

# N images, H = W side, C channels

from pathlib import Path
from typing import Any

import numpy as np

from dsaccel.config.study import DataConfig
from dsaccel.data.folders import check_same_classes, read_folder
from dsaccel.data.images import Images, Split, cache_dir, convert
from dsaccel.errors import ConfigError
from dsaccel.files import make_folder

NAMED = {  # name: class in torchvision.datasets, whether a mirrored image keeps its class
    "cifar10": ("CIFAR10", True),
    "cifar100": ("CIFAR100", True),
    "fashion-mnist": ("FashionMNIST", True),
    "kmnist": ("KMNIST", False),
    "mnist": ("MNIST", False),
    "stl10": ("STL10", True),
    "svhn": ("SVHN", False),
}


def read_train(config: DataConfig, *, download: bool = False) -> Images:
    """Read the training images, in the size and channels asked for (None: as stored).

    A folder without an `image_size` gets the median shorter side of its training images, within
    4..512 pixels, and three channels.

    Raises:
        ConfigError: if the data set is unknown, missing, damaged, or its folders are not right.
    """
    return _read(config, "train", download)


def read_val(config: DataConfig, class_names: tuple[str, ...]) -> Images | None:
    """Read the validation images of a folder with `val/`; None: they are to be held out.

    Args:
        config: with the `image_size` and `channels` of the training images.
        class_names: those of the training images.

    Raises:
        ConfigError: as `read_train`, or if the classes are not those of the training images.
    """
    return _read_same_classes(config, "val", class_names) if has_val(config) else None


def read_test(
    config: DataConfig, class_names: tuple[str, ...], *, download: bool = False
) -> Images | None:
    """Read the test images; None if the data set has none.

    Args:
        config: with the `image_size` and `channels` of the training images.
        class_names: those of the training images.
        download: fetch a named data set that is not there.

    Raises:
        ConfigError: as `read_train`, or if the classes are not those of the training images.
    """
    if not has_test(config):
        return None
    return _read_same_classes(config, "test", class_names, download=download)


def has_test(config: DataConfig) -> bool:
    """Whether there is a test split; nothing of it is read."""
    return _is_bundled(config.name) or (_folder(config.name) / "test").is_dir()


def has_val(config: DataConfig) -> bool:
    """Whether there is a validation split; nothing of it is read."""
    return not _is_bundled(config.name) and (_folder(config.name) / "val").is_dir()


def default_flip(name: str) -> bool:
    """Whether horizontal flips suit a data set: not digits, letters and house numbers."""
    return name != "digits" and (name not in NAMED or NAMED[name][1])


def _is_bundled(name: str) -> bool:
    return name == "digits" or name in NAMED


def _read_same_classes(
    config: DataConfig, split: Split, class_names: tuple[str, ...], *, download: bool = False
) -> Images:
    images = _read(config, split, download)
    check_same_classes(config.name, split, class_names, images.class_names)
    return images


def _read(config: DataConfig, split: Split, download: bool) -> Images:
    if not _is_bundled(config.name):
        return read_folder(_folder(config.name), split, config.image_size, config.channels or 3)
    stored = (
        _read_digits(split) if config.name == "digits" else _read_named(config, split, download)
    )
    _, side, _, channels = stored.images.shape
    images = convert(stored.images, config.image_size or side, config.channels or channels)
    return Images(images, stored.labels, stored.class_names)


def _folder(name: str) -> Path:
    folder = Path(name).expanduser()
    if not name or not folder.is_dir():  # the path of no name is the working directory
        raise ConfigError(
            f"data must be one of digits, {', '.join(NAMED)}, or a folder with train/<class>/, "
            f"but got {name!r}, and there is no such folder; if it was moved, say where it lies "
            f"with --data (of a study that was run: once, to dsaccel search)"
        )
    return folder


def _read_digits(split: Split) -> Images:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, labels = load_digits(return_X_y=True)
    # the same test images for every seed of every study
    train, test = train_test_split(
        np.arange(len(labels)), test_size=0.2, stratify=labels, random_state=0
    )
    chosen = np.sort(train if split == "train" else test)
    images = np.rint(pixels[chosen] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    return Images(images, labels[chosen].astype(np.int64), tuple("0123456789"))


# ---- torchvision's data sets


def _read_named(config: DataConfig, split: Split, download: bool) -> Images:
    import torchvision

    data_set = getattr(torchvision.datasets, NAMED[config.name][0])
    root = Path(config.dir).expanduser() if config.dir else cache_dir() / "datasets"
    which = {"split": split} if config.name in ("svhn", "stl10") else {"train": split == "train"}
    if download:
        make_folder(root)
    try:
        read = data_set(root, download=download, **which)
    except Exception as error:  # damaged files raise whatever their parser stumbles over
        way_out = (
            f"the download failed ({error}): try again, or put it there by hand"
            if download
            else "run with --download, or set data.dir to the folder it lies in"
        )
        files = _named_files(data_set, root, split)
        raise ConfigError(_diagnose(config.name, files, error, way_out)) from None
    images = np.asarray(read.data)
    if images.ndim == 3:
        images = images[..., None]
    elif config.name in ("svhn", "stl10"):  # these come as NCHW
        images = images.transpose(0, 2, 3, 1)
    labels = np.asarray(read.labels if "split" in which else read.targets).astype(np.int64)
    class_names = tuple(getattr(read, "classes", "0123456789"))
    if len(labels) != len(images) or not set(np.unique(labels)) <= set(range(len(class_names))):
        raise ConfigError(
            f"the {split} files of {config.name} in {root} must hold a label within "
            f"0..{len(class_names) - 1} for each image, but do not: delete them and run with "
            f"--download"
        )
    return Images(np.ascontiguousarray(images), labels, class_names)


def _diagnose(name: str, files: dict[Path, str | None], error: Exception, way_out: str) -> str:
    """Why a torchvision data set could not be read: a missing file, a damaged one, or else."""
    from torchvision.datasets.utils import check_integrity

    for path in files:
        if not path.is_file():
            return f"data set {name} must be there, but {path} is missing: {way_out}"
    for path, md5 in files.items():
        if not (check_integrity(path, md5) if md5 else _is_whole_idx(path)):
            return f"{path} of data set {name} is damaged: delete it and run with --download"
    return f"data set {name} cannot be read ({error}): delete it and run with --download"


def _named_files(data_set: Any, root: Path, split: Split) -> dict[Path, str | None]:
    """The files that torchvision wants, with their MD5 sums where it knows them."""
    if hasattr(data_set, "split_list"):  # SVHN
        _, file, md5 = data_set.split_list[split]
        return {root / file: md5}
    if hasattr(data_set, "resources"):  # MNIST and its like: the sums are of the archives
        raw = root / data_set.__name__ / "raw"
        return {raw / archive.removesuffix(".gz"): None for archive, _ in data_set.resources}
    files = [*data_set.train_list, *data_set.test_list]
    if hasattr(data_set, "meta"):  # CIFAR
        files.append((data_set.meta["filename"], data_set.meta["md5"]))
    return {root / data_set.base_folder / file: md5 for file, md5 in files}


def _is_whole_idx(path: Path) -> bool:
    """Whether an idx file is as long as its header says."""
    content = path.read_bytes()
    num_dimensions = content[3] if len(content) > 3 else 0
    header, pixels = content[: 4 + 4 * num_dimensions], content[4 + 4 * num_dimensions :]
    shape = np.frombuffer(header[4 : len(header) // 4 * 4], ">u4")
    return 0 < num_dimensions == len(shape) and len(pixels) == shape.prod()
