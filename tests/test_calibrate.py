"""`dsaccel calibrate`: the same hierarchies trained with several seeds, and what is written."""

import json
import tomllib
from itertools import product
from pathlib import Path

import pytest
from commands import run
from tiny_study import write_study

from dsaccel.analysis.landscape_files import read_landscape
from dsaccel.spec.hierarchy import Hierarchy

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("own_folder")]

SHORT = {"training": {"epochs": 2}, "data": {"train_images": 32}}


def calibrate(*args):
    return run("calibrate", *map(str, args))


def test_the_whole_space_is_trained_with_three_seeds_and_goes_on_where_it_was_cut_off():
    write_study(Path("studies/tiny.toml"), budget={"n_trials": 8}, **SHORT)
    result = calibrate("tiny", "--json")
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert summary["seeds"] == [1, 2, 3]
    assert summary["num_hierarchies"] == 8
    assert "8 hierarchies (the whole space), 3 seeds" in result.stderr
    landscape = read_landscape(Path(summary["files"]["landscape"]))
    assert set(landscape.networks) == set(map(Hierarchy, product((1, 2), repeat=3)))
    assert landscape.config.pruning.kind == "none"
    settings = tomllib.loads(Path(summary["files"]["pruning"]).read_text())
    assert settings["pruning"] == summary["pruning"]
    assert "Plotly.newPlot(" in Path(summary["files"]["page"]).read_text()
    again = calibrate("tiny")
    assert again.exit_code == 0
    # nothing was trained again: no rung is shown
    assert "search epoch" in result.stderr
    assert "search epoch" not in again.stderr
    assert "studies/tiny-calibrate/pruning.toml" in again.stdout
    of_file = calibrate("studies/tiny-calibrate/landscape.csv.gz", "--json")
    assert {**json.loads(of_file.stdout), "files": 0} == {**summary, "files": 0}
    assert json.loads(of_file.stdout)["files"] == {}


def test_a_sample_is_the_same_for_every_seed_and_holds_no_harvested_ones():
    space = {"num_blocks": [[1, 3]] * 3}
    write_study(Path("studies/tiny.toml"), space=space, budget={"n_trials": 5}, **SHORT)
    result = calibrate("tiny", "--seeds", 3, "--seed", 7, "--json")
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert "5 hierarchies (a sample of the space)" in result.stderr
    assert summary["seeds"] == [7, 8, 9]
    assert summary["num_hierarchies"] == 5
    landscape = read_landscape(Path(summary["files"]["landscape"]))
    for table in landscape.accuracies.values():
        assert list(table) == sorted(landscape.networks)
    # a reference of the study is not drawn for being one
    assert set(landscape.config.references) == set(map(str, landscape.networks))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("tiny", "--seeds", 2), "--seeds"),
        (("nowhere",), "study must be a TOML file"),
        (("x.csv",), "x.csv cannot be read"),
        (("tiny", "--set", "space.settings.width.choices=[0.1]"), "also searches width; search a"),
        (("tiny", "-o", "nowhere"), "output must be a folder that exists, but got nowhere"),
    ],
)
def test_what_cannot_be_calibrated_is_refused(args, message):
    write_study(Path("studies/tiny.toml"))
    result = calibrate(*args)
    assert result.exit_code == 2
    assert message in result.stderr
    assert [path.name for path in Path("studies").iterdir()] == ["tiny.toml"]
