"""Every shipped part keeps the contract, and what breaks it is caught."""

import subprocess
import sys

import pytest
from tiny_study import searched

from dsaccel import imports
from dsaccel.testing import check_part, shipped


@pytest.mark.long
@pytest.mark.parametrize(("kind", "name"), shipped())
def test_every_shipped_part_keeps_the_contract(kind, name):
    check_part(kind, name)


BROKEN = """
from dataclasses import dataclass
from dsaccel.heads import Head
from dsaccel.spec.local import HeadPlan

class Mine(Head):
    def plan(self, unit):
        return MinePlan(unit.channels, unit.num_classes)

@dataclass(frozen=True)
class MinePlan(HeadPlan):
    channels: int
    num_classes: int

    @property
    def num_parameters(self):
        return (self.channels + 1) * self.num_classes

    @property
    def flops(self):
        return 2 * self.channels * self.num_classes

    def build(self, draw):
        from torch import nn
        return {"classifier": draw("mine", nn.Linear, self.channels, self.num_classes)}

    def logits(self, h, layers):
        h = h.mean((2, 3)) if h.ndim == 4 else h
        return layers.classifier(h)
"""
FAULTS = {
    "parameters": ("+ 1) * self", "+ 2) * self", "num_parameters must be those of the layers"),
    "flops": ("return 2 * self", "return 50 * self", "flops must be those counted"),
    "frozen": ("@dataclass(frozen=True)", "@dataclass", "unhashable"),
    "random": ('draw("mine", nn.Linear, ', "nn.Linear(", "must train with others exactly as alone"),
    "idle": ("layers.classifier(h)", "0 * layers.classifier(h)", "every weight must learn"),
}


@pytest.fixture
def mine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(imports, "_trusted", {})
    return tmp_path / "mine.py"


def test_a_users_own_part_is_checked_in_one_line(mine):
    mine.write_text(BROKEN)
    check_part("head", "./mine.py:Mine")


CONTEXT = """
from dataclasses import dataclass
from dsaccel.losses import LocalLoss
from dsaccel.losses.pred import PredPlan

class Context(LocalLoss):
    def plan(self, unit):
        return ContextPlan()

@dataclass(frozen=True)
class ContextPlan(PredPlan):
    reads = frozenset({"image", "previous", "residuals"})

    def loss(self, h, logits, y_B, layers, *, image, previous, residuals):
        told.append([tuple(read.shape[1:]) for read in (image, previous, *residuals)])
        added = sum(residual.square().mean() for residual in residuals)
        read = image.mean() * h.mean() + previous.mean() * h.mean() + added
        return super().loss(h, logits, y_B, layers) + 0.01 * read
"""


def test_a_loss_is_given_what_it_reads_beside_the_features(mine, monkeypatch):
    told: list[list[tuple[int, ...]]] = []
    monkeypatch.setattr("builtins.told", told, raising=False)
    mine.write_text(CONTEXT)
    check_part("loss", "./mine.py:Context")
    # the stem; then the two units of a block, of which the second has a shortcut
    stem, first, second = told[:3]
    assert stem == [(3, 8, 8), (3, 8, 8)]
    assert first == [(3, 8, 8), (2, 8, 8)]
    assert second == [(3, 8, 8), (2, 8, 8), (2, 8, 8)]


@pytest.mark.long
def test_what_a_loss_reads_is_there_under_both_schedules_and_in_the_count_of_memory(
    mine, monkeypatch
):
    told: list[list[tuple[int, ...]]] = []
    monkeypatch.setattr("builtins.told", told, raising=False)
    mine.write_text(CONTEXT)
    loss = {"loss": "./mine.py:Context"}
    imports.trust(loss.values(), mine.parent)
    searched("simultaneous", network=loss)
    shapes = {tuple(shape) for shape in told}
    del told[:]
    searched("sequential", network=loss, training={"schedule": "sequential"})
    assert {tuple(shape) for shape in told} == shapes


@pytest.mark.parametrize("fault", FAULTS)
def test_a_part_that_breaks_a_rule_is_told_which(mine, fault):
    good, bad, message = FAULTS[fault]
    assert good in BROKEN
    mine.write_text(BROKEN.replace(good, bad))
    with pytest.raises((AssertionError, TypeError, RuntimeError), match=message):
        check_part("head", "./mine.py:Mine")


@pytest.mark.long
def test_no_shipped_part_imports_torch_before_it_is_built():
    code = (
        "import sys\n"
        "from dsaccel.parts import BUILTIN, load_class\n"
        "for kind in BUILTIN:\n"
        "    for name in BUILTIN[kind]: load_class(kind, name)\n"
        "from dsaccel.families import build_plan\n"
        "from dsaccel.config.study import NetworkConfig\n"
        "from dsaccel.spec.hierarchy import Hierarchy\n"
        "for head in BUILTIN['head']:\n"
        "    for loss in BUILTIN['loss']:\n"
        "        build_plan('resnet18', Hierarchy((1, 1, 1)), NetworkConfig(head=head, loss=loss),"
        " channels=3, side=32, num_classes=10).flops\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


OTHERS = {
    "figure": (
        """
import plotly.graph_objects as go
from dsaccel.report.figures import Figure

class Mine(Figure):
    \"\"\"Names.\"\"\"
    title = "Mine"

    def draw(self, study):
        return go.Figure([{"type": "bar", "x": [t.name for t in study.all()]}])
""",
        "names of a study must be escaped",
    ),
    "data": (
        """
import numpy as np
from dsaccel.data.images import Images
from dsaccel.data.source import DataSource

class Mine(DataSource):
    def read(self, split):
        pixels = np.random.default_rng().integers(0, 255, (20, 8, 8, 1), np.uint8)
        return Images(pixels, np.arange(20) % 2, ("a", "b"))
""",
        "images of train must be the same",
    ),
    "schedule": (
        """
from dsaccel.schedules.simultaneous import Simultaneous
from dsaccel.spec.rung import Rung

class Mine(Simultaneous):
    def rungs(self, trie, learners, data, **at):
        steps = [*super().rungs(trie, learners, data, **at)]
        yield from [step for step in steps if isinstance(step, Rung)][1:]
""",
        "there must be a rung at each of",
    ),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_a_part_that_is_no_layer_is_checked_too(mine, kind):
    code, message = OTHERS[kind]
    mine.write_text(code)
    with pytest.raises(AssertionError, match=message):
        check_part(kind, "./mine.py:Mine")
