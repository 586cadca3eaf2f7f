"""The recorder of curves sees every epoch of every unit, and changes no bit of training."""

import csv
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
import torch
from helpers import CPU, NETWORK, TRAINING, Batches, H, cohort, differing, plans, tensors
from tiny_study import searched
from torch import Tensor
from typer.testing import CliRunner

from dsaccel.cli.app import app
from dsaccel.config.study import TrainingConfig
from dsaccel.nn.labels import Labels
from dsaccel.spec.rung import Point, Safe
from dsaccel.training.cohort import Cohort
from dsaccel.training.parts import SplitCohort

pytestmark = pytest.mark.long

NAMES = ("1-1-1", "1-1-2", "1-2-1")


class Seen(Batches):
    def seen_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield self.x[:16], self.y[:16]


def recorded(training: TrainingConfig = TRAINING, curves=("1-1-2",), **network) -> Cohort:
    networks = plans(*NAMES, network=NETWORK.model_copy(update=network))
    wanted = [H(name) for name in curves]
    return Cohort(networks, training, Seen(), seed=1, device=CPU, curves=wanted)


def changed(**values) -> TrainingConfig:
    return TRAINING.model_copy(update=values)


def points(run: Cohort, name: str) -> list[Point]:
    return [point for read in run.reads(H(name)) for point in read.points]


@pytest.mark.parametrize("schedule", ["simultaneous", "sequential"])
def test_recording_changes_no_bit(schedule):
    training = changed(schedule=schedule)
    plain, seen = cohort(plans(*NAMES), training), recorded(training, NAMES)
    for one, other in zip(plain.rungs(), seen.rungs(), strict=True):
        assert one.accuracies == other.accuracies
    for name in NAMES:
        assert not differing(tensors(plain, H(name)), tensors(seen, H(name)))
        assert points(seen, name)
        assert not points(plain, name)


def test_every_epoch_of_every_head_is_recorded_and_of_no_other_network():
    run = recorded()
    list(run.rungs())
    heads = [
        "stem",
        *(f"s{s}.{b} conv {c}" for s, b in ((1, 1), (2, 1), (3, 1), (3, 2)) for c in (1, 2)),
    ]
    assert [(p.epoch, p.head) for p in points(run, "1-1-2")] == [
        (epoch, head) for epoch in (1, 2, 3) for head in (*heads, "output")
    ]
    assert not points(run, "1-1-1")
    for read, epoch in zip(run.reads(H("1-1-2")), (1, 2, 3), strict=True):
        assert [p.val_accuracy for p in read.points] == pytest.approx(read.heads)
        assert {p.learning_rate for p in read.points} == {TRAINING.learning_rate_at(epoch)}


def test_accuracies_and_losses_are_those_of_the_units_on_these_images():
    run = recorded()
    list(run.rungs())
    last = [p for p in points(run, "1-1-2") if p.epoch == 3]
    units = [u for node in run.trie.path(H("1-1-2")) for u in run.learners[node].units]
    for split, batches in (("train", Seen().seen_batches()), ("val", Seen().val_batches())):
        right, total, num = [0.0] * len(units), [0.0] * len(units), 0
        for x, y in batches:
            num, skip = num + len(y), None
            for i, unit in enumerate(units):
                with torch.no_grad():
                    h, passed_on, skip = unit(x, skip, None)
                    right[i] += float((unit.head.logits(h).argmax(1) == y).sum())
                    total[i] += len(y) * float(unit.loss(h, Labels(y), x))
                x = passed_on
        accuracies = [getattr(point, f"{split}_accuracy") for point in last]
        assert accuracies == pytest.approx([r / num for r in right])
        losses = [getattr(point, f"{split}_loss") for point in last]
        assert losses == pytest.approx([t / num for t in total])


def test_sequential_units_are_recorded_epoch_by_epoch():
    run = recorded(changed(schedule="sequential"))
    list(run.rungs())
    found = points(run, "1-1-2")
    assert [p.epoch for p in found] == [1, 2, 3] * 10
    assert [p.head for p in found[::3]][:2] == ["stem", "s1.1 conv 1"]
    last = {p.head: p.val_accuracy for p in found if p.epoch == 3}
    assert list(last.values()) == pytest.approx(run.reads(H("1-1-2"))[-1].heads)


@pytest.mark.parametrize("schedule", ["simultaneous", "sequential"])
def test_a_run_that_goes_on_has_the_same_curves(schedule):
    training = changed(schedule=schedule)
    whole, first = recorded(training), recorded(training)
    list(whole.rungs())
    if schedule == "simultaneous":
        next(first.rungs())
    else:  # within an epoch of the first stage
        assert list(islice(first._train(), 5))[-1] == Safe(epoch=2, batches=2)
    saved = first.state_dict()
    assert bool(saved["points"]) == (schedule == "sequential")
    again = recorded(training)
    again.load_state_dict(saved)
    list(again.rungs())
    assert points(again, "1-1-2") == points(whole, "1-1-2")


def test_a_cohort_that_goes_on_in_parts_has_the_same_curves(tmp_path):
    training = changed(schedule="sequential")
    whole, first = recorded(training, curves=NAMES), recorded(training, curves=NAMES)
    list(whole.rungs())
    assert list(islice(first._train(), 5))[-1] == Safe(epoch=2, batches=2)
    split = SplitCohort(
        plans(*NAMES),
        training,
        first.data,
        seed=1,
        device=CPU,
        curves=[H(name) for name in NAMES],
        fits=lambda names: len(names) < 2,
        stops=(),
        folder=tmp_path / "parts",
    )
    split.load_state_dict(first.state_dict())
    list(split.rungs())
    for name in NAMES:
        assert points(split, name) == points(whole, name)


def test_a_cohort_in_parts_has_the_same_curves(tmp_path):
    whole = recorded(curves=NAMES)
    list(whole.rungs())
    split = SplitCohort(
        plans(*NAMES),
        TRAINING,
        Seen(),
        seed=1,
        device=CPU,
        curves=[H(name) for name in NAMES],
        fits=lambda hierarchies: len(hierarchies) == 1,
        stops=(2,),
        folder=tmp_path,
    )
    list(split.rungs())
    for name in NAMES:
        assert points(split, name) == points(whole, name)


def test_a_study_has_the_curves_of_its_reference_and_of_its_baseline(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    searched(budget={"n_trials": 3}, pruning={"kind": "none"})
    made = CliRunner().invoke(app, ["curves", "tiny"])
    assert (made.exit_code, made.stdout) == (0, "studies/tiny/curves.csv\n"), made.output
    with Path("studies/tiny/curves.csv").open() as file:
        lines = list(csv.DictReader(file))
    reference = [line for line in lines if line["hierarchy"] == "2-1-1" and line["mode"] == "local"]
    assert {line["head"] for line in reference} >= {"stem", "s1.2 conv 2", "output"}
    assert all(line["train_loss"] and line["learning_rate"] for line in reference)
    others = [line for line in lines if line["hierarchy"] != "2-1-1" and line["mode"] == "local"]
    assert others
    assert not any(line["train_loss"] for line in others)
    assert all(line["val_accuracy"] and line["learning_rate"] for line in others)
    baseline = [line for line in lines if line["mode"] == "global"]
    assert [(line["head"], line["epoch"]) for line in baseline] == [
        ("output", str(e)) for e in range(1, 5)
    ]
    assert all(line["train_loss"] for line in baseline)
    made = CliRunner().invoke(app, ["curves", "tiny", "-o", "c.json"])
    assert len(json.loads(Path("c.json").read_text())) == len(lines)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("c.txt", "the file must end with .csv or .json, but got c.txt"),
        ("none/c.csv", "folder none must exist to write c.csv into it"),
    ],
)
def test_a_file_that_cannot_be_written_is_refused(path, message):
    refused = CliRunner().invoke(app, ["curves", "tiny", "-o", path])
    assert (refused.exit_code, refused.stderr) == (2, f"dsaccel: {message}\n")
