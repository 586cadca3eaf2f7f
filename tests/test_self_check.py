"""A recorded step is tried against steps as they are before it is used. No GPU is needed."""

import pytest
import torch
from helpers import CPU, TRAINING, Batches, cohort, plans
from test_graphs import Repeats

from dsaccel.schedules.simultaneous import Simultaneous
from dsaccel.training import cuda_graphs
from dsaccel.training.cuda_graphs import RecordingError
from dsaccel.training.cuda_streams import ONE_LANE
from dsaccel.training.self_check import may_record


class Forgets(Repeats):
    """Each replay leaves out the step."""

    def record(self, run, generators):
        super().record(run, generators)
        return lambda: None


class Fails(Repeats):
    error: Exception = RecordingError("operation not permitted")

    def record(self, run, generators):
        raise self.error


class Short(Fails):
    error = torch.OutOfMemoryError("CUDA out of memory")


class Breaks(Fails):
    error = RuntimeError("an illegal memory access was encountered")


def check(recorder: Repeats, precision: str = "fp32") -> bool:
    training = TRAINING.model_copy(update={"precision": precision})
    whole = cohort(plans("1-1-2", "2-1-1"), training)
    before = [p.clone() for made in whole.learners.values() for p in made.units[0].parameters()]
    batch = next(Batches().train_batches(1))
    answer = may_record(whole.trie, whole.learners, recorder, ONE_LANE, batch)
    after = [p for made in whole.learners.values() for p in made.units[0].parameters()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    return answer


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_step_that_repeats_its_bits_may_be_recorded(precision, caplog):
    assert check(Repeats(), precision)
    assert not caplog.text


@pytest.mark.parametrize(
    ("recorder", "reason"),
    [(Forgets(), "other numbers"), (Fails(), "not permitted"), (Short(), "no memory was left")],
)
def test_one_that_does_not_is_not_recorded_which_is_said_in_a_line(recorder, reason, caplog):
    assert not check(recorder)
    (record,) = caplog.records
    assert record.message.startswith("training goes on without a CUDA graph")
    assert reason in record.message


def test_any_other_error_of_the_device_is_its_own():
    with pytest.raises(RuntimeError, match="illegal memory access"):
        check(Breaks())


@pytest.mark.parametrize(
    ("setting", "recorder", "records"),
    [
        ("auto", Repeats, True),
        ("auto", Forgets, False),
        (True, Forgets, True),
        (False, Repeats, False),
    ],
)
def test_auto_records_where_the_check_passes(setting, recorder, records, monkeypatch):
    whole = cohort(plans("1-1-1"))
    for learner in whole.learners.values():
        monkeypatch.setattr(learner, "device", torch.device("cuda"))
    monkeypatch.setattr(cuda_graphs, "CudaGraphs", lambda _device: recorder())
    monkeypatch.setattr(
        "dsaccel.training.self_check.Learner",
        lambda *args, device, **given: type(next(iter(whole.learners.values())))(
            *args, device=CPU, **given
        ),
    )
    monkeypatch.setattr("dsaccel.training.self_check.release_memory", lambda _device: None)
    schedule = Simultaneous(epochs=2, cuda_graph=setting, cuda_lanes=1)
    found, lanes = schedule._recording(whole.trie, whole.learners, Batches())
    assert isinstance(found, Repeats) == records
    assert lanes is None
