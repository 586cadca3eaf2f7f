"""Folders as they are found on disks: links, special files, foreign formats, copies."""

import os
import shutil
import threading

import numpy as np
import pytest
from PIL import Image, ImageFile, PngImagePlugin
from tiny_study import searching

from dsaccel.config.study import DataConfig
from dsaccel.data import decoding
from dsaccel.data.images import Split
from dsaccel.data.source import open_source, read_images
from dsaccel.errors import ConfigError
from dsaccel.files import read_file


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Two classes of three 6x6 training images each, all different."""
    monkeypatch.setenv("DSACCEL_CACHE", str(tmp_path / "cache"))
    for number, name in enumerate(("a", "b")):
        for index in range(3):
            draw(tmp_path / "set" / "train" / name / f"{index}.png", 10 * number + index)
    return tmp_path / "set"


def draw(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    Image.fromarray(pixels).save(path)


def source(root, **settings):
    return open_source(DataConfig(name=str(root), **settings))


def num_images(root, split: Split = "train"):
    images = read_images(source(root), split, DataConfig(name=str(root)))
    assert images is not None
    return np.bincount(images.labels).tolist()


# ---- links


@pytest.mark.parametrize("target", ["..", ".", "../..", "../b", "../a"])
def test_a_link_to_what_is_read_anyway_adds_no_image(root, target):
    for name in ("loop", "again"):
        (root / "train" / "a" / name).symlink_to(target)
    assert num_images(root) == [3, 3]
    assert "2 passed over (2 linked to what is read elsewhere)" in source(root).notes()[0]


def test_links_in_a_circle_end(root, tmp_path):
    (root / "train" / "a" / "out").symlink_to(tmp_path / "outside")
    draw(tmp_path / "outside" / "x.png", 50)
    (tmp_path / "outside" / "back").symlink_to(root / "train" / "a")
    (tmp_path / "outside" / "itself").symlink_to(".")
    assert num_images(root) == [4, 3]


def test_a_real_image_goes_before_a_link_to_it_whatever_their_names(root):
    (root / "train" / "a" / "0-first.png").symlink_to("../b/1.png")
    assert num_images(root) == [3, 3]


def test_a_training_image_is_no_validation_image_by_a_link(root):
    for name in ("a", "b"):
        draw(root / "val" / name / "own.png", ord(name))
        (root / "val" / name / "linked.png").symlink_to(f"../../train/{name}/0.png")
        os.link(root / "train" / name / "1.png", root / "val" / name / "hard.png")
        (root / "val" / name / "folder").symlink_to(f"../../train/{name}")
    assert num_images(root, "train") == [3, 3]
    assert num_images(root, "val") == [1, 1]


def test_one_folder_in_two_places_is_refused(root):
    (root / "val").symlink_to("train")
    with pytest.raises(ConfigError, match=r"train/a and .*val/a must be two folders, but are one"):
        num_images(root)


def test_a_broken_link_to_an_image_is_named(root):
    (root / "train" / "a" / "gone.png").symlink_to("nowhere.png")
    (root / "train" / "a" / "itself.png").symlink_to("itself.png")
    with pytest.raises(ConfigError, match=r"(?s)gone.png must be an image, .*itself.png must be"):
        num_images(root)


# ---- special files


@pytest.mark.timeout(20)
def test_pipes_and_devices_are_passed_over_and_never_opened(root):
    os.mkfifo(root / "train" / "a" / "pipe.png")
    (root / "train" / "a" / "zero.png").symlink_to("/dev/zero")
    assert num_images(root) == [3, 3]
    assert "2 passed over (2 no regular file)" in source(root).notes()[0]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_only_regular_files_are_read(tmp_path, kind):
    path = tmp_path / "x"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    with pytest.raises(OSError, match="and no regular file"):
        read_file(path)


# ---- formats


def test_a_postscript_file_with_the_name_of_an_image_starts_nothing(root, tmp_path, monkeypatch):
    ran = tmp_path / "ran"
    ghostscript = tmp_path / "bin" / "gs"
    ghostscript.parent.mkdir()
    ghostscript.write_text(f"#!/bin/sh\ntouch {ran}\n")
    ghostscript.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ghostscript.parent}:{os.environ['PATH']}")
    (root / "train" / "a" / "x.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 6 6\n%%EndComments\nshowpage\n%%EOF\n"
    )
    with pytest.raises(ConfigError, match=r"x.png must be an image, but cannot be read"):
        num_images(root)
    assert not ran.exists()


@pytest.mark.parametrize(
    ("suffix", "form"),
    [
        (".jfif", "jpeg"),
        (".jpe", "jpeg"),
        (".j2k", "jpeg2000"),
        (".JPG", "jpeg"),
        (".webp", "webp"),
    ],
)
def test_less_common_suffixes_of_images_are_read(root, suffix, form):
    Image.open(root / "train" / "a" / "0.png").save(root / "train" / "a" / f"x{suffix}", form)
    assert num_images(root) == [4, 3]


def test_what_is_passed_over_is_counted_by_its_reason(root):
    for name in ("notes.txt", "list.txt", "image", ".hidden.png"):
        (root / "train" / "b" / name).touch()
    (note,) = source(root).notes()
    assert "/set/train: 6 images (a 3, b 3); 4 passed over" in note
    for reason in ("2 .txt", "1 without a suffix", "1 hidden"):
        assert reason in note


def test_of_many_classes_the_fewest_and_most_images_are_said(root):
    for index in range(10):
        draw(root / "train" / f"c{index}" / "0.png", 100 + index)
    assert "16 images (1 to 3 in each of 12 classes)" in source(root).notes()[0]


def test_a_png_with_a_long_text_and_colour_profile_is_read(root):
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "x" * 3_000_000, zip=True)
    image = Image.open(root / "train" / "a" / "0.png")
    image.save(root / "train" / "a" / "text.png", pnginfo=info)
    image.save(root / "train" / "a" / "profile.png", icc_profile=bytes(3_000_000))
    assert num_images(root) == [5, 3]
    assert PngImagePlugin.MAX_TEXT_CHUNK == ImageFile.SAFEBLOCK  # other users keep their limit


def test_an_image_of_too_many_pixels_is_refused_with_the_limit_and_how_to_raise_it(
    root, monkeypatch
):
    Image.new("1", (14000, 14000)).save(root / "train" / "a" / "large.png")
    with pytest.raises(
        ConfigError, match=r"large.png .*196 megapixels, and the limit is 170; set DSACCEL_MAX_MEGA"
    ):
        num_images(root)
    monkeypatch.setattr(decoding, "MAX_MEGAPIXELS", 1e-6)
    monkeypatch.setenv("DSACCEL_MAX_MEGAPIXELS", "200")
    assert num_images(root) == [4, 3]


# ---- copies


def test_equal_files_in_two_splits_are_counted_with_an_example(root):
    shutil.copytree(root / "train", root / "val")
    draw(root / "val" / "b" / "own.png", 99)
    notes = source(root).notes()
    assert notes[2:] == [
        "equal files: 6 in val/ that are also in train/; val/a/0.png equals train/a/0.png"
    ]


def test_equal_files_in_two_classes_and_swapped_classes_are_said(root):
    shutil.copy(root / "train" / "a" / "1.png", root / "train" / "b" / "copy.png")
    shutil.copytree(root / "train" / "a", root / "test" / "b")
    shutil.copytree(root / "train" / "b", root / "test" / "a")
    said = "\n".join(source(root).notes()[2:])
    assert "1 in train/ twice, of which one may be held out to validate" in said
    assert "7 in test/ that are also in train/; test/b/0.png equals train/a/0.png" in said
    assert "7 in two classes; test/b/0.png equals train/a/0.png" in said


def test_different_images_are_no_copies(root):
    shutil.copytree(root / "train", root / "val")
    for index, path in enumerate((root / "val").rglob("*.png")):
        draw(path, 200 + index)
    assert len(source(root).notes()) == 2


def test_folders_are_read_while_another_thread_reads_images_of_its_own(root):
    """Pillow's limits are those of a module: they are back whatever happens."""
    threads = [threading.Thread(target=num_images, args=(root,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Image.MAX_IMAGE_PIXELS is not None


# ---- what a search says and records


def search_of(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = {"name": str(root), "val_fraction": 0.5}
    return searching("tiny", data=data | {"train_images": None}, training={"batch_size": 2})


def test_a_search_records_how_many_images_there_were_and_what_was_equal(
    root, tmp_path, monkeypatch
):
    shutil.copytree(root / "train", root / "test")
    notes = search_of(root, tmp_path, monkeypatch).study.user_attrs["data_notes"]
    assert "train: 6 images (a 3, b 3)" in notes[0]
    assert notes[2].startswith("equal files: 6 in test/ that are also in train/")


def test_a_test_image_that_cannot_be_read_is_told_before_training(root, tmp_path, monkeypatch):
    shutil.copytree(root / "train", root / "test")
    (root / "test" / "a" / "0.png").write_text("no image")
    with pytest.raises(ConfigError, match=r"test/a/0.png must be an image"):
        search_of(root, tmp_path, monkeypatch)
