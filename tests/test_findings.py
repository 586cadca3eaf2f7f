"""The figures of README's table of findings, taken again from the files that ship."""

import csv
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from scipy import stats

from dsaccel.analysis.landscape_files import read_landscape

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[1]
TABLE = (ROOT / "README.md").read_text(encoding="utf-8").partition("## What was found")[2]
TABLE = " ".join(TABLE.partition("\n## ")[0].split())
LAST = {"": 12, "-sequential": 4}
Where = Literal["layer", "head", "stem"]


@cache
def measured(where: Where, kind: str = "") -> dict[str, Any]:
    """Hierarchy -> points at the end, by seed."""
    landscape = read_landscape(ROOT / f"studies/landscapes/cifar10-resnet18{kind}.csv.gz")
    reads = {
        str(h): [landscape.read(seed, h, LAST[kind]) for seed in landscape.accuracies]
        for h in landscape.networks
    }
    return {
        h: 100 * np.array([r.heads[0] if where == "stem" else r.exits[where] for r in by_seed])
        for h, by_seed in reads.items()
    }


def signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


@pytest.mark.parametrize("where", ["layer", "head"])
def test_what_a_block_more_costs(where: Where):
    accuracies = measured(where)
    blocks = np.array([[int(n) for n in h.split("-")] for h in accuracies])
    points = np.stack(list(accuracies.values()))
    slopes = [float(np.polyfit(blocks[:, stage], points.mean(axis=1), 1)[0]) for stage in range(4)]
    assert ", ".join(map(signed, slopes)) in TABLE


@pytest.mark.parametrize("where", ["layer", "head"])
def test_the_best_of_81_against_the_standard(where: Where):
    accuracies = measured(where)
    means = {h: points.mean() for h, points in accuracies.items()}
    assert max(means, key=means.__getitem__) == ("1-1-1-3" if where == "layer" else "1-1-1-1")
    lead = accuracies["1-1-1-3"] - accuracies["2-2-2-2"]
    low, high = stats.t.interval(0.95, 2, lead.mean(), stats.sem(lead))
    told = f"{means['1-1-1-3']:.2f} and {means['2-2-2-2']:.2f} %: {signed(lead.mean())} points"
    assert f"{told} [{low:.2f}, {high:.2f}]".replace("[-", "[−") in TABLE


def test_how_many_networks_are_read_below_their_stem():
    stem, num = measured("stem"), {}
    for where in ("layer", "head"):
        num[where] = sum(int((points < stem[h]).sum()) for h, points in measured(where).items())
    assert f"lower than the stem's head in {num['layer']} of 243" in TABLE
    assert f"in {num['head']} of 243" in TABLE


def test_how_far_two_seeds_agree():
    points = np.stack(list(measured("layer").values()))
    pairs = combinations(range(3), 2)
    taus: list[Any] = [stats.kendalltau(points[:, a], points[:, b])[0] for a, b in pairs]
    assert f"τ {np.mean(taus):.2f}" in TABLE
    assert len({int(best) for best in points.argmax(axis=0)}) == 3


def test_how_well_the_shallow_blocks_foretell_a_run():
    accuracies = measured("layer")
    shallow = [-sum(int(n) for n in h.split("-")[:2]) for h in accuracies]
    points = np.stack(list(accuracies.values()))
    found: list[Any] = [stats.kendalltau(shallow, run)[0] for run in points.T]
    taus = np.array(found)
    low, high = stats.t.interval(0.95, 2, taus.mean(), stats.sem(taus))
    assert f"minus the shallow blocks {taus.mean():.2f} [{low:.2f}, {high:.2f}]" in TABLE


def test_what_the_sequential_schedule_finds():
    points = {h: by_seed[0] for h, by_seed in measured("layer", "-sequential").items()}
    ranked = sorted(points, key=lambda h: -points[h])
    best, rank = ranked[0], ranked.index("2-2-2-2") + 1
    assert f"{best} {points[best]:.2f} %; 2-2-2-2 {points['2-2-2-2']:.2f} %, rank {rank}" in TABLE


def test_where_the_papers_recipe_ends_at_a_small_scale():
    with (ROOT / "studies/results/paper-small/table5.csv").open() as file:
        last = [row for row in csv.DictReader(file) if row["epoch"] == "20"]
    ends = [(row["mode"], 100 * float(row["accuracy"])) for row in last if row["head"] == "output"]
    local = [points for mode, points in ends if mode == "local"]
    ((_, trained),) = [end for end in ends if end[0] == "global"]
    assert len(local) == 5
    assert f"layer-wise {min(local):.1f} to {max(local):.1f} %" in TABLE
    assert f"back-propagation on 1-1-1-1 {trained:.1f} %" in TABLE
