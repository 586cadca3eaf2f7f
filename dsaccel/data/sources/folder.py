"""A folder with `train/<class>/`, and perhaps `val/<class>/` and `test/<class>/`."""

from collections import Counter, defaultdict
from functools import cached_property
from pathlib import Path

import numpy as np

from dsaccel.config.study import DataConfig
from dsaccel.data.decoding import Files
from dsaccel.data.folders import Found, check_has_train, find_splits, listed
from dsaccel.data.images import Images, Split
from dsaccel.data.source import DataSource


class Folder(DataSource):
    """Images of any size, shape and mode; without an `image_size` all get the median shorter side
    of the training images, within 4..512 pixels, and without `channels` three.
    """

    def __init__(self, config: DataConfig) -> None:
        self.name = config.name
        self._root = Path(config.name).expanduser()
        self._side, self._channels = config.image_size, config.channels or 3
        self._files: dict[Split, Files] = {}

    def has(self, split: Split) -> bool:
        """Whether there is a folder of this name."""
        return (self._root / split).is_dir()

    def read(self, split: Split) -> Images | None:
        """Decode a split, or take it from the cache."""
        if split == "train" or self._side is None:
            check_has_train(self._root)
        if not self.has(split):
            return None
        by_class = self._splits[split].files
        if self._side is None:
            self._side = self._hashed("train").median_side()
        images = self._hashed(split).decode(self._side, self._channels)
        labels = np.repeat(np.arange(len(by_class)), list(map(len, by_class.values())))
        return Images(images, labels.astype(np.int64), tuple(by_class))

    def notes(self) -> list[str]:
        """How many images of each class there are, what was passed over, and equal files."""
        lines = [_summary(self._root / split, found) for split, found in self._splits.items()]
        return lines + _copies({split: self._hashed(split) for split in self._splits}, self._root)

    @cached_property
    def _splits(self) -> dict[Split, Found]:
        return find_splits(self._root)

    def _hashed(self, split: Split) -> Files:
        if split not in self._files:
            paths = [path for of_class in self._splits[split].files.values() for path in of_class]
            self._files[split] = Files(self._root, paths)
        return self._files[split]


def _summary(folder: Path, found: Found) -> str:
    numbers = {name: len(paths) for name, paths in found.files.items()}
    if len(numbers) <= 10:
        each = ", ".join(f"{name} {number}" for name, number in numbers.items())
    else:
        each = (
            f"{min(numbers.values())} to {max(numbers.values())} in each of {len(numbers)} classes"
        )
    passed_over = found.passed_over.total()
    more = f"; {passed_over} passed over{listed(found.passed_over)}" if passed_over else ""
    return f"{folder}: {sum(numbers.values())} images ({each}){more}"


def _copies(splits: dict[Split, Files], root: Path) -> list[str]:
    """What equal files there are where there should be none, each kind with its first example."""
    places: dict[bytes, list[tuple[Split, str, Path]]] = defaultdict(list)
    for split, files in splits.items():
        for path, digest in zip(files.paths, files.digests, strict=True):
            inside = path.relative_to(root)
            places[digest].append((split, inside.parts[1], inside))
    numbers: Counter[str] = Counter()
    examples: dict[str, str] = {}

    def note(kind: str, first: Path, second: Path) -> None:
        numbers[kind] += 1
        examples.setdefault(kind, f"{second} equals {first}")

    for equal in places.values():
        first_split, first_class, first = equal[0]
        for split, name, path in equal[1:]:
            if split != first_split:
                note(f"in {split}/ that are also in {first_split}/", first, path)
            elif split == "train" and "val" not in splits:
                note("in train/ twice, of which one may be held out to validate", first, path)
            if name != first_class:
                note("in two classes", first, path)
    return [f"equal files: {number} {kind}; {examples[kind]}" for kind, number in numbers.items()]
