"""Find the image files of `train/<class>/`, `val/<class>/` and `test/<class>/`.

An image is a regular file with the suffix of one, at any depth, also behind links. Each real file
and folder counts once, however many links lead to it: real ones before those behind links, `train`
before `val` before `test`, so that no link makes a training image a validation image. What is
passed over is counted by its reason.
"""

import os
import stat
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from dsaccel.data.images import Split, check_same_classes
from dsaccel.errors import ConfigError

SUFFIXES = (
    ".avif", ".bmp", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg",
    ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp",
)  # fmt: skip
SPLITS: tuple[Split, ...] = get_args(Split)


@dataclass(frozen=True)
class Found:
    """The image files of a split, sorted, by class, and why others were passed over."""

    files: dict[str, list[Path]]
    passed_over: Counter[str]


def find_splits(root: Path) -> dict[Split, Found]:
    """The splits that a folder has.

    Raises:
        ConfigError: fewer than two class folders, one without images, other classes in another
            split than in train, or one folder in two places.
    """
    there: list[Split] = [split for split in SPLITS if (root / split).is_dir()]
    classes = {split: _class_folders(root / split) for split in there}
    places: list[tuple[Split, Path]] = [
        (split, folder) for split in there for folder in classes[split].values()
    ]
    found, passed_over = _walk(
        [folder for _, folder in places], [root, *(root / s for s in classes)]
    )
    splits: dict[Split, Found] = {split: Found({}, Counter()) for split in there}
    for (split, folder), files, reasons in zip(places, found, passed_over, strict=True):
        if not files:
            raise ConfigError(
                f"class folder {folder} must hold images ({' '.join(SUFFIXES)}), but holds none"
                f"{listed(reasons)}: add images or remove the folder"
            )
        splits[split].files[folder.name] = sorted(files)
        splits[split].passed_over.update(reasons)
    if "train" in classes:  # told now, not after days of training
        for split, folders in classes.items():
            check_same_classes(root, split, tuple(classes["train"]), tuple(folders))
    return splits


def check_has_train(root: Path) -> None:
    """Refuse a folder without `train/`.

    Raises:
        ConfigError: with the folders that may be its classes.
    """
    if (root / "train").is_dir():
        return
    names = [path.name for path in sorted(root.iterdir()) if path.is_dir()]
    beside = [name for name in names if name not in SPLITS]
    hint = f" (there are {', '.join(beside[:5])}: move the classes into it)" if beside else ""
    raise ConfigError(
        f"data folder {root} must hold train/<class>/ with images, but there is no {root}/train"
        f"{hint}"
    )


def _class_folders(folder: Path) -> dict[str, Path]:
    folders = [path for path in sorted(folder.iterdir()) if path.is_dir() and not _is_hidden(path)]
    if len(folders) < 2:
        found = f"only {folders[0].name!r}" if folders else "none"
        raise ConfigError(f"{folder} must hold at least 2 class folders, but holds {found}")
    return {path.name: path for path in folders}


def _walk(
    homes: Sequence[Path], above: Sequence[Path]
) -> tuple[list[list[Path]], list[Counter[str]]]:
    """The image files below each folder, and why others were passed over; no link leads `above`."""
    found: list[list[Path]] = [[] for _ in homes]
    passed_over: list[Counter[str]] = [Counter() for _ in homes]
    seen = {_identity(folder.stat()): folder for folder in above}
    for home in homes:
        identity = _identity(home.stat())
        if identity in seen:
            raise ConfigError(
                f"{seen[identity]} and {home} must be two folders, but are one: remove the link"
            )
        seen[identity] = home
    todo = deque((index, path) for index, home in enumerate(homes) for path in _inside(home))
    links: deque[tuple[int, Path]] = deque()
    while todo or links:
        is_real = bool(todo)
        index, path = (todo or links).popleft()
        if _is_hidden(path):
            passed_over[index]["hidden"] += 1
            continue
        if is_real and path.is_symlink():
            links.append((index, path))
            continue
        try:
            status = path.stat()
        except OSError:  # a broken link or one to itself; if it should be an image, reading says so
            status = None
        if status is not None:
            # not every file system numbers its files: one that has one name only is itself
            may_be_known = not is_real or stat.S_ISDIR(status.st_mode) or status.st_nlink > 1
            if may_be_known and _identity(status) in seen:
                passed_over[index]["linked to what is read elsewhere"] += 1
                continue
            seen[_identity(status)] = path
            if stat.S_ISDIR(status.st_mode):
                todo.extend((index, inner) for inner in _inside(path))
                continue
            if not stat.S_ISREG(status.st_mode):
                passed_over[index]["no regular file"] += 1
                continue
        if path.name.lower().endswith(SUFFIXES):
            found[index].append(path)
        else:
            passed_over[index][path.suffix.lower() or "without a suffix"] += 1
    return found, passed_over


def _inside(folder: Path) -> Iterator[Path]:
    return iter(sorted(folder.iterdir()))


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _is_hidden(path: Path) -> bool:
    return path.name.startswith(".")


def listed(reasons: Counter[str]) -> str:
    listed = ", ".join(f"{number} {reason}" for reason, number in reasons.most_common())
    return f" ({listed})" if listed else ""
