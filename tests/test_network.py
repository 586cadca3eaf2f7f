"""A network as one module, for other programs."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tomli_w
import torch
from helpers import CPU, num_undecided
from safetensors.torch import load_file, save_file
from tiny_study import tiny_run
from torch import nn

import dsaccel
from dsaccel.config.study import NetworkConfig
from dsaccel.config.toml import write_toml
from dsaccel.data.load import load_test
from dsaccel.errors import ConfigError
from dsaccel.families import build_plan
from dsaccel.nn.network import build_network, load_network
from dsaccel.nn.units import build_units
from dsaccel.nn.weights import ImageFacts, save_weights
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.training.descent import evaluate
from dsaccel.training.train import Training

FACTS = ImageFacts((0.4, 0.5, 0.6), (0.2, 0.3, 0.4), tuple("abcd"), "hash")


@pytest.fixture
def trained(tmp_path):
    """A trained network, and the file of its weights."""

    def train(**changes) -> tuple[Training, Path]:
        training = Training(tiny_run(**changes))
        for _ in training.rungs():
            pass
        path = tmp_path / "x.safetensors"
        save_weights(path, training.units, training.run, training.facts)
        return training, path

    return train


@pytest.mark.parametrize(
    ("images", "got"),
    [
        (torch.zeros(2, 3, 8, 8), r"float32 \(2, 3, 8, 8\)"),
        (torch.zeros(1, 8, 8), r"float32 \(1, 8, 8\)"),
        (torch.zeros(2, 1, 9, 9), r"float32 \(2, 1, 9, 9\)"),
        (torch.zeros(2, 1, 8, 8).double(), r"float64 \(2, 1, 8, 8\)"),
        (torch.zeros(2, 1, 8, 8, dtype=torch.uint8), r"uint8 \(2, 1, 8, 8\)"),
        (torch.full((2, 1, 8, 8), 255.0), r"255..255"),
        (torch.full((2, 1, 8, 8), torch.nan), r"nan..nan"),
        (np.zeros((2, 1, 8, 8), np.float32), r"float32 \(2, 1, 8, 8\)"),
    ],
)
def test_images_that_a_network_does_not_take_are_refused_with_those_it_takes(trained, images, got):
    network = load_network(trained(training={"epochs": 1})[1])
    expected = r"a batch of torch.float32 \('B', 1, 8, 8\) within 0..1, but got "
    with pytest.raises(ConfigError, match=expected + r"(torch\.)?" + got):
        network(images)
    assert network(torch.rand(0, 1, 8, 8)).shape == (0, 10)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"mode": "global"},
        {"network": {"width": 1 / 16, "granularity": "block"}},
        {"family": "vgg", "hierarchy": "1-2-1"},
    ],
)
def test_a_loaded_network_repeats_the_accuracies_of_all_heads_on_raw_images(trained, changes):
    training, path = trained(**changes)
    images = load_test(training.data)
    expected = evaluate(training.cohort.trie, training.cohort.learners, images.batches())
    network = load_network(path)
    raw = images.pixels.permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        heads, logits = network.heads(raw), network(raw)
    for out, accuracy in zip(heads, expected[training.hierarchy].heads, strict=True):
        off = (out.argmax(dim=1) == images.labels).sum().item() - accuracy * len(images.labels)
        assert abs(off) <= num_undecided(out) + 1e-9 <= 5
    assert torch.equal(logits, heads[-1])
    assert network.class_names == tuple("0123456789")


def test_images_are_normalised_as_in_training(trained):
    training, path = trained()
    pixels, (x, _) = training.data.val.pixels, next(training.data.val_batches())
    raw = pixels[: len(x)].permute(0, 3, 1, 2).float() / 255
    network = load_network(path)
    torch.testing.assert_close((raw - network.mean) / network.std, x, rtol=1e-5, atol=1e-5)


def test_features_are_what_the_heads_read(trained):
    _, path = trained()
    network = load_network(path)
    images = torch.rand(2, 1, 8, 8)
    features = network.features(images)
    shapes = [tuple(f.shape) for f in features]
    maps = [(2, 4, 8, 8)] * 3 + [(2, 8, 4, 4)] * 4 + [(2, 16, 2, 2)] * 2
    assert shapes == [*maps, (2, 16, 2, 2)]
    first = network.units[0].head.logits(features[0])  # pyright: ignore
    assert torch.equal(first, network.heads(images)[0])


@pytest.mark.parametrize("changes", [{}, {"family": "vgg", "hierarchy": "1-2-1"}])
def test_a_network_up_to_a_head_says_what_that_head_says(trained, changes):
    _, path = trained(**changes)
    network = load_network(path)
    images = torch.rand(4, 1, 8, 8)
    heads = network.heads(images)
    for number, name in enumerate(network.head_names):
        shorter = network.up_to(name)
        assert torch.equal(shorter(images), heads[number])
        assert shorter.head_names == network.head_names[: number + 1]
        assert shorter.units[number] is network.units[number]
    assert len(network.units) == len(network.head_names) == len(heads)
    assert network.up_to(network.head_names[0]).head_names == network.head_names[:1]
    with pytest.raises(ConfigError, match=r"a head must be one of s\S+, .*, but got 's9'"):
        network.up_to("s9")


def test_a_network_up_to_a_head_that_was_not_written_is_refused(tmp_path):
    training = Training(tiny_run())
    path = tmp_path / "x.safetensors"
    save_weights(path, training.units, training.run, training.facts, num_heads=1)
    with pytest.raises(ConfigError, match="weights must hold the head stem"):
        load_network(path).up_to("stem")


def test_gradients_reach_the_first_weights_through_all_units(trained):
    _, path = trained()
    network = load_network(path).train()
    network(torch.rand(8, 1, 8, 8)).square().sum().backward()
    convolutions = [m for n, m in network.named_modules() if n.endswith(".weight")]
    assert len(convolutions) == 9
    assert all(m.weight.grad.abs().sum() > 0 for m in convolutions)  # pyright: ignore


def test_channels_are_dropped_in_training_mode_alone(tmp_path):
    run = tiny_run(
        network={"width": 1 / 16, "dropout": 0.5},
        data={"name": "digits", "image_size": 8, "channels": 1},
    )
    write_toml(tmp_path / "x.toml", run)
    network = build_network(tmp_path / "x.toml", num_classes=4)
    assert network.training
    images = torch.rand(8, 1, 8, 8)
    torch.manual_seed(0)
    one = network.features(images)[-1]
    assert not torch.equal(one, network.features(images)[-1])
    torch.manual_seed(0)
    assert torch.equal(one, network.features(images)[-1])
    network.eval()
    assert torch.equal(network.features(images)[-1], network.features(images)[-1])


def test_a_config_gives_the_network_that_training_starts_from(tmp_path):
    training = Training(tiny_run())
    write_toml(tmp_path / "x.toml", training.run)
    network = build_network(tmp_path / "x.toml", num_classes=10)
    mine = [t for unit in training.units for t in unit.state_dict().values()]
    theirs = [t for unit in network.units for t in unit.state_dict().values()]
    assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))
    assert build_network(tmp_path / "x.toml", num_classes=3)(torch.rand(2, 1, 8, 8)).shape == (2, 3)


def test_what_cannot_be_loaded_or_built_says_why(tmp_path, trained):
    _, path = trained()
    bad = tmp_path / "bad.safetensors"
    with pytest.raises(ConfigError, match="is not there; write them with"):
        load_network(bad)
    save_file(load_file(path), bad, {"config": tiny_run().model_dump_json()})
    with pytest.raises(ConfigError, match="its metadata have no 'images'"):
        load_network(bad)
    for images in ("{", "[]", '{"mean": [0.5]}', '{"mean": 1, "std": 1, "class_names": []}'):
        metadata = {"config": tiny_run().model_dump_json(), "images": images}
        save_file(load_file(path), bad, metadata)
        with pytest.raises(ConfigError, match="its metadata about the images are damaged"):
            load_network(bad)
    config = tmp_path / "x.toml"
    write_toml(config, tiny_run())
    with pytest.raises(ConfigError, match=r"must set data\.image_size and data\.channels"):
        build_network(config, num_classes=10)
    write_toml(config, tiny_run(data={"name": "digits", "image_size": 8, "channels": 1}))
    with pytest.raises(ConfigError, match="num_classes must be at least 2, but got 1"):
        build_network(config, num_classes=1)
    with pytest.raises(ConfigError, match="cannot be read"):
        build_network(tmp_path / "none.toml", num_classes=10)


def test_a_network_is_saved_and_moved_as_any_module(trained):
    _, path = trained()
    network, other = load_network(path), load_network(path)
    for parameter in other.parameters():
        nn.init.zeros_(parameter)
    other.load_state_dict(network.state_dict())
    images = torch.rand(4, 1, 8, 8)
    assert torch.equal(network(images), other(images))
    double = network.to(CPU, torch.float64)
    assert double(images.double()).dtype == torch.float64


@pytest.mark.long
def test_importing_the_package_imports_nothing_heavy():
    code = (
        "import sys, dsaccel; assert 'torch' not in sys.modules; "
        "dsaccel.load_network; assert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="has no attribute 'load_net'"):
        dsaccel.load_net  # noqa: B018  # pyright: ignore


@pytest.mark.long
def test_the_examples_of_the_documentation_run(trained, tmp_path, monkeypatch, capsys):
    text = (Path(__file__).parents[1] / "docs" / "weights.md").read_text()
    evaluated, built, torchvisions = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    training, path = trained()
    path.rename("model.safetensors")
    Path("best.toml").write_text(tomli_w.dumps(training.run.model_dump(exclude_none=True)))
    names: dict = {}
    exec(evaluated, names)
    assert names["logits"].shape == (16, 10)
    assert len(names["by_depth"]) == len(names["features"]) == 10
    assert len(capsys.readouterr().out.split(",")) == 16
    exec(built, names)
    # at width 1, as the example says
    run = tiny_run(hierarchy="1-1-2-4", network={})
    hierarchy = Hierarchy.parse(run.hierarchy)
    plan = build_plan("resnet18", hierarchy, NetworkConfig(), channels=3, side=8, num_classes=10)
    units = [unit for segment in plan.segments for unit in build_units(segment, 1)]
    data = run.data.model_copy(update={"image_size": 8, "channels": 3})
    facts = FACTS._replace(class_names=tuple("0123456789"))
    run = run.model_copy(update={"data": data})
    save_weights(Path("resnet.safetensors"), units, run, facts)
    exec(torchvisions, names)
    images = torch.rand(4, 3, 8, 8)
    ours = load_network("resnet.safetensors")
    mean, std = (torch.tensor(levels)[:, None, None] for levels in (facts.mean, facts.std))
    with torch.no_grad():
        # the output layer starts at zero: what it reads is compared
        ours.units[-1].head.classifier.weight.fill_(1e-3)  # pyright: ignore
        ours.units[-1].head.classifier.weight[1].neg_()  # pyright: ignore
        resnet = names["resnet"].eval()
        resnet.fc.weight.copy_(ours.units[-1].head.classifier.weight)  # pyright: ignore
        theirs = resnet((images - mean) / std)
        torch.testing.assert_close(ours(images), theirs, rtol=1e-3, atol=1e-4)
