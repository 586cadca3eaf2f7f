"""Images in memory: what is taken, in which form it is kept, and what is refused."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dsaccel import imports, parts
from dsaccel.config.study import DataConfig
from dsaccel.data.arrays import as_images
from dsaccel.data.load import load_data, load_test
from dsaccel.data.sources.arrays import ArraySource
from dsaccel.errors import ConfigError

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)
Y = np.arange(12) % 3


@pytest.mark.parametrize(
    "x",
    [
        X,
        X.astype(np.int64),
        X / 255,
        torch.from_numpy(X),
        torch.from_numpy(X).permute(0, 3, 1, 2),
        torch.from_numpy(X).permute(0, 3, 1, 2).double() / 255,
        (torch.from_numpy(X).permute(0, 3, 1, 2) / 255).requires_grad_(),
        X.tolist(),
    ],
    ids=["uint8", "int64", "float", "tensor", "NCHW", "NCHW float64", "with gradient", "lists"],
)
def test_arrays_and_tensors_of_either_layout_are_the_same_images(x):
    images = as_images(x, torch.from_numpy(Y))
    assert (images.images.dtype, images.labels.dtype) == (np.uint8, np.int64)
    assert np.array_equal(images.images, X)
    assert np.array_equal(images.labels, Y)
    assert images.class_names == ("0", "1", "2")


def test_images_without_channels_are_grey():
    assert np.array_equal(as_images(X[..., 0], Y).images, X[..., :1])


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (X[0], r"shape \(N, H, W\), .* got the shape \(8, 8, 3\)$"),
        (X[..., :2], r"C of 1 or 3 .* got the shape \(12, 8, 8, 2\)$"),
        (X[:, :6], r"H = W of at least 4, but got the shape \(12, 6, 8, 3\)$"),
        (X[:, :3, :3], r"H = W of at least 4, but got the shape \(12, 3, 3, 3\)$"),
        (X[:0], r"at least one image, but got the shape \(0, 8, 8, 3\)$"),
        (X > 9, "whole numbers within 0..255 or floats within 0..1, but got .* of type bool$"),
        (X.astype(np.float32), r"within 0..1 if they are floats, but go from 0 to 255: scale"),
        (X / 128 - 1, r"within 0..1 if they are floats, but go from -1 to 0.99"),
        (X * np.nan, r"within 0..1 if they are floats, but go from nan to nan"),
        (X.astype(np.int32) + 1, r"within 0..255 if they are whole numbers, but go from 1 to 256"),
        ([[1, 2], [3]], "must be arrays, but"),
    ],
)
def test_images_of_another_shape_type_or_range_are_refused_with_it(x, message):
    with pytest.raises(ConfigError, match=message):
        as_images(x, Y)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (Y[:5], r"shape \(12,\), a label an image, but got \(5,\)$"),
        (np.eye(12)[Y], r"but got \(12, 12\); of one-hot labels take argmax\(1\)$"),
        (Y / 1, "must be whole numbers, but got an array of type float64"),
        (Y - 1, r"must be within 0..1, but go from -1 to 1$"),
        (Y, r"must be within 0..1, but go from 0 to 2$"),
    ],
)
def test_labels_of_another_shape_type_or_range_are_refused_with_it(y, message):
    with pytest.raises(ConfigError, match=message):
        as_images(X, y, ["cat", "dog"])


class Items(torch.utils.data.Dataset):
    """A data set of PIL images, as torchvision's are."""

    classes = ("cat", "dog", "eel")

    def __init__(self, pixels: Any = X):
        self.pixels = pixels

    def __len__(self):
        return len(self.pixels)

    def __getitem__(self, index):
        return Image.fromarray(self.pixels[index]), int(Y[index])


def test_a_torch_data_set_is_read_once_with_its_class_names():
    source = ArraySource.of_dataset(Items(), test=Items(X[:6]))
    train, test = source.read("train"), source.read("test")
    assert train is not None
    assert test is not None
    assert source.read("val") is None
    assert np.array_equal(train.images, X)
    assert np.array_equal(train.labels, Y)
    assert train.class_names == test.class_names == ("cat", "dog", "eel")
    assert np.array_equal(test.images, X[:6])


def test_a_torch_data_set_that_is_empty_or_of_several_shapes_is_refused():
    with pytest.raises(ConfigError, match="at least one image, but got an empty one"):
        ArraySource.of_dataset(Items(X[:0]))
    with pytest.raises(ConfigError, match=r"image 0 has \(8, 8, 3\) and image 1 has \(9, 9, 3\)"):
        ArraySource.of_dataset(Items([X[0], np.zeros((9, 9, 3), np.uint8)]))


def test_given_arrays_are_trained_on_validated_and_tested_as_they_were_given():
    source = ArraySource(X, Y, val=(X[:6], Y[:6]), test=(X[6:], Y[6:]), flip=False)
    config = DataConfig(crop_padding=0)
    data = load_data(config, seed=1, batch_size=4, device=torch.device("cpu"), source=source)
    assert (data.resolved.name, data.resolved.flip) == ("arrays", False)
    assert np.array_equal(data.train_pixels, X)
    assert np.array_equal(data.val.pixels, X[:6])
    assert data.val_is_given
    assert data.has_test
    assert np.array_equal(load_test(data).labels, Y[6:])


def test_a_study_of_arrays_is_not_looked_for_in_a_folder():
    with pytest.raises(ConfigError, match="'arrays' were in memory: go on in Python"):
        load_data(DataConfig(name="arrays"), seed=1, batch_size=4, device=torch.device("cpu"))


MINE = """
import numpy as np
from dsaccel.data.images import Images
from dsaccel.data.source import DataSource

class Stripes(DataSource):
    default_flip = False

    def read(self, split):
        if split == "val":
            return None
        labels = np.arange(20) % 2
        images = np.zeros((20, 8, 8, 1), np.uint8)
        images[labels == 1, ::2] = 255
        return Images(images, labels, ("plain", "striped"))

class Wrong(DataSource):
    def read(self, split):
        return Images(np.zeros((20, 8, 9, 1), np.uint8), np.zeros(20, int), ("a", "b"))

class Silent(DataSource):
    pass
"""


def read_own(folder, name):
    (folder / "mine.py").write_text(MINE)
    path = f"./mine.py:{name}"
    imports.trust([path], folder)
    return load_data(DataConfig(name=path), seed=1, batch_size=4, device=torch.device("cpu"))


def test_a_source_of_ones_own_is_named_by_its_import_path(tmp_path):
    data = read_own(tmp_path, "Stripes")
    assert (data.class_names, data.side, data.num_train) == (("plain", "striped"), 8, 18)
    assert (data.resolved.name, data.resolved.flip) == ("./mine.py:Stripes", False)
    assert data.has_test
    assert list(parts.named_parts(data.resolved)) == [("data", "./mine.py:Stripes")]
    assert not list(parts.named_parts(DataConfig(name=str(tmp_path))))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Wrong", r"train of ./mine.py:Wrong must be .* got the shape \(20, 8, 9, 1\)"),
        ("Silent", "data ./mine.py:Silent must define read, but does not"),
        ("Gone", "data ./mine.py:Gone must be importable, but"),
    ],
)
def test_a_source_of_ones_own_that_is_not_right_is_refused(tmp_path, name, message):
    with pytest.raises(ConfigError, match=message):
        read_own(tmp_path, name)
