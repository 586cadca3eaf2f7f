"""Files that cannot be written: one line, no leftovers, the old file kept."""

import pytest
import torch

from dsaccel.errors import StorageError
from dsaccel.files import atomic_write, check_writable, make_folder, write_text


def fill_disk(path):
    """Let what is written for this file meet a full disk."""
    path.with_name(path.name + ".part").symlink_to("/dev/full")


def names(folder):
    return [path.name for path in folder.iterdir()]


def test_a_full_disk_is_one_line_that_keeps_the_old_file_and_leaves_nothing(tmp_path):
    path = tmp_path / "x.html"
    write_text(path, "old")
    fill_disk(path)
    with pytest.raises(StorageError, match=r"x\.html must be writable, but: No space left.*; free"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["x.html"]


def test_a_full_disk_under_torch_is_the_same_line(tmp_path):
    path = tmp_path / "x.pt"
    fill_disk(path)
    with (
        pytest.raises(StorageError, match=r"x\.pt must be writable, but: No space left"),
        atomic_write(path) as temporary,
        temporary.open("wb") as file,
    ):
        torch.save({"a": torch.zeros(1000)}, file)
    assert names(tmp_path) == []


def test_an_error_of_the_program_is_not_blamed_on_the_disk(tmp_path):
    with pytest.raises(RuntimeError, match="a bug"), atomic_write(tmp_path / "x"):
        raise RuntimeError("a bug")
    assert names(tmp_path) == []


def test_what_can_be_written_is_told_beforehand_and_leaves_nothing(tmp_path):
    path = tmp_path / "x.safetensors"
    check_writable(path)
    assert names(tmp_path) == []
    fill_disk(path)
    with pytest.raises(StorageError, match="No space left"):
        check_writable(path)
    assert names(tmp_path) == []
    with pytest.raises(StorageError, match="No such file"):
        check_writable(tmp_path / "no" / "x")


def test_a_file_in_a_folders_place_is_named(tmp_path):
    (tmp_path / "x").write_text("mine")
    with pytest.raises(StorageError, match="x must be writable, but: File exists"):
        make_folder(tmp_path / "x")
