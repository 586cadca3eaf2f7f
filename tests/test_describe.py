import io
import json
from itertools import product
from typing import Any

import pytest
from helpers import plan
from rich.console import Console

from dsaccel.config.study import NetworkConfig, SpaceConfig, TrainingConfig
from dsaccel.config.toml import parse_config
from dsaccel.families import MODES
from dsaccel.report.describe import (
    describe_plan,
    description_table,
    memory_summary,
    memory_table,
    training_memory,
)
from dsaccel.report.describe_space import describe_space, space_summary, space_table
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.trie import Trie
from dsaccel.training.memory import estimate_plans

FULL = NetworkConfig()


def described(name: str, family: str, network: NetworkConfig = FULL) -> dict[str, Any]:
    return describe_plan(plan(name, family, network, side=32, num_classes=10))


def text(name: str, family: str, width: int = 120) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(description_table(plan(name, family, FULL, side=32, num_classes=10)))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_description_has_the_promised_fields():
    fields = described("1-1-2-2", "resnet18")
    assert list(fields) == [
        "family",
        "hierarchy",
        "num_parameters",
        "num_parameters_training",
        "num_local_losses",
        "num_units",
        "gradient_path",
        "flops",
        "shallow_scale",
        "stages",
    ]
    assert all(list(stage) == ["resolution", "widths", "num_blocks"] for stage in fields["stages"])
    assert json.loads(json.dumps(fields)) == fields  # plain numbers and words


def test_a_description_of_resnet18():
    fields = described("1-1-2-2", "resnet18")
    assert (fields["family"], fields["hierarchy"]) == ("resnet18", "1-1-2-2")
    assert round(fields["num_parameters"] / 1e6, 2) == 10.80
    assert fields["num_local_losses"] == 13
    assert fields["stages"] == [
        {"resolution": 32, "widths": [64], "num_blocks": 1},
        {"resolution": 16, "widths": [128], "num_blocks": 1},
        {"resolution": 8, "widths": [256, 256], "num_blocks": 2},
        {"resolution": 4, "widths": [512, 512], "num_blocks": 2},
    ]
    # nine convolutions: 3 at 32, 2 at 16, 4 at 8
    assert fields["shallow_scale"] == pytest.approx((3 * 32 + 2 * 16 + 4 * 8) / 9 / 32)


def test_stem_and_fully_connected_units_are_no_stages():
    fields = described("2-2-1-1", "vgg8b")
    assert [stage["widths"] for stage in fields["stages"]] == [[128, 256], [256, 512], [512], [512]]
    assert [stage["resolution"] for stage in fields["stages"]] == [32, 16, 8, 4]
    assert fields["num_local_losses"] == 7
    assert [stage["widths"] for stage in described("1-1-1", "resnet50")["stages"]] == [
        [256],
        [512],
        [1024],
    ]


def test_training_holds_the_heads_weights_as_well():
    with_similarity, without = (
        described("1-1-1", "resnet18", NetworkConfig(loss=loss)) for loss in ("predsim", "pred")
    )
    assert with_similarity["num_parameters"] == without["num_parameters"]
    # seven convolutions of 64, 64, 64, 128, 128, 256, 256 channels, a 3x3 branch each
    branches = 9 * (3 * 64**2 + 2 * 128**2 + 2 * 256**2)
    assert with_similarity["num_parameters_training"] == (
        without["num_parameters_training"] + branches
    )
    assert without["num_parameters_training"] > without["num_parameters"]


def test_the_table_shows_each_stage_and_where_the_downsamplings_are():
    lines = text("1-1-2-2", "resnet18").splitlines()
    rows = {line.split()[0]: line for line in lines if line.split()}
    assert "resnet18 1-1-2-2" in lines[0]
    assert "32x32" in rows["stem"]
    assert "↓" not in rows["stem"] + rows["1"]
    for stage, resolution in (("2", "16x16 ↓"), ("3", "8x8 ↓"), ("4", "4x4 ↓")):
        assert resolution in rows[stage]
    assert "256 x2" in rows["3"]
    assert "shallow scale 0.556" in "\n".join(lines)
    # the footer: 6 blocks, 13 local losses
    total = next(line for line in lines if "10.80" in line)
    assert total.split()[:2] == ["6", "13"]


def test_the_table_of_a_vgg_has_its_widths_and_its_fully_connected_unit():
    lines = text("2-2-1-1", "vgg8b").splitlines()
    rows = {line.split()[0]: line for line in lines if line.split()}
    assert "stem" not in rows
    assert "128, 256" in rows["1"]
    assert "1024" in rows["hidden"]
    assert "10" in rows["output"]


@pytest.mark.parametrize(
    ("family", "name"), [("resnet18", "1-1-2-4"), ("resnet50", "3-4-6-3"), ("vgg8b", "2-2-1-1")]
)
def test_the_table_is_whole_on_a_terminal_of_80_columns(family, name):
    assert "…" not in text(name, family, width=80)


def test_memory_is_that_of_training_one_network_either_way():
    training = TrainingConfig(batch_size=16)
    local, whole = (plan("1-1-2", network=FULL, mode=mode) for mode in MODES)
    memory = training_memory(local, whole, training)
    for mode, network in zip(MODES, (local, whole), strict=True):
        assert memory[mode] == estimate_plans({network.hierarchy: network}, training)
    assert memory["local"].activations_bytes < memory["global"].activations_bytes
    ways = [
        training.model_copy(update={"recompute": kind}) for kind in ("block", "stage", "nested")
    ]
    estimates = [estimate_plans({whole.hierarchy: whole}, way) for way in ways]
    assert memory["checkpointed"].total_bytes == min(each.total_bytes for each in estimates)
    assert memory["checkpointed"].activations_bytes < memory["global"].activations_bytes
    assert memory["local"].parameters_bytes > memory["global"].parameters_bytes  # the heads
    fields = memory_summary(memory)
    assert fields["local"]["total_bytes"] == memory["local"].total_bytes
    console = Console(file=io.StringIO(), width=80)
    console.print(memory_table(memory, training))
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert "batches of 16" in shown
    (row,) = [line.split() for line in shown.splitlines() if "layer-wise" in line]
    assert float(row[-1]) == round(memory["local"].total_bytes / 2**20, 1)


def test_a_space_is_described_by_what_is_feasible_in_it():
    config = SpaceConfig(family="resnet18", num_blocks=((1, 3),) * 3)
    described = describe_space(config, lambda h: plan(str(h)), TrainingConfig())
    # accelerated: the first stage has no more blocks than either other one
    box = map(Hierarchy, product((1, 2, 3), repeat=3))
    plans = {h: plan(str(h)) for h in box if h.blocks[0] == min(h.blocks)}
    assert described.num_feasible == described.num_counts == len(plans) == 14
    assert described.smallest == plans[Hierarchy((1, 1, 1))]
    assert described.largest == max(plans.values(), key=lambda network: network.num_parameters)
    trie = Trie(plans)
    assert described.blocks_trained == trie.blocks_trained
    assert described.blocks_separate == trie.blocks_separate
    assert described.memory == estimate_plans(plans, TrainingConfig())
    fields = json.loads(json.dumps(space_summary(described)))
    assert fields["smallest"]["hierarchy"] == "1-1-1"
    assert fields["memory_bytes"] == estimate_plans(plans, TrainingConfig()).total_bytes


def test_a_space_that_is_too_large_to_list_is_described_by_its_block_counts():
    config = SpaceConfig(family="vgg", num_blocks=((1, 30),) * 5, constraint="none")
    described = describe_space(config, lambda _: pytest.fail("planned"), TrainingConfig())
    assert described.num_feasible is None
    console = Console(file=io.StringIO(), width=80)
    console.print(space_table(described, TrainingConfig(), "32x32x3"))
    assert isinstance(console.file, io.StringIO)
    assert "too many to list" in console.file.getvalue()
    assert "24,300,000 within bounds" in console.file.getvalue()
    rates = {"learning_rate": {"low": 1e-4, "high": 1e-2}}
    endless = parse_config(SpaceConfig, config.model_dump() | {"settings": rates}, "a test")
    described = describe_space(endless, lambda _: pytest.fail("planned"), TrainingConfig())
    console.print(space_table(described, TrainingConfig(), "32x32x3"))
    assert "without end" in console.file.getvalue()
