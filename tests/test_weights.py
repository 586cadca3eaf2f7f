"""Weights in a file: bit for bit, under torchvision's names, and what is read from them."""

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
from commands import run as cli
from helpers import CPU, TRAINING, leaky, num_undecided, write_images
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny_study import tiny_run
from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
from torchvision.models.vgg import make_layers

from dsaccel.config.study import NetworkConfig, RunConfig
from dsaccel.errors import ConfigError, NoResultError
from dsaccel.families import Mode, build_plan
from dsaccel.nn.sealed import sealed_weights
from dsaccel.nn.units import Unit
from dsaccel.nn.weights import load_weights, named_tensors, read_config, save_weights
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.training.cohort import Cohort
from dsaccel.training.evaluate import readings_path
from dsaccel.training.train import Training


def trained(run: RunConfig) -> Training:
    training = Training(run)
    for _ in training.cohort.rungs():
        pass
    return training


@pytest.fixture
def config_file(tmp_path, monkeypatch):
    import tomli_w

    monkeypatch.chdir(tmp_path)
    Path("best.toml").write_text(tomli_w.dumps(tiny_run().model_dump(exclude_none=True)))
    return Path("best.toml")


# ------------------------------------------------------------------ files


@pytest.mark.parametrize("mode", ["local", "global"])
def test_weights_come_back_bit_for_bit(tmp_path, mode):
    training = trained(tiny_run(mode=mode))
    path = tmp_path / "x.safetensors"
    save_weights(path, training.units, training.run, training.facts)
    other = Training(tiny_run(mode=mode, seed=4))
    before = other.units[0].layers[0].weight.weight.clone()  # pyright: ignore
    load_weights(path, other.units, other.run)
    assert not torch.equal(before, other.units[0].layers[0].weight.weight)  # pyright: ignore
    for mine, theirs in zip(training.units, other.units, strict=True):
        for name, tensor in mine.state_dict().items():
            loaded = theirs.state_dict()[name]
            assert torch.equal(tensor, loaded), name
            assert tensor.stride() == loaded.stride(), name
    assert read_config(path).hierarchy == "1-2-1"
    assert [file.name for file in tmp_path.iterdir()] == ["x.safetensors"]


def test_every_weight_is_in_the_file_once_and_where_the_data_lay_is_not(tmp_path):
    run = tiny_run(network={"width": 1 / 16, "pred_conv": True})
    training = Training(run)
    moved = training.run.data.model_copy(update={"dir": "/home/me/data"})
    path = tmp_path / "x.safetensors"
    elsewhere = training.run.model_copy(update={"data": moved})
    save_weights(path, training.units, elsewhere, training.facts)
    num = sum(p.numel() for unit in training.units for p in unit.parameters())
    tensors = load_file(path)
    parameters = [t for n, t in tensors.items() if "running" not in n and "num_batches" not in n]
    assert sum(t.numel() for t in parameters) == num == training.plan.num_parameters_training
    with safe_open(path, framework="pt") as file:
        assert "/home/me" not in json.dumps(file.metadata())


def test_what_is_no_weights_of_ours_is_refused(tmp_path):
    training = Training(tiny_run())
    good, bad = tmp_path / "good.safetensors", tmp_path / "bad.safetensors"
    save_weights(good, training.units, training.run, training.facts)
    with pytest.raises(ConfigError, match="is not there; write them with: dsaccel train"):
        read_config(bad)
    bad.write_text("no weights")
    with pytest.raises(ConfigError, match="must hold weights that dsaccel train"):
        read_config(bad)
    save_file({"a": torch.zeros(2)}, bad)
    with pytest.raises(ConfigError, match="its metadata have no 'config'"):
        read_config(bad)
    save_file({"a": torch.zeros(2)}, bad, {"config": "{}"})
    with pytest.raises(ConfigError, match="must hold weights"):
        read_config(bad)
    deeper = Training(tiny_run(hierarchy="1-2-2"))
    with pytest.raises(ConfigError, match=r"only one of file and network has .*layer3\.1"):
        load_weights(good, deeper.units, deeper.run)
    wider = Training(tiny_run(network={"width": 1 / 8}))
    with pytest.raises(ConfigError, match=r"conv1\.weight has shape \(4, 1, 3, 3\)"):
        load_weights(good, wider.units, wider.run)


def test_weights_that_are_not_finite_are_neither_written_nor_read(tmp_path):
    training = Training(tiny_run())
    path, bad = tmp_path / "good.safetensors", tmp_path / "bad.safetensors"
    save_weights(path, training.units, training.run, training.facts)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    tensors["bn1.running_var"][0] = torch.inf
    bad.write_bytes(sealed_weights(tensors, metadata))
    for read in (training.begin_with, lambda p: load_weights(p, training.units, training.run)):
        with pytest.raises(ConfigError, match=r"bn1\.running_var is not finite, as after a train"):
            read(bad)
    bad.unlink()
    named_tensors(training.units, training.run)["fc.bias"][1] = torch.nan
    with pytest.raises(NoResultError, match=r"1-2-1 must have finite .* fc\.bias is not finite"):
        save_weights(bad, training.units, training.run, training.facts)
    assert not bad.exists()


def test_damaged_weights_are_refused_wherever_the_damage_lies(tmp_path):
    training = Training(tiny_run())
    good, bad = tmp_path / "good.safetensors", tmp_path / "bad.safetensors"
    save_weights(good, training.units, training.run, training.facts)
    content = good.read_bytes()
    for at in range(3, len(content), len(content) // 40):
        bad.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with pytest.raises(ConfigError, match="must hold weights that dsaccel train"):
            load_weights(bad, training.units, training.run)
    tensors = load_file(good)
    next(iter(tensors.values())).add_(1)
    save_file(tensors, bad, safe_open(good, framework="pt").metadata())
    with pytest.raises(ConfigError, match="its SHA-256 is not the recorded one"):
        load_weights(bad, training.units, training.run)


# ------------------------------------------------------------------ foreign names


def network(family: str, name: str, mode: Mode) -> tuple[list[Unit], Cohort]:
    """A network at full width that was trained a little, so that its statistics say something."""
    from helpers import Batches

    plan = build_plan(
        family,
        Hierarchy.parse(name),
        NetworkConfig(),
        channels=3,
        side=16 if family == "vgg" else 8,
        num_classes=4,
        mode=mode,
    )
    short = TRAINING.model_copy(update={"epochs": 1})
    data = Batches(num_images=32, side=plan.side)
    cohort = Cohort({plan.hierarchy: plan}, short, data, seed=1, device=CPU)
    next(cohort.rungs())
    nodes = cohort.trie.path(plan.hierarchy)
    return [unit for node in nodes for unit in cohort.learners[node].units], cohort


def logits_of(cohort: Cohort, x: torch.Tensor) -> torch.Tensor:
    name = cohort.trie.asked[0]
    out: list[torch.Tensor] = []
    for node in cohort.trie.path(name):
        cohort.learners[node].start_evaluation()
        x, out = cohort.learners[node].evaluate(x)
    return out[-1]


@pytest.mark.parametrize(
    ("family", "block", "mode"),
    [("resnet18", BasicBlock, "local"), ("resnet50", Bottleneck, "global")],
)
def test_torchvisions_resnet_takes_the_weights_and_says_the_same(family, block, mode):
    units, cohort = network(family, "1-2-1-1", mode)
    theirs = ResNet(block, [1, 2, 1, 1], num_classes=4)
    theirs.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    theirs.maxpool = nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
    tensors = named_tensors(units, tiny_run(family=family))
    missing = leaky(theirs).load_state_dict(
        {name: tensor for name, tensor in tensors.items() if not name.startswith("heads.")}
    )
    assert not missing.missing_keys
    x = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(theirs.eval()(x), logits_of(cohort, x), rtol=1e-3, atol=1e-4)
    assert ("heads.layer2.1.conv2.classifier.weight" in tensors) == (mode == "local")


def test_torchvisions_vgg_takes_the_weights_and_says_the_same():
    units, cohort = network("vgg", "1-2-1", "local")
    theirs = nn.Module()
    theirs.features = make_layers([64, "M", 128, 128, "M", 256, "M"], batch_norm=True)
    theirs.classifier = nn.Sequential(
        nn.Linear(1024, 1024), nn.BatchNorm1d(1024), nn.ReLU(), nn.Dropout(), nn.Linear(1024, 4)
    )
    tensors = named_tensors(units, tiny_run(family="vgg"))
    leaky(theirs).load_state_dict(
        {name: tensor for name, tensor in tensors.items() if not name.startswith("heads.")}
    )
    x = torch.randn(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    theirs.eval()
    with torch.no_grad():
        out = theirs.classifier(theirs.features(x).flatten(1))
        torch.testing.assert_close(out, logits_of(cohort, x), rtol=1e-3, atol=1e-4)


# ------------------------------------------------------------------ commands


@pytest.mark.parametrize("mode", ["local", "global"])
def test_evaluating_weights_repeats_the_validation_accuracy_of_training(config_file, mode):
    args = ["train", config_file, "--mode", mode, "-o", "best.safetensors", "--json"]
    result = json.loads(cli(*args).stdout)
    shown = json.loads(cli("evaluate", "best.safetensors", "--split", "val", "--json").stdout)
    assert shown["head_names"] == result["head_names"]
    assert len(shown["head_names"]) == len(shown["head_accuracies"])
    assert shown["head_accuracies"] == result["head_accuracies"][-1]
    assert shown["accuracy"] == result["val_accuracy"]
    assert shown["mode"] == mode
    assert not readings_path(Path("best.safetensors")).exists()


def test_the_test_split_is_read_once_for_weights_and_the_reading_is_recorded(
    config_file, monkeypatch
):
    assert cli("train", config_file, "-o", "best.safetensors").exit_code == 0
    first = cli("evaluate", config_file, "--json")
    assert first.exit_code == 0, first.output
    reading = json.loads(first.stdout)
    with Path("best.readings.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 1
    assert float(rows[0]["accuracy"]) == reading["accuracy"] == reading["head_accuracies"][-1]
    assert rows[0]["split"] == "test"
    assert rows[0]["command"] == "dsaccel evaluate best.toml"
    assert reading["num_images"] > 0

    with monkeypatch.context() as patch:
        patch.setattr(
            "dsaccel.training.evaluate.evaluate", lambda *_, **__: pytest.fail("read again")
        )
        again = cli("evaluate", "best.safetensors", "--json")
    assert json.loads(again.stdout) == reading
    assert "that reading is shown" in again.stderr
    # other weights are another reading
    assert (
        cli("train", config_file, "--seed", "4", "-o", "best.safetensors", "--force").exit_code == 0
    )
    assert json.loads(cli("evaluate", config_file, "--json").stdout)["seed"] == 4
    assert len(Path("best.readings.csv").read_text().splitlines()) == 3


def test_the_test_split_is_not_read_where_the_reading_cannot_be_recorded(config_file, monkeypatch):
    assert cli("train", config_file, "-o", "best.safetensors").exit_code == 0
    Path("best.readings.csv.part").symlink_to("/dev/full")
    monkeypatch.setattr("dsaccel.training.evaluate.evaluate", lambda *_, **__: pytest.fail("read"))
    result = cli("evaluate", "best.safetensors")
    assert result.exit_code == 4
    assert "best.readings.csv must be writable" in result.stderr


def test_the_test_accuracy_is_that_of_the_test_images(config_file):
    """Against a normalisation and a count of its own."""
    training = trained(tiny_run())
    save_weights(Path("best.safetensors"), training.units, training.run, training.facts)
    from dsaccel.data.load import load_test

    test = load_test(training.data)
    x = test.pixels.permute(0, 3, 1, 2).float()
    x = (x / 255 - training.data.mean[0]) / training.data.std[0]
    logits = logits_of(training.cohort, x)
    right = (logits.argmax(1) == test.labels).sum().item()
    reading = json.loads(cli("evaluate", "best.safetensors", "--json").stdout)
    assert reading["num_images"] == len(test.labels)
    # normalised in another way, and all at once
    off = abs(reading["accuracy"] * len(test.labels) - right)
    assert off <= num_undecided(logits) + 1e-9 <= 5


@pytest.fixture
def of_images(config_file, monkeypatch):
    """Weights that were trained on a folder of images."""
    monkeypatch.setenv("DSACCEL_CACHE", "cache")
    folder = write_images(Path("images"))
    keys = ["--set", "data.channels=3", "--set", "data.val_fraction=0.25"]
    sizes = ["--set", "data.train_images=12", "--batch-size", "4"]
    args = ["train", config_file, "--data", folder, *keys, *sizes, "-o", "x.safetensors"]
    result = cli(*args)
    assert result.exit_code == 0, result.output
    return Path("x.safetensors")


def test_validation_images_that_may_have_been_trained_on_are_not_read(of_images):
    assert cli("evaluate", of_images, "--split", "val").exit_code == 0
    extra = Path("images/train/a/9.png")
    extra.write_bytes(Path("images/train/a/0.png").read_bytes())
    result = cli("evaluate", of_images, "--split", "val")
    assert result.exit_code == 2
    assert "those held out now may have been trained on" in result.stderr
    # the test split is another matter
    assert cli("evaluate", of_images).exit_code == 0


def test_a_reading_is_of_weights_and_images(of_images):
    first = json.loads(cli("evaluate", of_images, "--json").stdout)
    other = write_images(Path("other"), shift=50)
    second = json.loads(cli("evaluate", of_images, "--data", other, "--json").stdout)
    assert first["images"] != second["images"]
    assert len(Path("x.readings.csv").read_text().splitlines()) == 3
    again = cli("evaluate", of_images, "--data", other, "--json")
    assert json.loads(again.stdout) == second
    assert "that reading is shown" in again.stderr


def test_weights_normalise_as_they_were_trained_wherever_they_are_read(of_images):
    first = json.loads(cli("evaluate", of_images, "--json").stdout)
    # the same test images beside other training images, or none
    other = write_images(Path("other"), shift=50)
    shutil.rmtree(other / "test")
    shutil.copytree("images/test", other / "test")
    for _ in range(2):
        Path("x.readings.csv").unlink()
        again = json.loads(cli("evaluate", of_images, "--data", other, "--json").stdout)
        assert again["head_accuracies"] == first["head_accuracies"]
        assert again["images"] == first["images"]
        shutil.rmtree(other / "train", ignore_errors=True)


def test_images_of_other_classes_are_refused(of_images):
    other = write_images(Path("other"), classes="xy")
    result = cli("evaluate", of_images, "--data", other)
    assert result.exit_code == 2
    assert "only in test: x, y; only in train: a, b" in result.stderr


def test_bad_arguments_of_train_output_and_evaluate_exit_2(config_file):
    Path("there.safetensors").write_text("mine")
    cases = [
        (["train", "best.toml", "-o", "x.pt"], "must end with .safetensors"),
        (["train", "best.toml", "-o", "no/x.safetensors"], "folder no must exist"),
        (["train", "best.toml", "-o", "there.safetensors"], "exists already"),
        (["evaluate", "best.toml"], "dsaccel train best.toml --output best.safetensors"),
        (["evaluate", "best.pt"], "expected weights"),
        (["evaluate", "/"], "expected weights"),
        (["evaluate", "no.safetensors"], "is not there"),
        (["evaluate", "there.safetensors"], "must hold weights"),
        (["evaluate", "best.toml", "--split", "train"], "split must be test or val"),
    ]
    for args, named in cases:
        result = cli(*args)
        assert result.exit_code == 2, result.output
        assert named in result.stderr
    assert Path("there.safetensors").read_text() == "mine"
