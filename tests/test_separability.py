"""How well classes can be told apart at each layer, layer-wise and under back-propagation."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from dsaccel.cli.app import app
from dsaccel.config.study import RuntimeConfig
from dsaccel.nn.network import load_network
from dsaccel.nn.units import layer_outputs
from dsaccel.paper.jobs import units_of
from dsaccel.paper.layers import LayersOfRow, layers_of
from dsaccel.paper.rows import rows_of
from dsaccel.paper.scale import SCALES, Scale, open_sources
from dsaccel.paper.separability import Measured, effective_rank, measure, scatter_ratio
from dsaccel.paper.train import Reproduction
from dsaccel.spec.unit_names import head_names, layer_names
from dsaccel.study.folder import StudyDir
from dsaccel.training.train import Training

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("own_folder")]

MINUTE = Scale(width=1 / 64, image_size=8, train_images=60, epochs=2, batch_size=20)
CPU = RuntimeConfig(device="cpu", threads=1)


def reproduction(measured_epochs: tuple[int, ...] = (1, 2)) -> Reproduction:
    rows = rows_of("separability", ("ResNet18_r1",))
    return Reproduction(
        rows,
        MINUTE,
        open_sources(rows, MINUTE, data="digits"),
        directory=StudyDir("layers"),
        num_seeds=1,
        runtime=CPU,
        measured_epochs=measured_epochs,
    )


def training(mode) -> Training:
    made = reproduction()
    config = MINUTE.run_config(made.rows[0], 1, "digits", CPU)
    return Training(config.model_copy(update={"mode": mode}))


def test_the_scatter_ratio_is_that_of_its_closed_form():
    # two classes of two images: means 1 and 5, around 3; each image 1 away from its mean
    x_ND = np.array([[0.0], [2.0], [4.0], [6.0]])
    assert scatter_ratio(x_ND, np.array([0, 0, 1, 1])) == pytest.approx(16 / 4)
    # shifting or turning the space changes nothing; labels may have gaps
    x_ND = np.random.default_rng(0).normal(size=(50, 6))
    y_N = np.arange(50) % 3
    turned, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(6, 6)))
    expected = scatter_ratio(x_ND, y_N)
    assert scatter_ratio(x_ND @ turned + 7, 5 * y_N) == pytest.approx(expected)


def test_the_effective_rank_counts_directions_of_equal_strength():
    rng = np.random.default_rng(0)
    basis, _ = np.linalg.qr(rng.normal(size=(40, 5)) - rng.normal(size=(40, 5)).mean(axis=0))
    basis -= basis.mean(axis=0)
    left, _, right = np.linalg.svd(basis, full_matrices=False)
    for num in (1, 3, 5):
        x_ND = left[:, :num] @ right[:num] + 7  # centred columns: the mean adds nothing
        assert effective_rank(x_ND) == pytest.approx(num)
    # two directions, one three times as strong: exp of the entropy of (1/4, 3/4)
    uneven = left[:, :2] * [1.0, 3.0] @ right[:2]
    assert effective_rank(uneven) == pytest.approx(4 / 3**0.75)
    assert effective_rank(np.ones((9, 4))) == 0


@pytest.mark.parametrize("mode", ["local", "global"])
def test_all_layers_have_a_name_and_features_in_both_modes(mode):
    trained = training(mode)
    list(trained.rungs())
    names = layer_names(trained.plan)
    assert names[:3] == ("stem", "s1.1 conv 1", "s1.1 conv 2")
    assert len(names) == 9
    assert head_names(trained.plan) == ((*names, "output") if mode == "local" else ("output",))
    outputs = layer_outputs(trained.units, torch.zeros(2, 1, 8, 8))
    assert [tuple(h.shape[2:]) for h in outputs] == [(8, 8)] * 3 + [(4, 4)] * 2 + [(2, 2)] * 2 + [
        (1, 1)
    ] * 2


def test_an_exported_network_shows_its_layers(tmp_path):
    path = tmp_path / "network.safetensors"
    write_study = ["train", "1-1-1-1", "--mode", "global", "--data", "digits", "--width", "0.0625"]
    run = CliRunner().invoke(app, [*write_study, "--epochs", "1", "-q", "-o", str(path)])
    assert run.exit_code == 0, run.output
    network = load_network(path)
    images = torch.rand(3, 1, 8, 8)
    layers = network.layers(images)
    assert len(layers) == 9
    assert len(network.features(images)) == 1
    assert torch.equal(network.features(images)[0], layers[-1])


def test_a_probe_tells_apart_what_can_be_told_apart():
    trained = training("local")
    data = trained.data
    levels = torch.arange(10, dtype=torch.uint8) * 25
    told = replace(
        data,
        train_pixels=levels[data.train_labels][:, None, None, None].expand_as(data.train_pixels),
        val=replace(
            data.val, pixels=levels[data.val.labels][:, None, None, None].expand_as(data.val.pixels)
        ),
    )
    lost = replace(told, val=replace(told.val, pixels=torch.zeros_like(told.val.pixels)))
    for learner in trained.cohort.learners.values():
        learner.start_evaluation()
    assert measure(trained.units, told).probe[0] > 0.8
    assert measure(trained.units, lost).probe[0] < 0.3


def test_layers_are_measured_as_the_epochs_pass_and_change_no_training():
    made = reproduction()
    list(made.run())
    plain = reproduction(measured_epochs=())
    assert not plain.jobs()  # the networks are the same ones
    row = made.rows[0]
    accuracies = made.trained(row, "local", 1)
    assert accuracies is not None
    alone = training("local")
    list(alone.rungs())
    assert accuracies.accuracies == alone.result().head_accuracies
    cohort = alone.cohort
    assert made.measured(row, "local", 1)[2] == measure(units_of(cohort, row.hierarchy), alone.data)
    assert made.measured(row, "local", 1)[1] != made.measured(row, "local", 1)[2]


def test_networks_that_were_trained_before_are_trained_again_to_be_measured():
    list(reproduction(measured_epochs=()).run())
    made = reproduction()
    assert len(made.jobs()) == 2
    list(made.run())
    assert not reproduction().jobs()
    (layers,) = layers_of(made)
    assert layers.layers[0] == "stem"
    assert [len(layers.by_layer("global", 2, "probe"))] == [9]


def test_the_layer_from_which_on_layer_wise_training_falls_behind():
    def measured(*probe: float) -> dict[int, Measured]:
        return {2: Measured(list(probe), [0.0] * len(probe), [1.0] * len(probe))}

    row = rows_of("separability", ("ResNet18_r1",))[0]
    found = LayersOfRow(
        row,
        ("a", "b", "c"),
        (2,),
        {
            "local": {1: measured(0.5, 0.4, 0.4), 2: measured(0.5, 0.5, 0.4)},
            "global": {1: measured(0.3, 0.5, 0.6), 2: measured(0.4, 0.5, 0.5)},
        },
    )
    assert found.lost == 1
    difference = found.difference(0)
    assert difference is not None
    assert (difference.mean, difference.n) == (pytest.approx(0.15), 2)


def test_the_command_writes_a_page_and_files(monkeypatch):
    monkeypatch.setitem(SCALES, "tiny", MINUTE)
    args = ("reproduce", "separability", "--scale", "tiny", "--data", "digits", "--threads", "1")
    made = CliRunner().invoke(app, [*args, "--rows", "ResNet18_r1", "--seeds", "2"])
    assert made.exit_code == 0, made.output
    assert "ResNet18_r1 1-1-1-1: layer-wise probes lead back-propagation's by" in made.stdout
    page = Path("studies/paper-tiny/separability.html").read_text()
    assert all(f'id="{name}"' in page for name in ("probes", "time", "scatter", "rank"))
    lines = Path("studies/paper-tiny/separability.csv").read_text().splitlines()
    assert len(lines) == 1 + 2 * 2 * 2 * 9
    again = CliRunner().invoke(app, [*args, "--rows", "ResNet18_r1", "--seeds", "2", "--json"])
    summary = json.loads(again.stdout)
    assert summary["rows"][0]["layers"][0]["layer"] == "stem"
