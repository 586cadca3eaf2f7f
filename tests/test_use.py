"""What is done with a trained network: predictions by class, ONNX, torch.export, features."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import run
from helpers import write_images
from tiny_study import searched

import dsaccel
from dsaccel.errors import ConfigError
from dsaccel.nn import exports

pytestmark = pytest.mark.long

SMALL = ("--width", "0.0625", "--epochs", "2", "--set", "training.batch_size=8", "--threads", "1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Weights of a network that was trained on images of three classes."""
    folder = tmp_path_factory.mktemp("use")
    write_images(folder / "photos", "abc")
    options = ("--data", str(folder / "photos"), "-o", str(folder / "model.safetensors"), "-q")
    assert run("train", "1-1-1", *options, *SMALL).exit_code == 0
    return folder


@pytest.fixture
def weights(folder, monkeypatch) -> str:
    monkeypatch.chdir(folder)
    return "model.safetensors"


def test_predictions_say_what_the_accuracy_is_made_of(weights, tmp_path):
    told = tmp_path / "told.csv"
    options = ("--per-class", "--confusion", "--predictions", str(told))
    result = json.loads(run("evaluate", weights, *options, "--json").stdout)
    confusion = np.array(result["confusion"])
    assert confusion.trace() / confusion.sum() == pytest.approx(result["accuracy"])
    with told.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == result["num_images"] == confusion.sum()
    for index, (name, of_class) in enumerate(result["per_class"].items()):
        own = [row for row in rows if row["class"] == name]
        right = sum(row["predicted"] == name for row in own)
        assert of_class["images"] == len(own) == confusion[index].sum()
        assert of_class["recall"] == pytest.approx(right / len(own))
        taken = sum(row["predicted"] == name for row in rows)
        assert of_class["precision"] == pytest.approx(right / max(1, taken))
    sums = [sum(float(row[name]) for name in "abc") for row in rows]
    assert sums == pytest.approx([1] * len(rows), abs=1e-5)
    shown = run("evaluate", weights, "--per-class", "--confusion").stdout
    assert "precision" in shown
    refused = run("evaluate", weights, "--predictions", str(told))
    assert (refused.exit_code, "must be a new .csv file" in refused.stderr) == (2, True)


@pytest.mark.filterwarnings("ignore:The given buffer is not writable:UserWarning")
def test_onnx_and_torch_export_give_the_networks_logits_for_any_batch(weights, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    onnx, pt2 = tmp_path / "model.onnx", tmp_path / "model.pt2"
    result = run("export", weights, "--onnx", str(onnx), "--torch", str(pt2))
    assert result.exit_code == 0, result.output
    images = torch.rand(5, 3, 8, 8)
    own = dsaccel.load_network(weights)(images).detach()
    session = runtime.InferenceSession(str(onnx))
    (told,) = session.run(["logits"], {"images": images.numpy()})
    assert np.allclose(told, own, atol=1e-4)
    module = torch.export.load(pt2).module()
    assert torch.allclose(module(images), own, atol=1e-4)
    refused = run("export", weights, "--onnx", str(onnx))
    assert (refused.exit_code, "exists already" in refused.stderr) == (2, True)


def test_a_network_is_exported_up_to_a_head(weights, tmp_path):
    pt2 = tmp_path / "short.pt2"
    result = run("export", weights, "--up-to", "s2.1 conv 1", "--torch", str(pt2))
    assert result.exit_code == 0, result.output
    images, network = torch.rand(3, 3, 8, 8), dsaccel.load_network(weights)
    own = network.heads(images)[network.head_names.index("s2.1 conv 1")]
    assert torch.allclose(torch.export.load(pt2).module()(images), own, atol=1e-4)


def test_an_export_that_is_another_network_is_refused_and_not_written(weights, monkeypatch):
    monkeypatch.setattr(exports, "TOLERANCE", -1.0)
    with pytest.raises(ConfigError, match="must have the network's own logits"):
        exports.write_torch(dsaccel.load_network(weights), Path("x.pt2"))
    assert not Path("x.pt2").exists()


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ((), "--onnx FILE or --torch FILE must be asked for"),
        (("--onnx", "x.bin"), "must end with .onnx"),
        (("--torch", "nowhere/x.pt2"), "folder nowhere must exist"),
        (("--torch", "x.pt2", "--up-to", "s9"), "a head must be one of stem, s1.1 conv 1,"),
    ],
)
def test_a_wrong_export_is_one_line(weights, args, told):
    refused = run("export", weights, *args)
    assert (refused.exit_code, told in refused.stderr) == (2, True)


def test_features_are_described_as_timm_describes_them(weights):
    network = dsaccel.load_network(weights)
    info = network.feature_info
    assert [each["stage"] for each in info] == [1, 2, 3]
    assert [each["reduction"] for each in info] == [1, 2, 4]
    images = torch.rand(2, 3, 8, 8)
    body = network.features_only()
    features = body(images)
    for each, feature in zip(info, features, strict=True):
        side = 8 // each["reduction"]
        assert feature.shape == (2, each["num_chs"], side, side)
    assert torch.equal(features[-1], network.layers(images)[-1])


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
def test_hooks_see_what_units_pass_on_and_what_cannot_be_scripted_is_a_sentence(weights):
    network, seen = dsaccel.load_network(weights), []
    network.units[0].register_forward_hook(lambda *told: seen.append(told[2]))
    network(torch.rand(2, 3, 8, 8))
    assert seen
    with pytest.raises(ConfigError, match=r"torch\.export"):
        torch.jit.script(network)
    with pytest.raises(ConfigError, match="feature_info"):
        torch.fx.symbolic_trace(network)


def test_two_studies_are_compared_hierarchy_by_hierarchy(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    full = {"pruning": {"kind": "none"}, "budget": {"n_trials": 3, "cohort_size": 3}}
    first = searched("first", **full)
    second = searched("second", **full, training={"epochs": 2})
    told = json.loads(run("compare", "first", "second", "--json").stdout)
    assert told["settings"] == {"training.epochs": [4, 2]}
    assert told["same_images"]
    values = [
        {t.user_attrs["hierarchy"]: t.value for t in search.study.trials}
        for search in (first, second)
    ]
    both = values[0].keys() & values[1].keys()
    assert told["shared"] == {name: [values[0][name], values[1][name]] for name in both}
    shown = run("compare", "first", "second").stdout
    assert "training.epochs" in shown
    assert "one seed each" in shown


def test_a_landscape_answers_what_was_measured_and_nothing_else():
    path = Path(__file__).parents[1] / "studies" / "landscapes" / "cifar10-resnet18.csv.gz"
    landscape = dsaccel.read_landscape(path)
    seed, of_seed = next(iter(landscape.accuracies.items()))
    hierarchy, steps = next(iter(of_seed.items()))
    last = landscape.num_steps
    told = landscape.query(str(hierarchy), seed=seed, epoch=last)
    assert told == landscape.objective(seed, hierarchy) == steps[last][-1]
    assert landscape.query(hierarchy, seed=seed, epoch=1, exit="head") == steps[1][-2]
    for wrong_seed, epoch in ((-1, 1), (seed, last + 1)):
        with pytest.raises(ConfigError, match="a query must be of what was measured"):
            landscape.query(hierarchy, seed=wrong_seed, epoch=epoch)
