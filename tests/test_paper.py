"""Every network of the paper's tables I to VI can be built and trained, layer-wise and globally."""

from pathlib import Path

import pytest
import torch

from dsaccel.config.study import NetworkConfig, StudyConfig, TrainingConfig
from dsaccel.config.toml import parse_config, read_toml
from dsaccel.families import Mode, build_plan, check_hierarchy
from dsaccel.paper.rows import NUM_CLASSES, TABLES, Row, all_rows
from dsaccel.spec.plan import Plan
from dsaccel.training.learner import Learner

pytestmark = pytest.mark.long

CPU = torch.device("cpu")
TINY = 1 / 64
ROWS = all_rows()


def plan_of(row: Row, mode: Mode) -> Plan:
    return build_plan(
        row.family,
        row.hierarchy,
        NetworkConfig(width=TINY, dropout=row.dropout),
        channels=3,
        side=32,
        num_classes=NUM_CLASSES[row.dataset],
        mode=mode,
    )


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
        assert plan_of(row, "local").num_local_losses == expected
        assert plan_of(row, "global").num_local_losses == 0


def test_names_count_the_layers_with_weights():
    # VGG16 has 13 convolutions; two of its three fully connected layers are one of 1024 here
    for row in ROWS:
        if row.family == "vgg" and "_" not in row.model:
            assert plan_of(row, "local").num_local_losses + 2 == int(row.model.removeprefix("VGG"))
        if row.model in ("ResNet18", "ResNet50") and row.hierarchy.blocks in (
            (2,) * 4,
            (3, 4, 6, 3),
        ):
            assert plan_of(row, "local").num_local_losses + 1 == int(
                row.model.removeprefix("ResNet")
            )


def test_each_row_stands_in_a_study_file_of_its_table_with_its_own_settings():
    folder = Path(__file__).parent.parent / "studies" / "paper"
    found = {}
    for path in folder.glob("*.toml"):
        config = parse_config(StudyConfig, read_toml(path), path.name)
        table = TABLES[path.name.split("-")[0]]
        assert config.budget.n_trials == config.budget.cohort_size == len(config.references)
        assert config.space.constraint == "none"
        for reference in config.references:
            own = config.training.learning_rate, config.network.dropout
            found[table, config.data.name, config.family, reference] = own
    rows = {(r.table, r.dataset, r.family, str(r.hierarchy)): r for r in ROWS}
    assert found == {key: (row.learning_rate, row.dropout) for key, row in rows.items()}


def train_one_step(row: Row, mode: Mode) -> None:
    plan = plan_of(row, mode)
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
