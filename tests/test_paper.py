"""Every network of the paper's tables I to VI can be built and trained, layer-wise and globally."""

import csv
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from dsaccel.config.study import NetworkConfig, TrainingConfig
from dsaccel.families import Mode, build_plan, check_hierarchy
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.plan import Plan
from dsaccel.training.learner import Learner

CPU = torch.device("cpu")
NUM_CLASSES = {"cifar10": 10, "cifar100": 100}
TINY = 1 / 64


@dataclass(frozen=True)
class Row:
    """One row of the paper's tables: a network and how it was trained."""

    table: str
    dataset: str
    model: str
    learning_rate: float
    dropout: float
    hierarchy: Hierarchy

    @property
    def family(self) -> str:
        base = self.model.split("_")[0].lower()
        return base if base.startswith("resnet") or base == "vgg8b" else "vgg"

    def plan(self, mode: Mode) -> Plan:
        return build_plan(
            self.family,
            self.hierarchy,
            NetworkConfig(width=TINY, dropout=self.dropout),
            channels=3,
            side=32,
            num_classes=NUM_CLASSES[self.dataset],
            mode=mode,
        )


def paper_rows() -> list[Row]:
    with (Path(__file__).parent / "paper_rows.csv").open() as file:
        return [
            Row(
                row["table"],
                row["dataset"],
                row["model"],
                float(row["lr"]),
                float(row["dropout"]),
                Hierarchy.parse(row["hierarchy"]),
            )
            for row in csv.DictReader(file)
        ]


ROWS = paper_rows()


def test_the_tables_have_61_rows():
    tables = [row.table for row in ROWS]
    counts = [tables.count(table) for table in ("I", "II", "III", "IV", "V", "VI")]
    assert counts == [14, 14, 6, 6, 10, 11]
    assert len(ROWS) == 61


def test_every_row_is_a_hierarchy_of_its_family_with_one_local_loss_a_convolution():
    convs_a_block = {"resnet18": 2, "resnet50": 3, "vgg": 1, "vgg8b": 1}
    for row in ROWS:
        check_hierarchy(row.family, row.hierarchy)
        # a ResNet has a stem as well, a VGG a fully connected unit
        expected = row.hierarchy.num_blocks * convs_a_block[row.family] + 1
        assert row.plan("local").num_local_losses == expected
        assert row.plan("global").num_local_losses == 0


def test_names_count_the_layers_with_weights():
    # VGG16 has 13 convolutions; two of its three fully connected layers are one of 1024 here
    for row in ROWS:
        if row.family == "vgg" and "_" not in row.model:
            assert row.plan("local").num_local_losses + 2 == int(row.model.removeprefix("VGG"))
        if row.model in ("ResNet18", "ResNet50") and row.hierarchy.blocks in (
            (2,) * 4,
            (3, 4, 6, 3),
        ):
            assert row.plan("local").num_local_losses + 1 == int(row.model.removeprefix("ResNet"))


def train_one_step(row: Row, mode: Mode) -> None:
    plan = row.plan(mode)
    training = TrainingConfig(learning_rate=row.learning_rate, batch_size=4)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 3, plan.side, plan.side, generator=generator)
    y_B = torch.arange(4) * 3
    num_losses = 0
    for segment in plan.segments:
        learner = Learner(segment, training, seed=1, device=CPU)
        learner.start_epoch(1)
        before = [unit.head.classifier.bias.clone() for unit in learner.units]
        x = learner.step(x, y_B)
        assert torch.isfinite(x).all()
        for unit, bias in zip(learner.units, before, strict=True):
            num_losses += 1
            assert all(torch.isfinite(parameter).all() for parameter in unit.parameters())
            assert not torch.equal(unit.head.classifier.bias, bias)
    assert num_losses == plan.num_local_losses + 1


@pytest.mark.parametrize("mode", ["local", "global"])
@pytest.mark.parametrize("table", ["I", "II", "III", "IV", "V", "VI"])
def test_every_row_trains_a_step(table, mode):
    for row in ROWS:
        if row.table == table:
            train_one_step(row, mode)
