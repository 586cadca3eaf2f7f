"""The estimate of memory against what torch allocates, on hierarchies that it was not fitted on."""

import math
import os
from types import SimpleNamespace

import pytest
import torch
from helpers import CPU, Batches, H, plan, plans
from torch._C._profiler import _EventType

from dsaccel.config.study import NetworkConfig, RuntimeConfig, TrainingConfig
from dsaccel.spec.trie import Trie
from dsaccel.training import runtime
from dsaccel.training.allocations import memory_events, peak_bytes
from dsaccel.training.cohort import Cohort
from dsaccel.training.memory import estimate_plans, split_to_fit
from dsaccel.training.runtime import (
    free_memory_bytes,
    is_out_of_memory,
    start_runtime,
    unfolds_bf16,
)
from dsaccel.training.schedules import train_batch
from dsaccel.training.unit_memory import Sizes, unit_peaks

NETWORK = NetworkConfig(width=1 / 16, dropout=0.2)
BATCH = 16


class EvenBatches(Batches):
    """Validated in batches of the same size, as a study's data."""

    def val_batches(self):
        return zip(self.x.split(self.batch_size), self.y.split(self.batch_size), strict=True)


def measured(networks, training, *, side=16):
    """Activations at the peak of the second epoch, of which evaluation is a part."""
    data = EvenBatches(num_images=2 * BATCH, batch_size=BATCH, side=side)
    cohort = Cohort(networks, training, data, seed=1, device=CPU)
    rungs = cohort.rungs()
    next(rungs)
    peak = peak_bytes(lambda: next(rungs), CPU)
    # beside what the data makes anew for an epoch: all its images
    return peak - data.x.nbytes, cohort


def training(**settings):
    return TrainingConfig(batch_size=BATCH, epochs=2, learning_rate=1e-3, **settings)


def test_the_meter_sees_the_peak_of_a_known_sequence():
    def run():
        a = torch.zeros(1000)
        b = torch.zeros(500)
        del a
        return b + torch.zeros(500)

    assert peak_bytes(run, CPU) == 4 * 1500


def test_the_release_of_what_was_there_before_is_not_counted():
    there = []
    peak_bytes(lambda: there.extend(torch.zeros(3000) for _ in range(20)), CPU)
    seen = {block.data_ptr() for block in there}
    there.clear()
    # until one lies where torch has a size on record: that of a block before it
    while not any(block.data_ptr() in seen for block in there[-20:]):
        there.extend(torch.zeros(2990) for _ in range(20))
        assert len(there) < 20_000

    def run():
        there.clear()
        return torch.zeros(1000)

    assert peak_bytes(run, CPU) == 4 * 1000


def test_on_a_coarse_clock_a_release_stays_before_what_takes_its_place():
    def event(number, *children, tag=_EventType.Allocation):
        return SimpleNamespace(tag=tag, children=children, start_time_ns=5, number=number)

    inner = event(None, event(2), event(3), tag=_EventType.TorchOp)
    tree = [event(1), inner, event(4)]
    record = SimpleNamespace(kineto_results=SimpleNamespace(experimental_event_tree=lambda: tree))
    assert [found.number for found in memory_events(record)] == [1, 2, 3, 4]  # pyright: ignore


def test_the_meter_writes_nothing(capfd):
    peak_bytes(lambda: torch.zeros(1000), CPU)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    ("family", "names", "changes"),
    [
        ("resnet18", [H("1-2-1")], {}),
        ("resnet18", [H("1-2-1")], {"loss": "pred", "dropout": 0.0}),
        ("resnet18", [H("1-1-1"), H("1-2-1"), H("2-1-1")], {}),
        ("resnet18", [H("2-1-2")], {"granularity": "stage"}),
        ("resnet18", [H("2-1-2")], {"granularity": "block", "loss": "sim"}),
        ("resnet18", [H("1-1-2")], {"first_loss": 2}),
        ("resnet50", [H("1-2-1")], {"sim_kernel": 1}),
        ("vgg8b", [H("1-2-1")], {"num_hidden": 2}),
        ("vgg", [H("2-1-1")], {"pred_conv": True}),
    ],
)
def test_the_estimate_is_within_15_percent(family, names, changes, precision):
    network = NETWORK.model_copy(update=changes)
    networks = plans(*names, family=family, network=network, side=16)
    settings = training(precision=precision)
    peak, _ = measured(networks, settings)
    estimate = estimate_plans(networks, settings, unfolds_bf16=unfolds_bf16(CPU))
    assert estimate.activations_bytes == pytest.approx(peak, rel=0.15)


@pytest.mark.parametrize("family", ["resnet18", "vgg8b"])
def test_the_estimate_of_back_propagation_is_within_15_percent(family):
    networks = {H("1-2-1"): plan("1-2-1", family, NETWORK, side=16, mode="global")}
    peak, _ = measured(networks, training())
    assert estimate_plans(networks, training()).activations_bytes == pytest.approx(peak, rel=0.15)


@pytest.mark.parametrize("family", ["resnet18", "resnet50", "vgg8b"])
def test_parameters_statistics_and_optimizer_are_counted_exactly(family):
    networks = plans("1-2-1", "1-1-2", family=family)
    _, cohort = measured(networks, training(), side=8)
    estimate = estimate_plans(networks, training())
    learners = cohort.learners.values()
    units = [unit for learner in learners for unit in learner.units]
    held = [t for unit in units for t in (*unit.parameters(), *unit.buffers())]
    adams = [adam for learner in learners for adam in learner.optimizers]
    averages = [
        value.nbytes
        for adam in adams
        for state in adam.state.values()
        for key, value in state.items()
        if key != "step"
    ]
    assert estimate.parameters_bytes == sum(t.nbytes for t in held if t.is_floating_point())
    assert estimate.optimizer_bytes == sum(averages)


def test_one_unit_alone_is_counted_as_on_paper():
    """VGG's first convolution under `pred`, whose classifier reads 2x2 pooled maps."""
    network = NetworkConfig(width=1 / 16, loss="pred", decoder_size=1024)
    vgg = plan("1-1-1", "vgg", network, side=8)
    layer = vgg.segments[0].layers[0]
    assert (layer.out_channels, layer.head and layer.head.classifier.pool) == (4, (2, 2))
    maps = 4 * BATCH * 4 * 8 * 8
    images, pooled = 4 * BATCH * 3 * 8 * 8, maps // 4
    weights = 4 * (3 * 9 * 4 + 4 + 4 + 4) + 4 * (64 * 4 + 4)
    only = {H("1"): vgg.__class__("vgg", H("1"), 8, 1, vgg.segments[:1])}
    # convolved and activated maps are kept; three more while the normalisation goes backward
    expected = images + 5 * maps + weights - 4 * 4 * 3 * 9
    estimate = estimate_plans(only, training())
    assert abs(estimate.activations_bytes - expected) <= pooled


def test_the_peak_does_not_grow_with_depth():
    for names in ([H("1-1-1"), H("4-4-4")],):
        shallow, deep = (measured(plans(name, side=16), training())[0] for name in names)
        assert deep == pytest.approx(shallow, rel=0.02)


def test_as_many_units_learn_at_the_same_time_as_there_are_lanes():
    networks = plans("1-1-2", "1-2-1")
    spec = Trie(networks)
    sizes = Sizes(BATCH, 4, tiles=False)
    peaks = sorted(peak for node in spec.nodes() for peak in unit_peaks(node.segment, sizes))
    layers = [layer for node in spec.nodes() for layer in node.segment.layers]
    features = sum(4 * BATCH * layer.out_channels * layer.side**2 for layer in layers)
    graph = training(cuda_graph=True)
    held = {
        num: estimate_plans(
            networks, graph.model_copy(update={"cuda_lanes": num}), device="cuda"
        ).activations_bytes
        for num in (1, 2, 3)
    }
    # a graph keeps what it needs, beside what the first steps and evaluation need
    plain = estimate_plans(networks, training(), device="cuda").activations_bytes
    assert held[1] == 2 * plain
    assert held[2] == plain + features + peaks[-1] + peaks[-2]
    assert held[3] - held[2] == peaks[-3]
    # lanes are CUDA's
    lanes = graph.model_copy(update={"cuda_lanes": 3})
    assert estimate_plans(networks, lanes) == estimate_plans(networks, training())


def test_sequential_holds_adam_for_the_units_that_learn():
    networks = plans("1-1-1", "1-1-2")
    sequential = training(schedule="sequential", feature_cache_mib=0, feature_cache_host_mib=0)
    one, other = (estimate_plans(networks, t) for t in (training(), sequential))
    assert other.optimizer_bytes < one.optimizer_bytes / 2
    cohort = Cohort(networks, sequential, Batches(), seed=1, device=CPU)
    most = 0
    learn = type(next(iter(cohort.learners.values()))).learn

    def watch(self, *args):
        nonlocal most
        learn(self, *args)
        adams = [adam for learner in cohort.learners.values() for adam in learner.optimizers]
        states = (state for adam in adams for state in adam.state.values())
        held = (s[key].nbytes for s in states for key in ("exp_avg", "exp_avg_sq"))
        most = max(most, sum(held))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dsaccel.training.learner.Learner.learn", watch)
        for _ in cohort.rungs():
            pass
    assert other.optimizer_bytes == most


@pytest.mark.parametrize("cache_mib", [0, 1, 8])
def test_the_estimate_of_a_sequential_schedule_bounds_what_it_takes(cache_mib):
    networks = plans("1-2-1", "2-1-1", side=16, network=NETWORK)
    settings = training(
        schedule="sequential", feature_cache_mib=cache_mib, feature_cache_host_mib=0
    )
    data = Batches(num_images=64, batch_size=BATCH, side=16)
    cohort = Cohort(networks, settings, data, seed=1, device=CPU)
    peak = peak_bytes(lambda: list(cohort.rungs()), CPU) - data.x.nbytes
    estimate = estimate_plans(networks, settings, num_images=64)
    expected = estimate.activations_bytes + estimate.cache_bytes + estimate.optimizer_bytes
    # two branches, each within a block: first convolution of s1.2 and of s2.1, and their inputs
    unlimited = (4 * 16**2 + 4 * 16**2 + 8 * 8**2 + 4 * 16**2) * 4 * 64 * 2
    assert estimate.cache_bytes == min(cache_mib * 2**20, unlimited)
    assert peak <= 1.02 * expected <= 1.5 * peak


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_estimate_is_within_15_percent_on_a_gpu(precision):
    """At full width, where the libraries' own buffers are small beside the maps."""
    device, batch = torch.device("cuda"), 128
    network = NetworkConfig(dropout=0.3)
    networks = plans("1-1-1-2", "1-1-2-1", network=network, side=32)
    settings = TrainingConfig(batch_size=batch, precision=precision)
    cohort = Cohort(networks, settings, Batches(), seed=1, device=device)
    for learner in cohort.learners.values():
        learner.start_epoch(1)
    x = torch.randn(batch, 3, 32, 32, device=device).contiguous(memory_format=torch.channels_last)
    y = torch.arange(batch, device=device) % 4

    def step():
        train_batch(cohort.trie.roots, cohort.learners, x, y)

    step()
    peak = peak_bytes(step, device) + x.nbytes
    estimate = estimate_plans(networks, settings, device="cuda")
    assert estimate.activations_bytes == pytest.approx(peak, rel=0.15)


@pytest.mark.parametrize("mode", ["local", "global"])
@pytest.mark.parametrize("batch", [4, 32])
def test_convolutions_by_tiles_are_estimated_within_15_percent(mode, batch):
    """Stages of 256 channels: at batch 4 their kernels in another basis set the peak."""
    pytest.importorskip("dsaccel.nn.winograd")
    network = NetworkConfig(width=1 / 2)
    networks = {H("1-1-1-2"): plan("1-1-1-2", network=network, side=32, mode=mode)}
    settings = TrainingConfig(batch_size=batch)
    cohort = Cohort(networks, settings, Batches(), seed=1, device=CPU)
    for learner in cohort.learners.values():
        learner.start_epoch(1)
    x = torch.randn(batch, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    y = torch.arange(batch) % 4

    def step():
        train_batch(cohort.trie.roots, cohort.learners, x, y)

    step()
    peak = peak_bytes(step, CPU) + x.nbytes
    estimate = estimate_plans(networks, settings)
    assert estimate.activations_bytes == pytest.approx(peak, rel=0.15)
    on_a_gpu = estimate_plans(networks, settings, device="cuda")
    assert batch == 32 or on_a_gpu.activations_bytes < peak / 1.5


def test_a_list_is_cut_into_the_fewest_runs_that_fit():
    sizes = {"a": 3, "b": 3, "c": 5, "d": 1, "e": 9}
    fits = lambda names: sum(sizes[name] for name in names) <= 6  # noqa: E731
    assert split_to_fit(list("abcde"), fits) == [("a", "b"), ("c", "d"), ("e",)]
    assert split_to_fit(list("ab"), fits) == [("a", "b")]
    assert split_to_fit([], fits) == []


def test_free_memory_is_some_and_below_what_a_machine_can_have():
    assert 2**20 < free_memory_bytes(CPU) < 2**50
    assert math.isfinite(free_memory_bytes(CPU))


@pytest.mark.parametrize(
    ("limit", "used", "cached", "free"),
    [
        ("5000", 4000, 0, 1000),
        ("5000", 5000, 3000, 3000),
        ("5000", 6000, 0, 0),
        ("max", 9, 0, None),
    ],
)
def test_files_that_a_container_has_cached_are_free_memory(
    tmp_path, monkeypatch, limit, used, cached, free
):
    """Once it has read much, they fill all that its limit leaves."""
    for name, text in {
        "memory.max": limit,
        "memory.current": used,
        "memory.stat": f"anon 1\nactive_file 7\ninactive_file {cached}\nslab 8",
    }.items():
        (tmp_path / name).write_text(f"{text}\n")
    monkeypatch.setattr(runtime, "_CONTROL_GROUP", tmp_path)
    monkeypatch.setattr(runtime, "_available_bytes", lambda: 10**6)
    assert free_memory_bytes(CPU) == (10**6 if free is None else free)


def test_the_cpu_allocators_own_error_is_recognised():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**55)
    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


@pytest.mark.parametrize(
    "message",
    [
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "GET was unable to find an engine to execute this computation",
    ],
)
def test_what_cudas_libraries_say_without_memory_is_recognised(message):
    assert is_out_of_memory(RuntimeError(message))


def test_an_error_at_the_end_of_what_ran_out_of_memory_is_recognised():
    def recording():
        try:
            raise torch.OutOfMemoryError
        finally:
            raise RuntimeError("operation failed due to a previous error during capture")

    with pytest.raises(RuntimeError) as caught:
        recording()
    assert is_out_of_memory(caught.value)


@pytest.fixture
def cuda_calls(monkeypatch):
    """What is asked of CUDA, where there is none."""
    calls = []
    for name in ("init", "set_device", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, lambda *args, name=name: calls.append((name, *args)))
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    yield calls
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = True  # pyright: ignore


@pytest.mark.parametrize(("name", "index"), [("cuda", 0), ("cuda:1", 1)])
def test_a_run_on_cuda_is_on_its_device_and_repeats_its_bits(cuda_calls, name, index):
    device = start_runtime(RuntimeConfig(device=name, threads=torch.get_num_threads()))
    assert device == torch.device(name)
    assert [call[0] for call in cuda_calls] == ["init", "set_device", "reset_peak_memory_stats"]
    assert cuda_calls[1][1] == index
    assert torch.are_deterministic_algorithms_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
