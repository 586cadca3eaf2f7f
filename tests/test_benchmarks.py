"""The benchmarks' own arithmetic, and that they run."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import NETWORK, H, plan, plans
from torch.utils.flop_counter import FlopCounterMode

from dsaccel.config.study import TrainingConfig
from dsaccel.spec.trie import Trie
from dsaccel.training.learner import Learner

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import compare  # noqa: E402
import flops  # noqa: E402
import gpu  # noqa: E402
import guard  # noqa: E402
import sides  # noqa: E402
import startup  # noqa: E402
from measure import Run  # noqa: E402

pytestmark = pytest.mark.long


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def counted_flops(segment, batch_size: int) -> int:
    """Those of one step, as torch counts them operation by operation."""
    training = TrainingConfig(batch_size=batch_size)
    learner = Learner(segment, training, seed=1, device=torch.device("cpu"))
    learner.start_epoch(1)
    layer = segment.layers[0] if segment.blocks else None
    shape = (
        (layer.in_channels, *[layer.side * layer.stride] * 2)
        if layer
        else (segment.output.num_features, 1, 1)
    )
    with FlopCounterMode(display=False) as counter:
        learner.step(torch.randn(batch_size, *shape), torch.arange(batch_size) % 4)
    return counter.get_total_flops()


@pytest.mark.parametrize("granularity", ["conv", "block", "stage"])
def test_training_flops_are_those_that_torch_counts(granularity):
    network = NETWORK.model_copy(update={"granularity": granularity, "loss": "pred"})
    for segment in plan("1-2-1", network=network).segments:
        assert flops.training_flops(segment) * 16 == counted_flops(segment, 16)


def test_training_flops_of_back_propagation_are_those_that_torch_counts():
    (segment,) = plan("1-2-1", mode="global").segments
    assert flops.training_flops(segment) * 16 == counted_flops(segment, 16)


def test_a_trie_counts_what_is_shared_once():
    one, two = plans("1-1-1"), plans("1-1-1", "1-1-2")
    added = flops.trie_flops(Trie(two)) - flops.trie_flops(Trie(one))
    last_block, output = two[H("1-1-2")].segments[-2:]
    assert added == flops.training_flops(last_block) + flops.training_flops(output)


def test_an_epoch_is_extrapolated_in_proportion():
    assert flops.extrapolate(3.0, batches=10, epoch_batches=390) == pytest.approx(117)
    assert flops.share_of_peak(4e12, 2.0, 8e12) == pytest.approx(0.25)


def section(run, least_s=0.0, most_s=100.0):
    return guard.Section(run, least_s, most_s)


def test_a_section_that_does_not_fit_is_not_reached():
    clock = Clock()

    def out_of_time(limit):
        clock.now += 3
        limit.check()
        return {}

    limit = guard.Guard.lasting(2, clock)
    for late in (section(lambda _: {}, least_s=3), section(out_of_time)):
        assert guard.run_section(late, limit) == {"status": "not reached"}


def test_a_section_says_how_it_failed(capsys):
    def broken(_):
        raise ValueError("no")

    def too_large(_):
        raise torch.OutOfMemoryError

    statuses = [
        guard.run_section(section(run), guard.Guard.lasting(10, Clock()))["status"]
        for run in (broken, too_large, lambda _: {})
    ]
    assert statuses == ["failed: ValueError: no", "failed: out of memory", "measured"]
    assert "ValueError" in capsys.readouterr().err


def test_a_process_that_dies_or_takes_too_long_does_not_stop_the_next():
    programs = {
        "dies": "import os; os.abort()",
        "hangs": "import time; time.sleep(60)",
        "works": 'print(\'{"status": "measured", "figure": 1}\')',
        "late": "",
    }
    limits = {"dies": 20.0, "hangs": 0.5, "works": 20.0, "late": 0.0}
    saved = []
    records = guard.run_processes(
        limits,
        lambda name: [sys.executable, "-c", programs[name]],
        guard.Guard.lasting(100),
        lambda done: saved.append(list(done)),
    )
    assert [record["status"] for record in records.values()] == [
        "failed: its process ended with -6",
        "failed: killed after 0 s",
        "measured",
        "not reached",
    ]
    assert records["works"]["figure"] == 1
    assert saved[-1] == list(limits)
    assert len(saved) == 4


def test_rounds_end_with_the_time_and_sides_have_as_many():
    clock = Clock()

    def side():
        clock.now += 1

    limit = guard.Guard.lasting(7, clock)
    runs = guard.interleave({"a": side, "b": side}, limit, most=99)
    assert len(runs["a"]) == len(runs["b"]) == 3
    with pytest.raises(guard.NotReachedError):
        guard.interleave({"a": side}, limit, most=99)


def test_gradients_of_back_propagation_are_no_activations():
    compared = gpu.compare_peaks(gpu.Peak(100, 300), gpu.Peak(50, 650))
    assert compared["activations, times less"] == 2
    assert compared["in all, times less"] == pytest.approx(800 / 600)


def test_the_largest_difference_of_any_weight_is_found():
    a = [torch.zeros(2), torch.tensor([1, 2])]
    assert gpu.difference(a, a) == 0
    assert gpu.difference(a, [torch.tensor([0.0, -3.0]), torch.tensor([1, 3])]) == 3


def test_a_start_is_told_in_units_of_the_librarys():
    own = [Run(6, 3, 0), Run(8, 4, 0), Run(30, 9, 0)]
    unit = [Run(2, 1, 0), Run(1, 1, 0), Run(2, 1, 0)]
    figures = startup.share(own, unit, "wall_s")
    assert figures.medians.ratio == 4
    assert figures.minima == 6


@pytest.mark.skipif(torch.cuda.is_available(), reason="says so without CUDA only")
def test_without_cuda_nothing_is_measured(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    assert gpu.main() == 0
    assert capsys.readouterr().out == "no CUDA device: not measured\n"


def test_the_gpu_list_can_be_rehearsed_on_a_cpu(tmp_path):
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), "--device", "cpu", "--tiny"]
    only = ["exactness, graph", "matmul", "epoch, graph"]
    subprocess.run(
        [*command, "--out-dir", str(tmp_path), "--only", *only],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    record = json.loads((tmp_path / "gpu-rehearsal.json").read_text())
    assert record["rehearsal"]
    sections = record["sections"]
    assert list(sections) == only
    assert {section["status"] for section in sections.values()} == {"measured"}
    assert sections["exactness, graph"]["fp32"] == {"lanes 1": 0, "lanes 16": 0}
    # a share of the peak that another process has measured
    assert sections["epoch, graph"]["share_of_peak"] is not None


FACTS = {
    "trial 0 rung 1": "0.1",
    "trial 0 heads 1": "(0.1, 0.2)",
    "printed.best.val_accuracy": "0.2",
    "printed.blocks_trained": "24",
    "best.toml.training.epochs": "4",
}


@pytest.mark.parametrize("key", [key for key in FACTS if "blocks" not in key])
def test_one_value_in_its_last_bit_is_a_difference(key):
    changed = FACTS | {key: f"{FACTS[key]}0000000000000001"}
    assert compare.compare(FACTS, FACTS) == ([], [])
    assert compare.compare(FACTS, changed) == ([f"{key}: {FACTS[key]} -> {changed[key]}"], [])


def test_a_rung_more_is_a_difference_and_a_new_key_of_a_document_is_none():
    assert compare.compare(FACTS, FACTS | {"trial 0 rung 2": "0.1"})[0]
    assert compare.compare(FACTS | {"best.toml.network.beta": "0.9"}, FACTS)[0]
    assert compare.compare(FACTS, FACTS | {"best.toml.network.beta": "0.9"}) == ([], [])


def test_block_counts_are_told_apart():
    changed = FACTS | {"printed.blocks_trained": "17"}
    assert compare.compare(FACTS, changed) == ([], ["printed.blocks_trained: 24 -> 17"])


def test_two_sides_that_fail_alike_are_not_equal(tmp_path, monkeypatch):
    def fail(side):
        raise sides.FailedError("no")

    monkeypatch.setitem(compare.PARTS, "fails", fail)
    facts = [
        compare.read_side("fails", sides.Side(tmp_path / name, tmp_path / name / "runs"))[0]
        for name in ("old", "new")
    ]
    assert compare.compare(*facts)[0]


def test_a_document_is_read_to_its_last_bit_but_statistics_to_nine_digits():
    third = 1 / 3
    document = {"best": [{"val": third, "p_value": third, "time_s": 1.0}]}
    assert sides.flatten(document) == {
        "printed.best.0.val": "0.3333333333333333",
        "printed.best.0.p_value": "0.333333333",
    }
