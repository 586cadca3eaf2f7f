"""A network that begins with trained weights: what it takes, what starts anew, what is recorded."""

import json
from pathlib import Path

import pytest
import tomli_w
import torch
from commands import run as cli
from helpers import write_images
from safetensors.torch import load_file
from tiny_study import TABLES, tiny_run
from torch import Tensor

from dsaccel.config.toml import write_toml
from dsaccel.errors import ConfigError
from dsaccel.nn.initial_weights import Count
from dsaccel.nn.weights import load_weights, named_tensors, read_config, save_weights
from dsaccel.training.descent import evaluate
from dsaccel.training.train import Training

pytestmark = pytest.mark.usefixtures("own_folder")

WEIGHTS = Path("x.safetensors")
SHORT = {**TABLES["training"], "epochs": 1}


def write_config(name: str = "best.toml", **changes) -> str:
    Path(name).write_text(tomli_w.dumps(tiny_run(**changes).model_dump(exclude_none=True)))
    return name


def trained(*, class_names: str | None = None, **changes) -> Training:
    """A network with its weights in a file, which may claim other classes."""
    training = Training(tiny_run(**changes))
    for _ in training.rungs():
        pass
    facts = training.facts
    if class_names is not None:
        facts = facts._replace(class_names=tuple(class_names))
    save_weights(WEIGHTS, training.units, training.run, facts)
    return training


def tensors(training: Training) -> dict[str, Tensor]:
    return {n: t.clone() for n, t in named_tensors(training.units, training.run).items()}


def is_taken(begun: Training) -> dict[str, bool]:
    """Which tensors are the file's; all others are as they are drawn."""
    file, drawn = load_file(WEIGHTS), tensors(Training(begun.run))
    taken: dict[str, bool] = {}
    for name, tensor in tensors(begun).items():
        taken[name] = name in file and torch.equal(tensor, file[name])
        assert taken[name] or torch.equal(tensor, drawn[name]), name
    return taken


# ------------------------------------------------------------------ what is taken


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"mode": "global"},
        {"training": {**TABLES["training"], "schedule": "sequential"}},
        {"network": {"width": 1 / 16, "granularity": "block", "pred_conv": True}},
        {"family": "vgg", "network": {"width": 1 / 16, "num_hidden": 2}},
    ],
)
def test_a_network_that_goes_on_from_weights_starts_with_their_accuracy(changes):
    before = trained(**changes)
    begun = Training(tiny_run(**changes))
    taken = begun.begin_with(WEIGHTS)
    assert all(count.taken == count.total for count in taken[2:])
    read = evaluate(begun.cohort.trie, begun.cohort.learners, begun.data.val_batches())
    heads = read[begun.hierarchy].heads
    assert list(heads) == before.result().head_accuracies[-1]
    assert heads[-1] != 0


@pytest.mark.parametrize("schedule", ["simultaneous", "sequential"])
def test_all_but_the_weights_it_begins_with_is_that_of_its_run(schedule):
    trained(training=SHORT)
    training = {**SHORT, "precision": "bf16", "schedule": schedule}
    run = tiny_run(seed=4, training=training, network={"width": 1 / 16, "dropout": 0.2})
    by_hand, begun = Training(run), Training(run)
    load_weights(WEIGHTS, by_hand.units, run)
    begun.begin_with(WEIGHTS)
    for each in (by_hand, begun):
        for _ in each.rungs():
            pass
    assert by_hand.result().head_accuracies == begun.result().head_accuracies
    mine, theirs = tensors(by_hand), tensors(begun)
    assert [n for n in mine if not torch.equal(mine[n], theirs[n])] == []
    assert not torch.equal(mine["conv1.weight"], load_file(WEIGHTS)["conv1.weight"])


def test_layer_wise_weights_go_on_globally():
    trained()
    begun = Training(tiny_run(mode="global", seed=4))
    taken = begun.begin_with(WEIGHTS)
    assert taken[2:] == (Count(0, 0), Count(0, 0), Count(1, 1))
    assert all(is_taken(begun).values())
    assert taken.body == len(is_taken(begun)) - 2


def test_global_weights_go_on_layer_wise_with_new_heads():
    trained(mode="global")
    begun = Training(tiny_run(seed=4, network={"width": 1 / 16, "granularity": "block"}))
    taken = begun.begin_with(WEIGHTS)
    assert taken[2:] == (Count(0, 5), Count(0, 5), Count(1, 1))
    flags = is_taken(begun)
    assert [n for n in flags if not flags[n]] == [n for n in flags if n.startswith("heads.")]


def test_other_classes_start_new_classifiers_and_keep_the_body():
    trained(class_names="abcdefghij")
    begun = Training(tiny_run(seed=4))
    taken = begun.begin_with(WEIGHTS)
    assert taken[2:] == (Count(0, 9), Count(9, 9), Count(0, 1))
    flags = is_taken(begun)
    anew = [name for name in flags if not flags[name]]
    assert anew == [n for n in flags if ".classifier." in n or n.startswith("fc.")]
    assert len(anew) == 20


def test_a_network_goes_on_with_images_of_more_classes(monkeypatch):
    monkeypatch.setenv("DSACCEL_CACHE", "cache")
    best = write_config(training={**SHORT, "batch_size": 4})
    settings = ("--set", "data.channels=3", "--set", "data.val_fraction=0.25")
    first, second = write_images(Path("first"), "ab"), write_images(Path("second"), "abc")
    sizes = (*settings, "--train-images", "12")
    train(best, "--data", first, *sizes, "-o", WEIGHTS)
    begun = train(best, "--data", second, *sizes, "--init", WEIGHTS, "-o", "y.safetensors")
    heads = "local classifiers 0 of 9, branches of local losses 9 of 9, output layer 0 of 1"
    assert heads in begun.stderr
    assert load_file("y.safetensors")["fc.weight"].shape[0] == 3


def test_another_resolution_keeps_what_does_not_depend_on_it():
    trained()
    begun = Training(tiny_run(seed=4, data={**TABLES["data"], "image_size": 16}))
    taken = begun.begin_with(WEIGHTS)
    flags = is_taken(begun)
    assert all(flags[name] for name in flags if not name.endswith(("classifier.weight", "r.bias")))
    # pooled to as many features, or not
    assert flags["heads.conv1.classifier.weight"]
    assert flags["heads.conv1.classifier.bias"]
    assert not flags["heads.layer2.0.conv1.classifier.weight"]
    # a bias is nothing without its weights, though it has the same shape
    assert not flags["heads.layer2.0.conv1.classifier.bias"]
    assert 0 < taken.classifiers.taken < taken.classifiers.total == 9
    assert taken.branches == Count(9, 9)


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        (
            {"hierarchy": "1-2-2"},
            r"resnet18 1-2-2 .* but is of resnet18 1-2-1 .*: it has no layer3.1",
        ),
        ({"hierarchy": "1-1-1"}, "only it has layer2.1.bn1.bias"),
        ({"hierarchy": "1-2-1-1"}, "it has no layer4.0"),
        (
            {"family": "resnet50"},
            r"layer1.0.conv1.weight has shape .4, 4, 3, 3. there, but .4, 4, 1",
        ),
        ({"family": "vgg"}, "it has no features.0.weight"),
        (
            {"network": {"width": 1 / 8}},
            r"conv1.weight has shape .4, 1, 3, 3. there, but .8, 1, 3, 3",
        ),
        ({"data": {**TABLES["data"], "channels": 3}}, r"conv1.weight has shape .4, 1, 3, 3. there"),
    ],
)
def test_another_body_is_refused_and_none_of_it_taken(changes, difference):
    trained(training=SHORT)
    other = Training(tiny_run(**changes))
    before = tensors(other)
    with pytest.raises(ConfigError, match=difference):
        other.begin_with(WEIGHTS)
    assert all(torch.equal(tensor, before[name]) for name, tensor in tensors(other).items())


def test_another_number_of_hidden_units_is_refused():
    trained(family="vgg", training=SHORT, network={"width": 1 / 16, "num_hidden": 2})
    fewer = Training(tiny_run(family="vgg", network={"width": 1 / 16, "num_hidden": 1}))
    with pytest.raises(ConfigError, match=r"only it has classifier\.4\.bias"):
        fewer.begin_with(WEIGHTS)
    trained(family="vgg", training=SHORT, network={"width": 1 / 16, "num_hidden": 0})
    with pytest.raises(ConfigError, match=r"it has no classifier\.0\.weight"):
        fewer.begin_with(WEIGHTS)


# ------------------------------------------------------------------ the command


def train(*args: str | Path):
    result = cli("train", *args)
    assert result.exit_code == 0, result.output
    return result


def test_weights_record_what_they_began_with():
    best = write_config(training=SHORT)
    train(best, "-o", "a.safetensors")
    result = train(best, "--mode", "global", "--init", "a.safetensors", "-o", WEIGHTS, "--json")
    assert (
        "begins with a.safetensors: body whole (66 tensors), output layer 1 of 1" in result.stderr
    )
    shown = json.loads(result.stdout)
    reading = json.loads(cli("evaluate", "a.safetensors", "--split", "val", "--json").stdout)
    recorded = read_config(WEIGHTS).result
    assert recorded is not None
    for record in (shown, recorded):
        assert record["init"] == "a.safetensors"
        assert record["init_weights"] == reading["weights"]
        assert record["val_may_be_known"] is False
    assert "init" not in (read_config(Path("a.safetensors")).result or {})
    assert train(best, "--init", "a.safetensors", "--quiet").stderr == ""


def test_a_config_that_began_with_weights_is_not_trained_without():
    best = write_config(training=SHORT)
    train(best, "-o", "a.safetensors")
    train(best, "--init", "a.safetensors", "-o", WEIGHTS)
    write_toml(Path("begun.toml"), read_config(WEIGHTS))
    refused = cli("train", "begun.toml")
    assert refused.exit_code == 2
    assert (
        "begun.toml needs the weights that its result began with, a.safetensors" in refused.stderr
    )
    assert "not the weights" not in train("begun.toml", "--init", "a.safetensors").stderr
    train(best, "--seed", "4", "-o", "a.safetensors", "--force")
    again = train("begun.toml", "--init", "a.safetensors")
    assert "these are not the weights that the config's result began with" in again.stderr


def test_weights_go_on_in_their_own_file_if_forced():
    best = write_config(training=SHORT)
    train(best, "-o", WEIGHTS)
    first, mine = load_file(WEIGHTS), WEIGHTS.read_bytes()
    refused = cli("train", best, "--init", WEIGHTS, "-o", WEIGHTS)
    assert refused.exit_code == 2
    assert "exists already" in refused.stderr
    assert WEIGHTS.read_bytes() == mine
    train(best, "--init", WEIGHTS, "-o", "other.safetensors")
    train(best, "--init", WEIGHTS, "-o", WEIGHTS, "--force")
    own, other = load_file(WEIGHTS), load_file("other.safetensors")
    assert all(torch.equal(own[name], other[name]) for name in first)
    assert not torch.equal(own["conv1.weight"], first["conv1.weight"])


def test_what_cannot_be_begun_with_is_refused_before_the_images_are_read(monkeypatch):
    best = write_config(training=SHORT)
    Path("bad.safetensors").write_text("mine")
    monkeypatch.setattr(
        "dsaccel.training.workbench.load_data", lambda *_, **__: pytest.fail("read")
    )
    for path, named in (
        ("no.safetensors", "is not there"),
        ("bad.safetensors", "must hold weights"),
    ):
        result = cli("train", best, "--init", path)
        assert result.exit_code == 2, result.output
        assert named in result.stderr


def test_another_body_is_refused_before_training(monkeypatch):
    train(write_config(training=SHORT), "-o", WEIGHTS)
    monkeypatch.setattr("dsaccel.training.train.Training.rungs", lambda _: pytest.fail("trained"))
    deeper = write_config("deeper.toml", hierarchy="1-2-2")
    result = cli("train", deeper, "--init", WEIGHTS, "-o", "y.safetensors")
    assert result.exit_code == 2
    assert "it has no layer3.1.conv1.weight" in result.stderr
    assert not Path("y.safetensors").exists()


def test_images_held_out_that_may_have_been_trained_on_are_told_and_recorded():
    best = write_config(training=SHORT)
    known = "images held out now may be known"
    train(best, "-o", "a.safetensors")
    # the very same images and split
    assert known not in train(best, "--init", "a.safetensors").stderr
    other = train(best, "--init", "a.safetensors", "--seed", "4", "-o", WEIGHTS)
    assert known in other.stderr
    # what went on from there is no better, though its split is the same
    again = train(best, "--init", WEIGHTS, "--seed", "4", "--json")
    assert json.loads(again.stdout)["val_may_be_known"] is True
    # of more images another part is held out, whatever the seed
    folder = write_images(Path("images"))
    settings = ["--data", folder, "--set", "data.train_images=8", "--set", "data.val_fraction=0.25"]
    train(best, *settings, "-o", "b.safetensors")
    first = Path("images/train/a/0.png")
    first.with_name("9.png").write_bytes(first.read_bytes())
    more = train(best, *settings, "--init", "b.safetensors", "--json")
    assert known in more.stderr
    assert json.loads(more.stdout)["val_may_be_known"] is True
    # of other classes nothing is known
    trained(training=SHORT, class_names="abcdefghij")
    assert known not in train(best, "--init", WEIGHTS, "--seed", "4").stderr
