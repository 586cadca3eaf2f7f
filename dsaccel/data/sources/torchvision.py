"""Data sets that torchvision reads and downloads."""

from pathlib import Path
from typing import Any

import numpy as np

from dsaccel.config.study import DataConfig
from dsaccel.data.images import Images, Split, cache_dir
from dsaccel.data.source import DataSource
from dsaccel.errors import ConfigError
from dsaccel.files import make_folder

CLASSES = {  # name: class in torchvision.datasets, whether a mirrored image keeps its class
    "cifar10": ("CIFAR10", True),
    "cifar100": ("CIFAR100", True),
    "fashion-mnist": ("FashionMNIST", True),
    "kmnist": ("KMNIST", False),
    "mnist": ("MNIST", False),
    "stl10": ("STL10", True),
    "svhn": ("SVHN", False),
}


class Torchvision(DataSource):
    def __init__(self, config: DataConfig, *, download: bool = False) -> None:
        self.name = config.name
        self._class, self.default_flip = CLASSES[config.name]
        self._root = Path(config.dir).expanduser() if config.dir else cache_dir() / "datasets"
        self._download = download

    def has(self, split: Split) -> bool:
        """A test split, but none for validation."""
        return split != "val"

    def read(self, split: Split) -> Images | None:
        """Read a split, downloaded before if that was asked for."""
        if split == "val":
            return None
        import torchvision

        data_set = getattr(torchvision.datasets, self._class)
        by_split = self.name in ("svhn", "stl10")
        which = {"split": split} if by_split else {"train": split == "train"}
        if self._download:
            make_folder(self._root)
        try:
            read = data_set(self._root, download=self._download, **which)
        except Exception as error:  # damaged files raise whatever their parser stumbles over
            raise ConfigError(self._diagnose(data_set, split, error)) from None
        images = np.asarray(read.data)
        if images.ndim == 4 and by_split:  # these come as NCHW
            images = images.transpose(0, 2, 3, 1)
        labels = np.asarray(read.labels if by_split else read.targets).astype(np.int64)
        return self._checked(images, labels, tuple(getattr(read, "classes", "0123456789")), split)

    def _checked(
        self, images: np.ndarray, labels: np.ndarray, classes: tuple[str, ...], split: Split
    ) -> Images:
        if len(labels) != len(images) or not set(np.unique(labels)) <= set(range(len(classes))):
            raise ConfigError(
                f"the {split} files of {self.name} in {self._root} must hold a label within "
                f"0..{len(classes) - 1} for each image, but do not: delete them and run with "
                f"--download"
            )
        return Images(images, labels, classes)

    def _diagnose(self, data_set: Any, split: Split, error: Exception) -> str:
        """Why it could not be read: a missing file, a damaged one, or something else."""
        from torchvision.datasets.utils import check_integrity

        anew = "delete it and run with --download"
        files = _files(data_set, self._root, split)
        for path in files:
            if not path.is_file():
                way_out = (
                    f"the download failed ({error}): try again, or put it there by hand"
                    if self._download
                    else "run with --download, or set data.dir to the folder it lies in"
                )
                return f"data set {self.name} must be there, but {path} is missing: {way_out}"
        for path, md5 in files.items():
            if not (check_integrity(path, md5) if md5 else _is_whole_idx(path)):
                return f"{path} of data set {self.name} is damaged: {anew}"
        return f"data set {self.name} cannot be read ({error}): {anew}"


def _files(data_set: Any, root: Path, split: Split) -> dict[Path, str | None]:
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
