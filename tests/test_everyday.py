"""Commands of every day: which version, which studies, which class."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import run
from PIL import Image
from tiny_study import searched

import dsaccel

pytestmark = pytest.mark.usefixtures("own_folder")


def test_the_version_is_the_packages():
    assert run("--version").stdout == f"dsaccel {dsaccel.__version__}\n"


def test_the_studies_of_a_folder_are_listed_and_a_damaged_one_hides_none():
    assert run("list").stdout == "no study was run here; begin with: dsaccel search\n"
    best = searched("tiny", budget={"n_trials": 2, "cohort_size": 2})
    Path("studies/broken").mkdir()
    Path("studies/broken/study.toml").write_text("space = 3")
    listed = json.loads(run("list", "--json").stdout)["studies"]
    assert [study["name"] for study in listed] == ["broken", "tiny"]
    assert listed[0]["state"].startswith("unreadable: ")
    values = [trial.value for trial in best.study.trials if trial.value is not None]
    assert listed[1]["val_accuracy"] == max(values)
    assert listed[1]["state"] == "2 of 2 trained"
    assert "tiny" in run("list").stdout


def test_images_get_the_classes_that_the_network_gives_them(tmp_path):
    weights = str(tmp_path / "network.safetensors")
    options = ("--data", "digits", "--width", "0.0625", "--epochs", "1", "-q", "-o", weights)
    assert run("train", "1-1-1", *options).exit_code == 0
    pixels_NHWC = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 1), np.uint8)
    for name, pixels in zip("ab", pixels_NHWC, strict=True):
        Image.fromarray(pixels[..., 0]).save(f"{name}.png")
    told = json.loads(run("predict", weights, "a.png", "b.png", "--json").stdout)["predictions"]
    network = dsaccel.load_network(weights)
    images = torch.from_numpy(pixels_NHWC).permute(0, 3, 1, 2).float() / 255
    expected_BK = network(images).softmax(dim=1).detach()
    for prediction, expected in zip(told, expected_BK, strict=True):
        best = expected.argsort(descending=True)[:3].tolist()
        assert list(prediction["classes"]) == [network.class_names[index] for index in best]
        assert list(prediction["classes"].values()) == pytest.approx(expected[best].tolist())
    shown = run("predict", weights, "a.png", "--top", "1").stdout
    assert list(told[0]["classes"])[0] in shown  # noqa: RUF015


def test_images_that_are_none_are_refused():
    Path("text.png").write_text("no image")
    assert run("predict", "no.safetensors", "gone.png").exit_code == 2
    refused = run("predict", "no.safetensors", "text.png")
    assert refused.exit_code == 2
