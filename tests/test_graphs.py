"""A recorded step trains as the step itself does. What CUDA adds is tested in test_gpu.py."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import pytest
import torch
from helpers import CPU, NETWORK, TRAINING, Batches, H, cohort, plan, plans
from torch.utils._python_dispatch import TorchDispatchMode

from dsaccel.schedules.simultaneous import simultaneous
from dsaccel.spec.rung import Rung
from dsaccel.spec.trie import Trie
from dsaccel.training.cuda_graphs import NUM_EAGER, CudaGraphs, RecordedStep, RecordingError
from dsaccel.training.descent import train_batch
from dsaccel.training.learner import Learner


class Repeats:
    """Records as CUDA does: what ran once is repeated with the very same tensors."""

    def __init__(self) -> None:
        self.num_eager = self.num_replays = 0
        self.recorded: list[list[torch.Generator]] = []

    @contextmanager
    def beside(self) -> Iterator[None]:
        self.num_eager += 1
        yield

    def record(
        self, run: Callable[[], object], generators: Iterable[torch.Generator]
    ) -> Callable[[], None]:
        self.recorded.append(list(generators))

        def replay() -> None:
            self.num_replays += 1
            run()

        return replay


def test_a_recorded_step_trains_on_every_batch_once():
    seen: list[float] = []
    recorder = Repeats()
    step = RecordedStep(lambda x, _: seen.append(float(x)), [], recorder)
    for number in range(NUM_EAGER + 4):
        step(torch.tensor(float(number)), torch.tensor(0))
    assert seen == list(range(NUM_EAGER + 4))
    assert (recorder.num_eager, len(recorder.recorded), recorder.num_replays) == (NUM_EAGER, 1, 4)


def test_batches_are_copied_into_the_tensors_that_were_recorded():
    places: list[tuple[int, int]] = []
    step = RecordedStep(
        lambda x, y: places.append((x.data_ptr(), y.data_ptr())), [], recorder := Repeats()
    )
    batches = [(torch.zeros(4), torch.zeros(4)) for _ in range(NUM_EAGER + 3)]
    for x, y in batches:
        step(x, y)
    assert recorder.num_replays == 3
    assert len(set(places[NUM_EAGER:])) == 1
    assert places[-1] not in [(x.data_ptr(), y.data_ptr()) for x, y in batches]


@pytest.mark.long
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_cohort_learns_from_recorded_steps_what_it_learns_anyway(precision):
    """Also after some have retired; 10 steps an epoch, the first of them as they are."""
    data = Batches(num_images=160)
    training = TRAINING.model_copy(update={"precision": precision})
    recorder = Repeats()
    ends = []
    for used in (None, recorder):
        whole = cohort(plans("1-1-2", "1-2-1", "2-1-1"), training, data=data)
        steps = simultaneous(whole.trie, whole.learners, data, 3, recorder=used)
        rungs = (step for step in steps if isinstance(step, Rung))
        next(rungs)
        whole.retire({H("2-1-1")})
        *_, last = rungs
        state = [
            value
            for node in whole.trie.nodes()
            for unit in whole.learners[node].units
            for value in unit.state_dict().values()
        ]
        ends.append((last, state))
    (plain, state), (recorded, state_recorded) = ends
    assert recorded == plain
    assert all(torch.equal(a, b) for a, b in zip(state, state_recorded, strict=True))
    # once for all three, and anew for those that were left
    assert (len(recorder.recorded), recorder.num_eager) == (2, 2 * NUM_EAGER)
    assert recorder.num_replays == 3 * 10 - 2 * NUM_EAGER
    assert len(recorder.recorded[1]) < len(recorder.recorded[0])


class Asked(TorchDispatchMode):
    """Notes where a figure is fetched from the device, which no graph can hold."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.__name__)
        return func(*args, **(kwargs or {}))

    @property
    def syncs(self) -> list[str]:
        fetching = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "equal")
        return [name for name in self.names if name.split(".")[0] in fetching]


@pytest.mark.parametrize("loss", ["predsim", "pred", "sim"])  # mse: torch's one_hot asks on a CPU
@pytest.mark.parametrize("family", ["resnet18", "resnet50", "vgg"])
def test_a_step_asks_the_device_for_no_figure(family, loss):
    network = NETWORK.model_copy(update={"loss": loss})
    hierarchy = H("1-1-1-1") if family != "vgg" else H("1-1-1-1-1")
    trie = Trie({hierarchy: plan(hierarchy, family, network, side=32)})
    learners = {node: Learner(node.segment, TRAINING, seed=1, device=CPU) for node in trie.nodes()}
    for learner in learners.values():
        learner.start_epoch(1)
    x, y = torch.randn(4, 3, 32, 32), torch.arange(4)
    with Asked() as asked:
        train_batch(trie.roots, learners, x, y)
    assert "convolution_backward.default" in asked.names
    assert asked.syncs == []


class Refuses(Repeats):
    """Cannot record, as a driver may."""

    def record(
        self, run: Callable[[], object], generators: Iterable[torch.Generator]
    ) -> Callable[[], None]:
        raise RecordingError("operation not permitted when stream is capturing")


def test_a_step_that_cannot_be_recorded_trains_on_every_batch_all_the_same(caplog):
    seen: list[float] = []
    step = RecordedStep(lambda x, _: seen.append(float(x)), [], Refuses())
    for number in range(NUM_EAGER + 3):
        step(torch.tensor(float(number)), torch.tensor(0))
    assert seen == list(range(NUM_EAGER + 3))
    assert len(caplog.messages) == 1
    assert "without a CUDA graph" in caplog.text
    assert "not permitted" in caplog.text


@pytest.mark.parametrize("is_short", [False, True])
def test_a_recording_that_fails_leaves_stream_and_allocator_as_they_were(monkeypatch, is_short):
    """What torch leaves behind where the end of the recording fails too, played without CUDA."""
    device = torch.device("cuda:0")
    state = {"stream": "usual", "pools": set()}

    class Stream:
        def __init__(self, device, priority):
            self.device = device

    @contextmanager
    def recording(graph, pool, stream):
        state["stream"] = stream
        state["pools"].add(pool)
        yield
        raise AssertionError("unreachable")

    error = torch.OutOfMemoryError if is_short else RuntimeError
    for place, name, value in (
        (torch.cuda, "Stream", Stream),
        (torch.cuda, "CUDAGraph", lambda: None),
        (torch.cuda, "graph_pool_handle", lambda: (0, 1)),
        (torch.cuda, "current_stream", lambda device: state["stream"]),
        (torch.cuda, "set_stream", lambda stream: state.update(stream=stream)),
        (torch.cuda, "graph", recording),
        (torch._C, "_cuda_endAllocateToPool", lambda index, pool: state["pools"].remove(pool)),
    ):
        monkeypatch.setattr(place, name, value, raising=False)

    def run():
        raise error("capture failed\nmore")

    with pytest.raises(error if is_short else RecordingError, match="capture failed"):
        CudaGraphs(device).record(run, [])
    assert state == {"stream": "usual", "pools": set()}
