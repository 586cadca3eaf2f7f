"""Deep probes, hybrids, deep supervision, and what the paper could not tell apart."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import CPU, NETWORK, TRAINING, Batches, H, plan, plans, trained
from typer.testing import CliRunner

from dsaccel.cli.app import app
from dsaccel.config.study import NetworkConfig
from dsaccel.nn.labels import Labels
from dsaccel.nn.units import layer_outputs
from dsaccel.paper.claims import claims_of, rise
from dsaccel.paper.compare import Comparison
from dsaccel.paper.effects import Effect
from dsaccel.paper.factors import Factors, arms
from dsaccel.paper.hybrids import Above, prefix, rest_of, train_hybrids
from dsaccel.paper.kept import Trained
from dsaccel.paper.layers import LayersOfRow, shallow_effect
from dsaccel.paper.rows import WAYS, rows_of
from dsaccel.paper.scale import SCALES, Scale
from dsaccel.paper.separability import Measured
from dsaccel.spec.plan import joined
from dsaccel.spec.unit_names import head_names
from dsaccel.training.checkpoint import Checkpoints
from dsaccel.training.learner import Learner

pytestmark = pytest.mark.long

MINUTE = Scale(width=1 / 64, image_size=8, train_images=60, epochs=2, batch_size=20)


def units_of(run, name: str):
    return [unit for node in run.trie.path(H(name)) for unit in run.learners[node].units]


def hybrids(units, both, keep=None, num_steps=None) -> tuple[list[Any], Any]:
    """The steps of a training of hybrids, up to so many, and what it has come to."""
    made = train_hybrids(units, both, TRAINING, Batches(), seed=1, device=CPU, keep=keep)
    steps = []
    while len(steps) != num_steps:
        try:
            steps.append(next(made))
        except StopIteration as end:
            return steps, end.value
    made.close()
    return steps, None


@pytest.mark.parametrize("mode", ["local", "global"])
def test_a_rest_learns_from_what_the_frozen_stages_make_of_images(mode):
    run = trained({H("1-2-1"): plan("1-2-1", mode=mode)})
    units = units_of(run, "1-2-1")
    for x, y in Above(Batches(), prefix(units, 2)).val_batches():
        whole = layer_outputs(units, Batches().x[: len(y)] if len(y) == 32 else Batches().x[32:])
        assert torch.equal(x, whole[6])  # the stem and three blocks of two convolutions
    for each in ("local", "global"):
        rest = rest_of(plan("1-2-1", mode=each), 2)
        assert [(block.stage, block.index) for block in rest.blocks] == [(3, 1)]
        assert rest.output == plan("1-2-1").output


def test_hybrids_are_trained_above_each_stage_both_ways_and_leave_the_network_as_it_is():
    run = trained(plans("1-1-1"))
    units = units_of(run, "1-1-1")
    before = [value.clone() for unit in units for value in unit.state_dict().values()]
    both = {"local": plan("1-1-1"), "global": plan("1-1-1", mode="global")}
    steps, found = hybrids(units, both)
    assert [(hybrid.stage, hybrid.rest) for hybrid in found] == [
        (stage, rest) for stage in (1, 2) for rest in ("local", "global")
    ]
    assert steps == [(epoch, (H("1-1-1"),)) for _ in range(4) for epoch in (1, 2, 3)]
    assert any(hybrid.accuracy > 0.3 for hybrid in found)  # four classes
    after = [value for unit in units for value in unit.state_dict().values()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_hybrids_that_were_stopped_go_on_where_they_were(tmp_path, monkeypatch):
    monkeypatch.setattr("dsaccel.training.checkpoint.INTERVAL_S", 0.0)
    units = units_of(trained(plans("1-1-1")), "1-1-1")
    both = {"local": plan("1-1-1"), "global": plan("1-1-1", mode="global")}
    step, num_learned = Learner.step, []
    monkeypatch.setattr(Learner, "step", lambda *args: (num_learned.append(1), step(*args))[1])
    _, expected = hybrids(units, both)
    whole = len(num_learned)
    num_learned.clear()

    def keep(cohort, name):
        Checkpoints(tmp_path / f"{name}.pt", "study", cohort)

    assert hybrids(units, both, keep, num_steps=5)[1] is None
    _, found = hybrids(units, both, keep)
    assert found == expected
    assert len(num_learned) == whole


def test_under_deep_supervision_each_unit_learns_from_all_losses_above():
    whole = joined(plan("1-1-1", network=NETWORK.model_copy(update={"dropout": 0.0})))
    (segment,) = whole.segments
    training = TRAINING.model_copy(update={"batch_size": 8})
    ours, theirs = (Learner(segment, training, seed=1, device=CPU) for _ in range(2))
    parameters = [p for unit in theirs.units for p in unit.parameters()]
    adam = torch.optim.Adam(parameters, lr=training.learning_rate)
    for learner in (ours, theirs):
        learner.start_epoch(1)
    for x, y in Batches(batch_size=8).train_batches(1):
        ours.step(x, y)
        total, skip = torch.zeros(()), None
        for unit in theirs.units:
            h, passed_on, skip = unit(x, skip, None)
            total = total + unit.loss(h, Labels(y), x)
            x = passed_on
        adam.zero_grad()
        total.backward()
        adam.step()
    for unit, other in zip(ours.units, theirs.units, strict=True):
        for a, b in zip(unit.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_the_arms_have_the_losses_and_the_sizes_that_they_say():
    rows = {row.model: row for row in arms(SCALES["small"])}

    def planned(name: str, mode="local"):
        row = rows[name]
        own = {"width": 1 / 8, "dropout": row.dropout, **dict(row.network)}
        size = {"side": 16, "num_classes": 10, "mode": mode}
        return plan(row.hierarchy, network=NetworkConfig.model_validate(own), **size)

    assert rows["2-2-2-2"].ways == WAYS
    shallow = {
        name: [head for head in head_names(planned(f"2-2-2-2 {name}")) if head[1] in "t12"]
        for name in ("coarse", "late", "both")
    }
    assert shallow["coarse"] == ["s1.2 conv 2", "s2.2 conv 2"]
    assert shallow["late"] == [f"s2.{block} conv {conv}" for block in (1, 2) for conv in (1, 2)]
    assert shallow["both"] == ["s2.2 conv 2"]
    uniform = [planned(f"{name} uniform", "global") for name in ("2-2-2-2", "1-1-3-3", "3-3-1-1")]
    assert len({each.num_parameters for each in uniform}) == 1
    assert uniform[1].flops < uniform[0].flops < uniform[2].flops
    for name in ("1-1-3-3", "3-3-1-1"):
        matched = planned(f"{name} uniform matched", "global")
        assert matched.flops == pytest.approx(uniform[0].flops, rel=0.15)


def test_the_answer_names_what_closes_the_gap_and_what_cannot_be_told():
    noise = {1: -0.01, 2: 0.0, 3: 0.01}

    def reached(level: float, share: float = 1) -> dict[int, float]:
        return {seed: level + share * each for seed, each in noise.items()}

    factors = Factors(
        arms(MINUTE),
        {
            ("2-2-2-2", "local"): reached(0.5),
            ("2-2-2-2", "global"): reached(0.7),
            ("1-1-2-2", "local"): reached(0.6, 0.9),
            ("1-1-2-2", "global"): reached(0.7),
            ("2-2-2-2 coarse", "local"): reached(0.5, -3),
            ("2-2-2-2 uniform", "local"): reached(0.6),
            ("2-2-2-2 uniform", "global"): reached(0.7),
            ("1-1-3-3 uniform", "local"): reached(0.55, 0.8),
            ("1-1-3-3 uniform", "global"): reached(0.7),
        },
    )
    verdicts = {effect.claim: effect.verdict for effect in factors.effects()}
    assert verdicts["fewer shallow convolutions and losses (1-1-2-2)"] == "holds"
    assert verdicts["fewer shallow losses"] == "open"
    assert len(verdicts) == 3
    first, second, third = factors.answer()
    assert "fewer shallow convolutions and losses (1-1-2-2), +10.0" in first
    assert "lower resolution alone" in second
    assert "Of the others each interval holds zero" in third


def test_an_effect_without_an_interval_is_open():
    assert Effect("it helps", {1: 0.5}).verdict == "open"
    assert Effect("it helps", {}).verdict == "not testable at this scale"
    untested = Effect("it helps", {1: 0.5, 2: 0.6}, "no plateau")
    assert untested.verdict == "not testable at this scale"


class Known:
    """Table V's ResNet18: each shallow block costs layer-wise training 2 points, global none."""

    seeds = (1, 2, 3)

    def __init__(self, rising: float, level: float = 0.9):
        self.rows, self.rising, self.level = rows_of("table5")[:5], rising, level

    def trained(self, row, mode, seed):
        level = self.level - (0.02 * row.num_shallow if mode == "local" else 0) + 0.001 * seed
        level += 0.0001 * seed * row.num_shallow * (mode == "local")
        curve = [[level - self.rising * (8 - min(epoch, 8))] for epoch in range(1, 17)]
        return Trained(["output"], curve, 100, 1.0)


def test_a_claim_is_tested_only_where_accuracies_have_stopped_to_rise():
    flat, rising = (
        claims_of(Comparison.of(Known(slope)))  # type: ignore[arg-type]
        for slope in (0.0, 0.02)
    )
    assert [claim.verdict for claim in flat] == ["holds"] * 4
    costs, more, closes = flat[1:]
    for claim in (costs, more):
        assert claim.measured is not None
        assert claim.measured.mean == pytest.approx(0.02, abs=1e-3)
    assert closes.claim.endswith("close the gap of ResNet18")
    assert {claim.verdict for claim in rising} == {"not testable at this scale"}
    assert "still rises by 4.0 points" in str(rising[0].why_not)
    chance = claims_of(Comparison.of(Known(0.0, level=0.19)))  # type: ignore[arg-type]
    assert "has hardly learned" in str(chance[0].why_not)
    assert rise([Known(0.01).trained(rows_of("table5")[0], "local", 1)]) == pytest.approx(0.02)


def test_the_lead_of_back_propagation_is_compared_at_matched_depth():
    names = ("stem", "s1.1 conv 1", "s1.1 conv 2", "s2.1 conv 1", "s2.1 conv 2")
    others = (*names[:3], "s1.2 conv 1", "s1.2 conv 2")
    deep = tuple(f"s3.{block} conv 1" for block in (1, 2, 3))

    def row(model: str, layers: tuple[str, ...], num_shallow: list[int]) -> LayersOfRow:
        def measured(mode: str, seed: int):
            lead = [0.03 * num + 0.001 * seed * num + 0.02 * d for d, num in enumerate(num_shallow)]
            probe = [0.5 + (value if mode == "global" else 0.0) for value in lead]
            return {2: Measured(probe, probe, probe)}

        by_mode = {m: {s: measured(m, s) for s in (1, 2)} for m in ("local", "global")}
        (found,) = rows_of("separability", (model,))
        return LayersOfRow(found, layers, (2,), by_mode)  # type: ignore[arg-type]

    rows = [
        row("ResNet18", (*names, *others[3:], *deep[:1]), [1, 2, 3, 4, 5, 6, 7, 7]),
        row("ResNet18_r1", (*names, *deep), [1, 2, 3, 4, 5, 5, 5, 5]),
    ]
    effect = shallow_effect(rows)
    assert effect is not None
    assert effect.by_seed == pytest.approx({1: 0.031, 2: 0.032})
    assert shallow_effect(rows[:1]) is None
    assert shallow_effect([]) is None


def run(*args: str):
    options = ("--scale", "tiny", "--data", "digits", "--threads", "1", "--seeds", "1")
    return CliRunner().invoke(app, ["reproduce", *args, *options])


@pytest.fixture
def minute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(SCALES, "tiny", MINUTE)


def test_the_command_trains_the_arms_and_answers(minute):
    made = run("factors", "--rows", "2-2-2-2,2-2-2-2 late,1-1-3-3 uniform")
    assert made.exit_code == 0, made.output
    assert "deeply supervised" in made.stderr
    assert "With 1 seed no effect can be told from none" in made.stdout
    summary = json.loads(Path("studies/paper-tiny/factors.json").read_text())
    ways = [(each["network"], each["way"]) for each in summary["accuracies"]]
    assert ("2-2-2-2", "supervised") in ways
    assert ("2-2-2-2 late", "global") not in ways
    assert 'id="effects"' in Path("studies/paper-tiny/factors.html").read_text()
    assert "epoch" not in run("factors", "--rows", "2-2-2-2").stderr


def test_the_command_shows_deep_probes_beside_linear_ones(minute):
    made = run("separability", "--rows", "ResNet18_r1", "--hybrids")
    assert made.exit_code == 0, made.output
    assert "trained by back-propagation make of a frozen layer-wise prefix" in made.stdout
    assert 'id="hybrids"' in Path("studies/paper-tiny/separability.html").read_text()
    summary = json.loads(Path("studies/paper-tiny/separability.json").read_text())
    assert len(summary["hybrids"][0]["accuracies"]) == 4 * 3
    assert "epoch" not in run("separability", "--rows", "ResNet18_r1").stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("factors", "--rows", "1-1-9-9"), "rows must be of factors, which has 2-2-2-2, "),
        (("table5", "--hybrids"), "--hybrids must be left out but for separability, not table5"),
    ],
)
def test_bad_input_is_refused(minute, args, message):
    refused = run(*args)
    assert refused.exit_code == 2
    assert refused.stderr.startswith(f"dsaccel: {message}")
    assert refused.stderr.count("\n") == 1
