"""Read images into memory: uint8 as stored, labels, class names. Nothing here is random.

A data set is `digits` (scikit-learn's), the name of a torchvision data set, or a folder with
`train/<class>/` and optionally `test/<class>/`. Folders are decoded once into the user's cache
folder, keyed by the contents of their files. A test split is read by `read_test` alone.
"""

# N images, H = W side, C channels

import contextlib
import hashlib
import os
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from PIL import Image, ImageOps

from dsaccel.config import ConfigError, DataConfig

Split = Literal["train", "test"]

NAMED = {  # name: class in torchvision.datasets, whether a mirrored image keeps its class
    "cifar10": ("CIFAR10", True),
    "cifar100": ("CIFAR100", True),
    "fashion-mnist": ("FashionMNIST", True),
    "kmnist": ("KMNIST", False),
    "mnist": ("MNIST", False),
    "stl10": ("STL10", True),
    "svhn": ("SVHN", False),
}
_IGNORED = ("thumbs.db", "desktop.ini")
_SMALLEST_SIDE, _LARGEST_SIDE = 4, 512
_CACHE_VERSION = 1  # to be raised whenever `_to_square` gives other pixels


@dataclass(frozen=True, eq=False)
class Images:
    images: np.ndarray
    """(N, H, W, C) uint8, square."""
    labels: np.ndarray
    """(N,) int64, indices into `class_names`."""
    class_names: tuple[str, ...]


def read_train(config: DataConfig, *, download: bool = False) -> Images:
    """Read the training images, in the size and channels asked for (None: as stored).

    A folder without an `image_size` gets the median shorter side of its training images, within
    4..512 pixels, and three channels.

    Raises:
        ConfigError: if the data set is unknown, missing, damaged, or its folders are not right.
    """
    return _read(config, "train", download)


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
    test = _read(config, "test", download)
    _check_same_classes(config.name, class_names, test.class_names)
    return test


def has_test(config: DataConfig) -> bool:
    """Whether there is a test split; nothing of it is read."""
    return _is_bundled(config.name) or (_folder(config.name) / "test").is_dir()


def default_flip(name: str) -> bool:
    """Whether horizontal flips suit a data set: not digits, letters and house numbers."""
    return name != "digits" and (name not in NAMED or NAMED[name][1])


def cache_dir() -> Path:
    """The folder for decoded images and downloads: DSACCEL_CACHE, or the user's cache folder."""
    import platformdirs

    return Path(os.environ.get("DSACCEL_CACHE") or platformdirs.user_cache_dir("dsaccel"))


def _is_bundled(name: str) -> bool:
    return name == "digits" or name in NAMED


def _read(config: DataConfig, split: Split, download: bool) -> Images:
    if not _is_bundled(config.name):
        return _read_folder(config, split)
    stored = (
        _read_digits(split) if config.name == "digits" else _read_named(config, split, download)
    )
    _, side, _, channels = stored.images.shape
    images = _convert(stored.images, config.image_size or side, config.channels or channels)
    return Images(images, stored.labels, stored.class_names)


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
        root.mkdir(parents=True, exist_ok=True)
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


# ---- folders


def _folder(name: str) -> Path:
    folder = Path(name).expanduser()
    if not folder.is_dir():
        raise ConfigError(
            f"data must be one of digits, {', '.join(NAMED)}, or a folder with train/<class>/, "
            f"but got {name!r}, and there is no such folder"
        )
    return folder


def _read_folder(config: DataConfig, split: Split) -> Images:
    root = _folder(config.name)
    files = _class_files(root / split)
    if split == "train" and has_test(config):  # found now, not after days of training
        _check_same_classes(config.name, tuple(files), tuple(_class_folders(root / "test")))
    paths = [path for of_class in files.values() for path in of_class]
    labels = np.repeat(np.arange(len(files)), [len(of_class) for of_class in files.values()])
    images = _decode_cached(paths, root, config.image_size, config.channels or 3)
    return Images(images, labels.astype(np.int64), tuple(files))


def _class_files(folder: Path) -> dict[str, list[Path]]:
    """The image files of each class, at any depth, sorted."""
    classes = _class_folders(folder)
    if len(classes) < 2:
        found = f"only {next(iter(classes))!r}" if classes else "none"
        raise ConfigError(f"{folder} must hold at least 2 class folders, but holds {found}")
    files = {name: _files_below(path) for name, path in classes.items()}
    for name, of_class in files.items():
        if not of_class:
            raise ConfigError(
                f"class folder {classes[name]} must hold images, but is empty: add images or "
                f"remove the folder"
            )
    return files


def _class_folders(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise ConfigError(
            f"data folder {folder.parent} must hold {folder.name}/<class>/ with images, but there "
            f"is no {folder}"
        )
    folders = [path for path in sorted(folder.iterdir()) if path.is_dir() and _counts(path.name)]
    return {path.name: path for path in folders}


def _files_below(folder: Path) -> list[Path]:
    found = []
    for parent, folders, files in os.walk(folder, followlinks=True):
        folders[:] = filter(_counts, folders)
        found += [Path(parent, name) for name in files if _counts(name)]
    return sorted(found)


def _counts(name: str) -> bool:
    return not name.startswith(".") and name.lower() not in _IGNORED


def _check_same_classes(name: str, train: tuple[str, ...], test: tuple[str, ...]) -> None:
    if train != test:
        only_test, only_train = sorted({*test} - {*train}), sorted({*train} - {*test})
        raise ConfigError(
            f"train and test of {name} must have the same classes, but only in test: "
            f"{', '.join(only_test) or 'none'}; only in train: {', '.join(only_train) or 'none'}"
        )


def _decode_cached(paths: list[Path], root: Path, side: int | None, channels: int) -> np.ndarray:
    """Decode images (N, H, W, C), or take them from the cache if they were decoded before."""
    contents = hashlib.blake2b(repr(_CACHE_VERSION).encode(), digest_size=16)
    for path, digest in zip(paths, _in_threads(_digest, paths), strict=True):
        contents.update(os.fsencode(path.relative_to(root)) + b"\0" + digest)
    key = contents.hexdigest()
    if side is None:
        side = int(_cached(f"{key}-side", lambda: _median_side(paths)))
    return _cached(f"{key}-{side}x{channels}", lambda: _decode_all(paths, side, channels))


def _median_side(paths: list[Path]) -> np.ndarray:
    median = np.median(list(_in_threads(_shorter_side, paths)))
    return np.asarray(median.clip(_SMALLEST_SIDE, _LARGEST_SIDE).astype(int))


def _decode_all(paths: list[Path], side: int, channels: int) -> np.ndarray:
    images = np.empty((len(paths), side, side, channels), np.uint8)
    decoded = _in_threads(lambda path: _decode(path, side, channels), paths)
    for index, image in enumerate(decoded):
        images[index] = image
    return images


def _cached(key: str, compute: Callable[[], np.ndarray]) -> np.ndarray:
    """An array from the cache, or computed and put there."""
    path = cache_dir() / "images" / f"{key}.npz"
    # the checksum of the zip tells a damaged file, which is computed anew
    damages = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)
    with contextlib.suppress(*damages), path.open("rb") as file, np.load(file) as arrays:
        return arrays["array"]
    array = compute()
    with contextlib.suppress(OSError):  # a full or read-only disk costs time only
        _write_whole(path, array)
    return array


def _write_whole(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            np.savez(file, array=array)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _digest(path: Path) -> bytes:
    with _naming(path):
        return hashlib.blake2b(path.read_bytes(), digest_size=16).digest()


def _shorter_side(path: Path) -> int:
    with _naming(path), Image.open(path) as image:
        return min(image.size)


def _decode(path: Path, side: int, channels: int) -> np.ndarray:
    with _naming(path), Image.open(path) as image:
        image.draft(None, (2 * side, 2 * side))  # a large JPEG need not be decoded at full size
        return _to_square(ImageOps.exif_transpose(image), side, channels)


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Name the file that cannot be read."""
    try:
        yield
    except Exception as error:  # decoders raise whatever they stumble over
        raise ConfigError(
            f"{path} must be an image, but cannot be read ({error}): replace or remove it"
        ) from None


Result = TypeVar("Result")


def _in_threads(function: Callable[[Path], Result], paths: list[Path]) -> Iterator[Result]:
    """The results in order; decoders and hashes let go of the GIL."""

    def apply(start: int) -> list[Result]:
        return [function(path) for path in paths[start : start + 256]]  # a future an image is slow

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for results in pool.map(apply, range(0, len(paths), 256)):
            yield from results


# ---- conversion


def _convert(images: np.ndarray, side: int, channels: int) -> np.ndarray:
    """Images in memory (N, H, W, C) in another size or number of channels."""
    if images.shape[1:] == (side, side, channels):
        return images
    squares = (
        Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image) for image in images
    )
    return np.stack([_to_square(image, side, channels) for image in squares])


def _to_square(image: Image.Image, side: int, channels: int) -> np.ndarray:
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
