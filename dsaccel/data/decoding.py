"""Decode image files once, into the user's cache folder, keyed by the contents of the files."""

# N images, H = W side, C channels

import contextlib
import hashlib
import os
import threading
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, ImageOps, PngImagePlugin, UnidentifiedImageError

from dsaccel.data.images import CONVERSION_VERSION, cache_dir, to_square
from dsaccel.errors import ConfigError
from dsaccel.files import open_file, read_file
from dsaccel.ticks import counted

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""What is decoded, whatever a file's name says: nothing that starts another program."""
SMALLEST_SIDE, LARGEST_SIDE = 4, 512
MAX_MEGAPIXELS = 170
"""The most pixels of an image, which takes three bytes a pixel while it is decoded."""
MAX_PNG_TEXT = 64 * 2**20
"""Bytes of a text or colour profile in a PNG, which are not looked at."""
MOST_MISTAKES = 20


class Files:
    """The image files of one split."""

    def __init__(self, root: Path, paths: Sequence[Path]) -> None:
        """Read all files to tell whether they were decoded before.

        Raises:
            ConfigError: files that cannot be read, a line each.
        """
        self.paths = paths
        self.digests = list(counted(_in_threads(_digest, paths), "files read", len(paths)))
        contents = hashlib.blake2b(repr(CONVERSION_VERSION).encode(), digest_size=16)
        for path, digest in zip(paths, self.digests, strict=True):
            contents.update(os.fsencode(path.relative_to(root)) + b"\0" + digest)
        self._key = contents.hexdigest()

    def median_side(self) -> int:
        """The median shorter side, within 4..512 pixels."""
        return int(_cached(f"{self._key}-side", lambda: _median_side(self.paths)))

    def decode(self, side: int, channels: int) -> np.ndarray:
        """All images (N, H, W, C).

        Raises:
            ConfigError: files that are no images, a line each.
        """
        key = f"{self._key}-{side}x{channels}"
        return _cached(key, lambda: _decode_all(self.paths, side, channels))


def decode_images(paths: Sequence[Path], side: int, channels: int) -> np.ndarray:
    """Single files, (N, H, W, C) uint8, as the images of a folder are decoded; not cached.

    Raises:
        ConfigError: files that are no images, a line each.
    """
    return _decode_all(paths, side, channels)


def _median_side(paths: Sequence[Path]) -> np.ndarray:
    median = np.median(list(_in_threads(_shorter_side, paths)))
    return np.asarray(median.clip(SMALLEST_SIDE, LARGEST_SIDE).astype(int))


def _decode_all(paths: Sequence[Path], side: int, channels: int) -> np.ndarray:
    images = np.empty((len(paths), side, side, channels), np.uint8)
    decoded = _in_threads(lambda path: _decode(path, side, channels), paths)
    for index, image in enumerate(counted(decoded, "images decoded", len(paths))):
        images[index] = image
    return images


def _cached(key: str, compute: Callable[[], np.ndarray]) -> np.ndarray:
    """An array from the cache, or computed and put there."""
    path = cache_dir() / "images" / f"{key}.npz"
    # the checksum of the zip tells a damaged file, which is computed anew
    damages = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)
    with contextlib.suppress(*damages), open_file(path) as file, np.load(file) as arrays:
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
        return hashlib.blake2b(read_file(path), digest_size=16).digest()


def _shorter_side(path: Path) -> int:
    with _naming(path), _opened(path) as image:
        return min(image.size)


def _decode(path: Path, side: int, channels: int) -> np.ndarray:
    with _naming(path), _opened(path) as image:
        image.draft(None, (2 * side, 2 * side))  # a large JPEG need not be decoded at full size
        if image.mode == "I" and image.format == "TIFF":  # elsewhere it is 16-bit grey
            raise ValueError("the range of 32-bit pixels is unknown")
        return to_square(ImageOps.exif_transpose(image), side, channels)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """An image whose header is read."""
    with open_file(path) as file, Image.open(file, formats=FORMATS) as image:
        width, height = image.size
        most = float(os.environ.get("DSACCEL_MAX_MEGAPIXELS") or MAX_MEGAPIXELS)
        if width * height > most * 1e6:
            raise ValueError(
                f"{width * height / 1e6:.0f} megapixels, and the limit is {most:g}; set "
                "DSACCEL_MAX_MEGAPIXELS to raise it"
            )
        yield image


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Name the file that cannot be read."""
    try:
        yield
    except Exception as error:  # decoders raise whatever they stumble over
        unknown = isinstance(error, UnidentifiedImageError)
        why = f"its content is none of {', '.join(FORMATS)}" if unknown else error
        raise ConfigError(
            f"{path} must be an image, but cannot be read ({why}): replace or remove it"
        ) from None


class _OwnLimits:
    """Pillow's limits of one image are its module's; while any thread reads a folder, ours stand in
    their place.
    """

    lock, num_readers = threading.Lock(), 0

    def __enter__(self) -> None:
        with self.lock:
            if not self.num_readers:
                _OwnLimits.before = Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK
                Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK = None, MAX_PNG_TEXT
            _OwnLimits.num_readers += 1

    def __exit__(self, *_: object) -> None:
        with self.lock:
            _OwnLimits.num_readers -= 1
            if not self.num_readers:
                Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK = self.before


Result = TypeVar("Result")


def _in_threads(function: Callable[[Path], Result], paths: Sequence[Path]) -> Iterator[Result]:
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
    with _OwnLimits(), ThreadPoolExecutor(os.cpu_count()) as pool:
        for results in pool.map(apply, range(0, len(paths), 256)):
            for result in results:
                if isinstance(result, ConfigError):
                    mistakes.append(str(result))
                else:
                    yield result
    if mistakes:
        more = len(mistakes) - MOST_MISTAKES
        shown = mistakes[:MOST_MISTAKES] + ([f"and {more} more files"] if more > 0 else [])
        raise ConfigError("\n".join(shown))
