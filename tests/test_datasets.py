import gzip
import hashlib
import io
import pickle
import re
import shutil

import numpy as np
import pytest
import scipy.io
import torchvision
from PIL import Image
from sklearn.datasets import load_digits

from dsaccel.config.study import DataConfig
from dsaccel.data import decoding
from dsaccel.data.source import open_source, read_images
from dsaccel.data.sources.torchvision import CLASSES
from dsaccel.errors import ConfigError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DSACCEL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def root(tmp_path):
    """A folder with two classes of two 6x6 RGB training images and one test image each."""
    rng = np.random.default_rng(0)
    for split, num in (("train", 2), ("test", 1)):
        for name in ("cat", "dog"):
            for index in range(num):
                save(
                    rng.integers(0, 256, (6, 6, 3)),
                    tmp_path / "set" / split / name / f"{index}.png",
                )
    return tmp_path / "set"


def save(pixels, path, mode=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(pixels, np.uint8))
    (image.convert(mode) if mode else image).save(path, **options)


def config(root, **settings):
    return DataConfig(name=str(root), **settings)


def pixels_of(path):
    return np.asarray(Image.open(path).convert("RGB"))


def read(settings, split, **options):
    return read_images(open_source(settings, **options), split, settings)


def read_train(settings, **options):
    train = read(settings, "train", **options)
    assert train is not None
    return train


def read_test(settings):
    test = read(settings, "test")
    assert test is not None
    return test


def has(settings, split):
    return open_source(settings).has(split)


# ---- digits


def test_digits_are_scaled_to_bytes_and_split_into_the_same_parts_each_time():
    train = read_train(DataConfig())
    test = read_test(DataConfig())
    assert train.images.shape == (1437, 8, 8, 1)
    assert test.images.shape == (360, 8, 8, 1)
    assert (train.images.dtype, train.labels.dtype) == (np.uint8, np.int64)
    assert train.images.max() == 255
    stored, _ = load_digits(return_X_y=True)
    both = np.concatenate([train.images, test.images]).reshape(-1, 64) / 255 * 16
    both = np.rint(both)
    assert sorted(map(tuple, both)) == sorted(map(tuple, stored))
    assert np.ptp(np.bincount(test.labels)) <= 3  # stratified: 33..37 of each
    again = read_test(DataConfig())
    assert np.array_equal(again.images, test.images)


def test_digits_come_in_the_size_and_channels_asked_for():
    images = read_train(DataConfig(image_size=16, channels=3)).images
    assert images.shape == (1437, 16, 16, 3)
    assert (images[..., 0] == images[..., 2]).all()


# ---- folders


def test_a_folder_is_read_in_order_of_class_and_file(root):
    train = read_train(config(root))
    expected = [pixels_of(root / "train" / c / f"{i}.png") for c in ("cat", "dog") for i in (0, 1)]
    assert np.array_equal(train.images, expected)
    assert train.labels.tolist() == [0, 0, 1, 1]
    assert train.class_names == ("cat", "dog")
    test = read_test(config(root))
    assert np.array_equal(test.images[1], pixels_of(root / "test" / "dog" / "0.png"))
    assert test.labels.tolist() == [0, 1]


def test_images_lie_at_any_depth_and_folders_may_be_links(root, tmp_path):
    (root / "train" / "cat").rename(tmp_path / "elsewhere")
    (root / "train" / "cat").symlink_to(tmp_path / "elsewhere")
    save(np.zeros((6, 6, 3)), tmp_path / "more" / "deep" / "x.png")
    (root / "train" / "cat" / "linked").symlink_to(tmp_path / "more")
    assert np.bincount(read_train(config(root)).labels).tolist() == [3, 2]


@pytest.mark.parametrize("name", [".DS_Store", "._0.png", ".git/0.png", "label.txt", "README", "x"])
def test_hidden_files_and_those_without_an_image_suffix_are_no_images(root, name):
    junk = root / "train" / "cat" / name
    junk.parent.mkdir(exist_ok=True)
    junk.write_bytes(b"junk")
    (root / "train" / ".hidden").mkdir()
    assert len(read_train(config(root)).images) == 4


def test_notes_beside_the_images_are_not_decoded_and_change_no_cache(root, decoded):
    read_train(config(root))
    (root / "train" / "cat" / "readme.txt").write_text("cats")
    read_train(config(root))
    assert len(decoded) == 4


def test_an_image_suffix_may_be_in_capitals(root):
    (root / "train" / "cat" / "0.png").rename(root / "train" / "cat" / "0.PNG")
    assert len(read_train(config(root)).images) == 4


def test_no_test_folder_is_no_test_images(root):
    assert has(config(root), "test")
    shutil.rmtree(root / "test")
    assert not has(config(root), "test")
    assert read(config(root), "test") is None


def test_the_images_of_val_are_the_validation_images(root, tmp_path):
    assert not has(config(root), "val")
    assert read(config(root), "val") is None
    shutil.copytree(root / "test", root / "val")
    assert has(config(root), "val")
    settings = config(root, image_size=6)
    val = read(settings, "val")
    assert val is not None
    assert np.array_equal(val.images, read_test(settings).images)
    assert val.labels.tolist() == [0, 1]


def test_named_sets_have_no_validation_images_of_their_own():
    for name in ("digits", *NAMES):
        assert read(DataConfig(name=name), "val") is None


def test_the_side_is_the_median_shorter_side_of_the_training_images(root):
    for index, size in enumerate([(10, 30), (40, 10), (10, 10), (50, 50)]):
        save(np.zeros((*size, 3)), root / "train" / "cat" / f"more{index}.png")
    assert read_train(config(root)).images.shape == (8, 8, 8, 3)  # of 6 6 6 6 10 10 10 50
    assert read_train(config(root, image_size=5)).images.shape == (8, 5, 5, 3)


def test_other_shapes_are_cropped_to_their_central_square(root):
    wide = np.zeros((4, 12, 3))
    wide[:, 4:8] = 200
    save(wide, root / "train" / "cat" / "0.png")
    tall = np.zeros((12, 4, 3))
    tall[4:8] = 90
    save(tall, root / "train" / "cat" / "1.png")
    images = read_train(config(root, image_size=4)).images
    assert (images[0] == 200).all()
    assert (images[1] == 90).all()


GREY = np.tile(np.arange(0, 240, 40, dtype=np.uint8), (6, 1))


def image_of(kind):
    """An image file of a kind, whose RGB pixels are GREY where it is opaque."""
    grey, file = Image.fromarray(GREY), io.BytesIO()
    alpha = Image.fromarray(np.where(np.arange(6)[:, None] < 3, 255, np.zeros((6, 6))).astype("u1"))
    rgb = Image.merge("RGB", [grey] * 3)
    if kind == "1":
        Image.fromarray(GREY >= 128).save(file, "png")
    elif kind == "L":
        grey.save(file, "png")
    elif kind == "LA":
        Image.merge("LA", [grey, alpha]).save(file, "png")
    elif kind == "RGBA":
        Image.merge("RGBA", [grey] * 3 + [alpha]).save(file, "png")
    elif kind == "P":
        rgb.quantize(16).save(file, "png")
    elif kind == "P transparent":
        indices = Image.fromarray(
            np.where(np.arange(6)[:, None] < 3, GREY // 40, 7).astype("u1"), "P"
        )
        indices.putpalette(
            [level for value in range(0, 320, 40) for level in [min(value, 255)] * 3]
        )
        indices.save(file, "png", transparency=7)
    elif kind == "CMYK":
        rgb.convert("CMYK").save(file, "tiff")
    elif kind == "I;16":
        Image.fromarray(GREY.astype(np.uint16) * 257).save(file, "png")
    elif kind == "I":
        Image.fromarray(GREY.astype(np.int32) * 257).save(file, "ppm")
    elif kind == "rotated":
        exif = Image.Exif()
        exif[0x0112] = 3  # upside down
        rgb.rotate(180).save(file, "png", exif=exif)
    return file.getvalue()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "kind",
    ["1", "L", "LA", "RGBA", "P", "P transparent", "CMYK", "I;16", "I", "rotated"],
)
def test_every_mode_becomes_the_pixels_that_a_viewer_shows(root, kind, channels):
    (root / "train" / "cat" / "0.png").write_bytes(image_of(kind))
    with Image.open(root / "train" / "cat" / "0.png") as image:
        assert image.mode == kind.split()[0] or kind == "rotated"
    expected = GREY.copy()
    if kind == "1":
        expected = 255 * (GREY >= 128)
    if kind in ("LA", "RGBA", "P transparent"):
        expected[3:] = 255  # transparent on white
    seen = read_train(config(root, channels=channels)).images[0]
    assert seen.shape == (6, 6, channels)
    np.testing.assert_array_equal(seen, np.stack([expected] * channels, -1))


def test_a_large_photo_is_scaled_as_the_whole_of_it(root):
    rng = np.random.default_rng(0)
    smooth = Image.fromarray(rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)).resize((512, 512))
    smooth.save(root / "train" / "cat" / "0.jpg", quality=95)
    (root / "train" / "cat" / "0.png").unlink()
    seen = read_train(config(root, image_size=16)).images[0].astype(int)
    assert abs(seen - np.asarray(smooth.resize((16, 16)), int)).max() < 16


# ---- the cache


@pytest.fixture
def decoded(monkeypatch):
    """The names of the files decoded so far."""
    names, decode = [], decoding._decode
    monkeypatch.setattr(
        decoding, "_decode", lambda path, *rest: names.append(path.name) or decode(path, *rest)
    )
    return names


def test_images_are_decoded_once(root, decoded, cache):
    first = read_train(config(root))
    again = read_train(config(root))
    assert len(decoded) == 4
    assert np.array_equal(first.images, again.images)
    assert {path.suffix for path in (cache / "images").iterdir()} == {".npz"}


def test_asking_for_the_size_that_was_chosen_decodes_nothing_again(root, decoded):
    read_train(config(root))
    read_train(config(root, image_size=6, channels=3))
    assert len(decoded) == 4


def test_a_moved_folder_is_not_decoded_again(root, decoded, tmp_path):
    read_train(config(root))
    read_train(config(root.rename(tmp_path / "moved")))
    assert len(decoded) == 4


@pytest.mark.parametrize("change", ["content", "name", "channels", "size"])
def test_a_change_of_the_images_or_their_form_is_decoded_anew(root, decoded, change):
    read_train(config(root))
    settings = {"channels": {"channels": 1}, "size": {"image_size": 5}}.get(change, {})
    if change == "content":
        save(np.full((6, 6, 3), 7), root / "train" / "cat" / "1.png")
    if change == "name":
        (root / "train" / "cat" / "0.png").rename(root / "train" / "cat" / "2.png")
    changed = read_train(config(root, **settings))
    assert len(decoded) == 8
    if change == "content":
        assert (changed.images[1] == 7).all()


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "foreign"])
def test_a_damaged_cache_file_is_decoded_anew(root, decoded, cache, damage):
    expected = read_train(config(root)).images
    (file,) = (cache / "images").glob("*6x3.npz")
    content = bytearray(file.read_bytes())
    content[content.index(expected.tobytes()) + 5] ^= 255
    damages = {"cut": content[:100], "empty": b"", "flipped": content, "foreign": b"hello" * 50}
    file.write_bytes(damages[damage])
    assert np.array_equal(read_train(config(root)).images, expected)
    assert np.array_equal(read_train(config(root)).images, expected)
    assert len(decoded) == 8


def test_a_cache_that_cannot_be_written_costs_time_only(root, cache):
    cache.write_text("a file where the folder should be")
    assert len(read_train(config(root)).images) == 4


def test_test_images_are_decoded_only_when_they_are_read(root, decoded):
    read_train(config(root))
    assert len(decoded) == 4
    read_test(config(root))
    assert len(decoded) == 6


# ---- folders that are not right


def test_an_unknown_data_set_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"one of digits, cifar10, .*, or a folder .* 'cifar11'"):
        read_train(DataConfig(name="cifar11"))


def test_a_folder_without_train_is_refused(root):
    shutil.rmtree(root / "train")
    with pytest.raises(ConfigError, match=r"must hold train/<class>/ .* there is no .*set/train"):
        read_train(config(root))
    (root / "cat").mkdir()
    with pytest.raises(ConfigError, match=r"\(there are cat: move the classes into it\)"):
        read_train(config(root))


def test_a_folder_without_classes_is_refused(root):
    shutil.rmtree(root / "train")
    save(np.zeros((6, 6, 3)), root / "train" / "0.png")
    with pytest.raises(ConfigError, match=r"set/train must hold at least 2 class folders, .* none"):
        read_train(config(root))


def test_a_single_class_is_refused_by_name(root):
    shutil.rmtree(root / "train" / "dog")
    with pytest.raises(ConfigError, match="at least 2 class folders, but holds only 'cat'"):
        read_train(config(root))


def test_a_class_folder_without_images_is_refused_by_name(root):
    (root / "train" / "bird").mkdir()
    (root / "train" / "bird" / "names.txt").touch()
    with pytest.raises(ConfigError, match=r"train/bird must hold images .*none .1 .txt.: add"):
        read_train(config(root))


@pytest.mark.parametrize("split", ["test", "val"])
def test_other_classes_than_in_train_are_refused_by_name_before_training(root, split):
    (root / "test").rename(root / split)
    (root / split / "cat").rename(root / split / "kitty")
    with pytest.raises(ConfigError, match=f"only in {split}: kitty; only in train: cat"):
        read_train(config(root))


@pytest.mark.parametrize("damage", ["text", "cut", "empty", "float", "int32"])
@pytest.mark.parametrize("image_size", [None, 6])
def test_a_file_that_is_no_image_is_refused_by_name(root, damage, image_size, cache):
    file = root / "train" / "dog" / "1.png"
    if damage in ("float", "int32"):
        kind = {"float": np.float32, "int32": np.int32}[damage]
        Image.fromarray(np.zeros((6, 6), kind)).save(file, "tiff")
    else:
        whole = file.read_bytes()
        file.write_bytes(
            {"text": b"no image", "cut": whole[: len(whole) // 2], "empty": b""}[damage]
        )
    with pytest.raises(
        ConfigError, match=r"train/dog/1.png must be an image, .*: replace or remove"
    ):
        read_train(config(root, image_size=image_size))
    assert not list(cache.glob("images/*6x3*"))


def test_all_files_that_cannot_be_read_are_named_at_once(root, monkeypatch):
    for name in ("cat", "dog"):
        (root / "train" / name / "1.png").write_text("no image")
    with pytest.raises(ConfigError) as caught:
        read_train(config(root, image_size=6))
    lines = str(caught.value).splitlines()
    assert ["train/cat/1.png" in lines[0], "train/dog/1.png" in lines[1]] == [True, True]
    monkeypatch.setattr(decoding, "MOST_MISTAKES", 1)
    with pytest.raises(ConfigError, match="and 1 more files"):
        read_train(config(root))


# ---- torchvision's data sets, as generated files in their formats

NAMES = ("cifar10", "cifar100", "svhn", "fashion-mnist", "kmnist", "mnist", "stl10")
NUM = {"train": 20, "test": 10}


def generate(name, folder, monkeypatch):
    """Write a small data set in its own format; return images (NHWC) and labels of each split."""
    side, channels = {
        "stl10": (96, 3),
        "cifar10": (32, 3),
        "cifar100": (32, 3),
        "svhn": (32, 3),
    }.get(name, (28, 1))
    rng = np.random.default_rng(0)
    num_classes = 100 if name == "cifar100" else 10
    parts = {
        split: (
            rng.integers(0, 256, (num, side, side, channels)).astype(np.uint8),
            (np.arange(num) * 7 + (num == 10)) % num_classes,
        )
        for split, num in NUM.items()
    }
    data_set = getattr(torchvision.datasets, CLASSES[name][0])
    WRITERS.get(name, write_idx)(folder, parts, data_set)
    with_true_sums(data_set, folder, monkeypatch)
    return parts


def write_cifar10(folder, parts, data_set):
    images, labels = parts["train"]
    for batch in range(5):
        of_batch = slice(batch * 4, batch * 4 + 4)
        write_pickle(
            folder / f"data_batch_{batch + 1}", "labels", images[of_batch], labels[of_batch]
        )
    write_pickle(folder / "test_batch", "labels", *parts["test"])
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))


def write_cifar100(folder, parts, data_set):
    for split, part in parts.items():
        write_pickle(folder / split, "fine_labels", *part)
    names = [f"class {index}" for index in range(100)]
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": names}))


def write_pickle(path, key, images, labels):
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    path.write_bytes(pickle.dumps({"data": rows, key: labels.tolist()}))


def write_svhn(folder, parts, data_set):
    folder.mkdir(parents=True)
    for split, (images, labels) in parts.items():
        ten_for_zero = np.where(labels == 0, 10, labels).astype(np.uint8)[:, None]
        content = {"X": images.transpose(1, 2, 3, 0), "y": ten_for_zero}
        scipy.io.savemat(folder / f"{split}_32x32.mat", content)


def write_idx(folder, parts, data_set):
    folder.mkdir(parents=True)
    for split, prefix in (("train", "train"), ("test", "t10k")):
        images, labels = parts[split]
        shape = np.array(images.shape[:3], ">u4").tobytes()
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(
            b"\0\0\x08\x03" + shape + images.tobytes()
        )
        header = b"\0\0\x08\x01" + np.array(len(labels), ">u4").tobytes()
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(header + labels.astype("u1").tobytes())


def write_stl10(folder, parts, data_set):
    folder.mkdir(parents=True)
    for split, (images, labels) in parts.items():
        (folder / f"{split}_X.bin").write_bytes(images.transpose(0, 3, 2, 1).tobytes())
        (folder / f"{split}_y.bin").write_bytes((labels + 1).astype(np.uint8).tobytes())
    (folder / "unlabeled_X.bin").write_bytes(b"")
    (folder / "class_names.txt").write_text("\n".join("abcdefghij"))


WRITERS = {
    "cifar10": write_cifar10,
    "cifar100": write_cifar100,
    "svhn": write_svhn,
    "stl10": write_stl10,
}


def with_true_sums(data_set, folder, monkeypatch):
    """Let torchvision expect the MD5 sums of the generated files."""

    def md5(file):
        return hashlib.md5((folder / file).read_bytes()).hexdigest()

    for table in ("train_list", "test_list"):
        if hasattr(data_set, table):
            sums = [[file, md5(file)] for file, _ in getattr(data_set, table)]
            monkeypatch.setattr(data_set, table, sums)
    if hasattr(data_set, "meta"):
        monkeypatch.setattr(
            data_set, "meta", data_set.meta | {"md5": md5(data_set.meta["filename"])}
        )
    if hasattr(data_set, "split_list"):
        files = {split: data_set.split_list[split][:2] for split in NUM}
        sums = {split: [url, file, md5(file)] for split, (url, file) in files.items()}
        monkeypatch.setattr(data_set, "split_list", sums)


def folder_of(name, base):
    subfolder = {
        "cifar10": "cifar-10-batches-py",
        "cifar100": "cifar-100-python",
        "svhn": "",
        "stl10": "stl10_binary",
        "fashion-mnist": "FashionMNIST/raw",
        "kmnist": "KMNIST/raw",
        "mnist": "MNIST/raw",
    }
    return base / subfolder[name]


@pytest.mark.parametrize("name", NAMES)
def test_a_named_set_is_read_as_it_was_written(name, tmp_path, monkeypatch):
    parts = generate(name, folder_of(name, tmp_path / "sets"), monkeypatch)
    settings = DataConfig(name=name, dir=str(tmp_path / "sets"))
    train = read_train(settings)
    test = read_test(settings)
    for read, (images, labels) in ((train, parts["train"]), (test, parts["test"])):
        assert np.array_equal(read.images, images)
        assert np.array_equal(read.labels, labels)
        assert (read.images.dtype, read.labels.dtype) == (np.uint8, np.int64)
    assert len(train.class_names) == (100 if name == "cifar100" else 10)
    assert has(settings, "test")


def test_named_sets_lie_in_the_cache_folder_by_default(cache, monkeypatch):
    generate("kmnist", folder_of("kmnist", cache / "datasets"), monkeypatch)
    assert len(read_train(DataConfig(name="kmnist")).images) == 20


def test_a_named_set_comes_in_the_size_and_channels_asked_for(tmp_path, monkeypatch):
    parts = generate("svhn", tmp_path / "sets", monkeypatch)
    settings = DataConfig(name="svhn", dir=str(tmp_path / "sets"), image_size=16, channels=1)
    images = read_train(settings).images
    assert images.shape == (20, 16, 16, 1)
    expected = Image.fromarray(parts["train"][0][3]).convert("L").resize((16, 16))
    assert abs(images[3, :, :, 0].astype(int) - np.asarray(expected, int)).max() <= 2


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_named_set_is_refused_with_its_path_and_how_to_get_it(name, tmp_path):
    settings = DataConfig(name=name, dir=str(tmp_path))
    with pytest.raises(
        ConfigError, match=rf"{re.escape(str(tmp_path))}/.* is missing: run with --download"
    ):
        read_train(settings)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("damage", ["cut", "empty"])
def test_a_damaged_named_set_is_refused_by_file(name, damage, tmp_path, monkeypatch):
    folder = folder_of(name, tmp_path / "sets")
    generate(name, folder, monkeypatch)
    file = next(
        path for path in sorted(folder.iterdir()) if "train" in path.name or "1" in path.name
    )
    if "mnist" in name:
        file = folder / "train-images-idx3-ubyte"
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2] if damage == "cut" else b"")
    with pytest.raises(
        ConfigError, match=f"{re.escape(str(file))} of data set {name} is damaged: delete"
    ):
        read_train(DataConfig(name=name, dir=str(tmp_path / "sets")))


def test_labels_out_of_range_are_refused(tmp_path, monkeypatch):
    folder = folder_of("kmnist", tmp_path)
    generate("kmnist", folder, monkeypatch)
    labels = folder / "train-labels-idx1-ubyte"
    labels.write_bytes(labels.read_bytes()[:-1] + b"\x0b")
    with pytest.raises(ConfigError, match=r"train files of kmnist .* a label within 0..9 for each"):
        read_train(DataConfig(name="kmnist", dir=str(tmp_path)))


def test_a_failure_of_another_kind_keeps_its_reason(tmp_path, monkeypatch):
    generate("svhn", tmp_path / "sets", monkeypatch)

    def fail(path):
        raise OSError("the disk is on fire")

    monkeypatch.setattr(scipy.io, "loadmat", fail)
    with pytest.raises(ConfigError, match=r"svhn cannot be read \(the disk is on fire\)"):
        read_train(DataConfig(name="svhn", dir=str(tmp_path / "sets")))


def serve(data_set, folder, monkeypatch):
    """Let torchvision download the archives of the files of a folder."""
    archives = []
    for path in sorted(folder.iterdir()):
        archive = folder / f"{path.name}.gz"
        archive.write_bytes(gzip.compress(path.read_bytes()))
        archives.append((archive.name, hashlib.md5(archive.read_bytes()).hexdigest()))
        path.unlink()

    def fetch(url, target):
        shutil.copy(url.removeprefix("file://"), target)

    monkeypatch.setattr(data_set, "resources", archives)
    monkeypatch.setattr(data_set, "mirrors", [folder.as_uri() + "/"])
    monkeypatch.setattr(torchvision.datasets.utils, "_urlretrieve", fetch)


def test_a_missing_set_is_downloaded_when_asked(tmp_path, monkeypatch):
    generate("kmnist", tmp_path / "server", monkeypatch)
    serve(torchvision.datasets.KMNIST, tmp_path / "server", monkeypatch)
    settings = DataConfig(name="kmnist", dir=str(tmp_path / "new" / "sets"))
    assert len(read_train(settings, download=True).images) == 20
    assert len(read_train(settings).images) == 20


def test_a_failed_download_says_so(tmp_path, monkeypatch):
    generate("kmnist", tmp_path / "server", monkeypatch)
    serve(torchvision.datasets.KMNIST, tmp_path / "server", monkeypatch)
    shutil.rmtree(tmp_path / "server")
    settings = DataConfig(name="kmnist", dir=str(tmp_path / "sets"))
    with pytest.raises(
        ConfigError, match=r"(?s)ubyte is missing: the download failed \(.*try again"
    ):
        read_train(settings, download=True)


def test_flips_suit_the_data_set(tmp_path):
    names = ("digits", *NAMES, str(tmp_path))
    flipped = {name for name in names if open_source(DataConfig(name=name)).default_flip}
    assert flipped == {"cifar10", "cifar100", "fashion-mnist", "stl10", str(tmp_path)}
