"""Image folders: `train/<class>/` and its like, images of any size, shape and mode.

An image is a file with the suffix of one; labels, notes and other files beside it are passed over.
Decoded once into the user's cache folder, keyed by the contents of the files.
"""

# N images, H = W side, C channels

import contextlib
import hashlib
import os
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar, get_args

import numpy as np
from PIL import Image, ImageOps

from dsaccel.data.images import CONVERSION_VERSION, Images, Split, cache_dir, to_square
from dsaccel.errors import ConfigError

_SUFFIXES = (
    ".avif", ".bmp", ".gif", ".jp2", ".jpeg", ".jpg",
    ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp",
)  # fmt: skip
_SMALLEST_SIDE, _LARGEST_SIDE = 4, 512
_MOST_MISTAKES = 20


def read_folder(root: Path, split: Split, side: int | None, channels: int) -> Images:
    """Read `root/<split>/<class>/`, at any depth.

    Args:
        root: the folder.
        split: `train`, `val` or `test`.
        side: of the square images in pixels; None: the median shorter side, within 4..512.
        channels: 1 or 3.

    Raises:
        ConfigError: fewer than two class folders, one without images, other classes in another
            split than in train, or a file with an image's suffix that is none.
    """
    files = _class_files(root / split)
    if split == "train":  # found now, not after days of training
        for other in ("val", "test"):
            if (root / other).is_dir():
                check_same_classes(root, other, tuple(files), tuple(_class_folders(root / other)))
    paths = [path for of_class in files.values() for path in of_class]
    labels = np.repeat(np.arange(len(files)), [len(of_class) for of_class in files.values()])
    images = _decode_cached(paths, root, side, channels)
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
                f"class folder {classes[name]} must hold images ({' '.join(_SUFFIXES)}), but holds "
                f"none: add images or remove the folder"
            )
    return files


def _class_folders(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        names = (path.name for path in sorted(folder.parent.iterdir()) if path.is_dir())
        beside = [name for name in names if name not in get_args(Split)]
        found = f" (there are {', '.join(beside[:5])}: move the classes into it)" if beside else ""
        raise ConfigError(
            f"data folder {folder.parent} must hold {folder.name}/<class>/ with images, but there "
            f"is no {folder}{found}"
        )
    folders = [path for path in sorted(folder.iterdir()) if path.is_dir() and _counts(path.name)]
    return {path.name: path for path in folders}


def _files_below(folder: Path) -> list[Path]:
    found = []
    for parent, folders, files in os.walk(folder, followlinks=True):
        folders[:] = filter(_counts, folders)
        found += [
            Path(parent, name)
            for name in files
            if _counts(name) and name.lower().endswith(_SUFFIXES)
        ]
    return sorted(found)


def _counts(name: str) -> bool:
    return not name.startswith(".")


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


def _decode_cached(paths: list[Path], root: Path, side: int | None, channels: int) -> np.ndarray:
    """Decode images (N, H, W, C), or take them from the cache if they were decoded before."""
    contents = hashlib.blake2b(repr(CONVERSION_VERSION).encode(), digest_size=16)
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
        if image.mode == "I" and image.format == "TIFF":  # elsewhere it is 16-bit grey
            raise ValueError("the range of 32-bit pixels is unknown")
        return to_square(ImageOps.exif_transpose(image), side, channels)


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
    """The results in order; decoders and hashes let go of the GIL.

    Raises:
        ConfigError: at the end, a line for each file that cannot be read.
    """

    def attempt(path: Path) -> Result | ConfigError:
        try:
            return function(path)
        except ConfigError as error:
            return error

    def apply(start: int) -> list[Result | ConfigError]:
        return [attempt(path) for path in paths[start : start + 256]]  # a future an image is slow

    mistakes: list[str] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for results in pool.map(apply, range(0, len(paths), 256)):
            for result in results:
                if isinstance(result, ConfigError):
                    mistakes.append(str(result))
                else:
                    yield result
    if mistakes:
        more = len(mistakes) - _MOST_MISTAKES
        shown = mistakes[:_MOST_MISTAKES] + ([f"and {more} more files"] if more > 0 else [])
        raise ConfigError("\n".join(shown))
