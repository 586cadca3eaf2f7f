"""The contract of what networks are made of and trained by, on tiny ones: four classes of 8x8
images, on the CPU.
"""

# B batch, K classes

import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from dsaccel.config.study import RunConfig
from dsaccel.config.toml import parse_config, read_toml, write_toml
from dsaccel.families import MODES, Mode, build_plan, find_family
from dsaccel.nn.labels import Labels
from dsaccel.nn.units import Unit, build_units
from dsaccel.parts import Kind, part_of
from dsaccel.schedules import Schedule
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.plan import Plan
from dsaccel.spec.rung import Rung, Safe
from dsaccel.spec.trie import Node, Trie
from dsaccel.training.descent import train_batch
from dsaccel.training.learner import Learner

CHANNELS, SIDE, NUM_CLASSES, BATCH = 3, 8, 4, 16
EPOCHS = 2


def check_network(kind: Kind, name: str, options: Mapping[str, Any]) -> None:
    """Check a family, head, local loss, optimizer, learning-rate schedule or schedule of training.

    Raises:
        ConfigError: if the part cannot be loaded or has no such options.
        AssertionError: if it breaks a rule.
    """
    run = _config(kind, name, dict(options))
    _comes_back_from_a_file(run)
    plans = {mode: _plans(run, mode) for mode in MODES}
    if kind == "schedule":
        _rungs_come_in_order(run, plans["local"])
        return
    for of_mode in plans.values():
        plan = next(iter(of_mode.values()))
        _plan_is_a_value(plan)
        _counts_are_those_of_the_layers(plan)
    _rate_is_above_zero(run)
    _every_weight_learns(run, plans["local"])
    for precision in ("fp32", "bf16"):
        training = run.training.model_copy(update={"precision": precision})
        _law_holds(run.model_copy(update={"training": training}), plans["local"])


def _config(kind: Kind, name: str, options: dict[str, Any]) -> RunConfig:
    network: dict[str, Any] = {"width": 1 / 32, "dropout": 0.2, "decoder_size": 512}
    training: dict[str, Any] = {"epochs": EPOCHS, "batch_size": BATCH, "learning_rate": 0.01}
    tables = {"hierarchy": "1-1-1", "network": network, "training": training}
    tables["family"] = name if kind == "family" else "resnet18"
    where = training if kind in ("optimizer", "lr_schedule", "schedule") else network
    where["lr_options" if kind == "lr_schedule" else f"{kind}_options"] = options
    if kind != "family":
        where[kind] = name
    return parse_config(RunConfig, tables, f"{kind} {name}")


def _plans(run: RunConfig, mode: Mode) -> dict[Hierarchy, Plan]:
    """Networks that share their beginnings."""
    num_stages = find_family(run.family).min_stages
    ones = (1,) * num_stages
    blocks = [(*ones[:-1], 2), (1, 2, *ones[2:])]
    images = {"channels": CHANNELS, "side": SIDE, "num_classes": NUM_CLASSES}
    return {
        h: build_plan(run.family, h, run.network, run.training, mode=mode, **images)
        for h in map(Hierarchy, blocks)
    }


# ---------------------------------------------------------------------- the rules


def _comes_back_from_a_file(run: RunConfig) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.toml"
        write_toml(path, run)
        again = parse_config(RunConfig, read_toml(path), str(path))
    assert again == run, "a config with the part must be read as it was written"


def _plan_is_a_value(plan: Plan) -> None:
    """Tries, checkpoints and fingerprints compare plans, and take equal ones for one network."""
    again = pickle.loads(pickle.dumps(plan))
    assert again == plan, "what is planned must be frozen dataclasses, equal if they train equally"
    assert repr(again) == repr(plan), "what is planned must have a repr that tells it"
    assert hash(again) == hash(plan), "what is planned must be hashable"


def _counts_are_those_of_the_layers(plan: Plan) -> None:
    units = _units(plan)
    counted = plan.num_parameters_training
    built = sum(p.numel() for unit in units for p in unit.parameters())
    assert counted == built, f"num_parameters must be those of the layers: {counted}, not {built}"
    flops = sum(segment.flops for segment in plan.segments)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        _losses(units.eval(), *_batch(num=1))
    # torch counts what a loss computes of the batch too, as similarities
    seen = counter.get_total_flops()
    assert 0.98 * seen <= flops <= 1.02 * seen, f"flops must be those counted: {flops}, not {seen}"


def _rate_is_above_zero(run: RunConfig) -> None:
    for epochs in (1, 2, 7, 100):
        training = run.training.model_copy(update={"epochs": epochs})
        rates = [training.learning_rate_at(epoch) for epoch in range(1, epochs + 1)]
        assert min(rates) > 0, f"a learning rate must be above 0, but of {epochs} epochs: {rates}"
        first = part_of(training, "lr_schedule").first_rung(epochs)
        assert first is None or first >= 1, f"the first rung must be 1 or later, but is {first}"


def _every_weight_learns(run: RunConfig, plans: Mapping[Hierarchy, Plan]) -> None:
    plan = next(iter(plans.values()))
    trie, learners = _learners(run, {plan.hierarchy: plan})
    x, y_B = _batch()
    units = nn.ModuleList(unit for learner in learners.values() for unit in learner.units)
    before = {name: p.detach().clone() for name, p in units.named_parameters()}
    first = torch.stack(_losses(units.train(), x, y_B))
    for learner in learners.values():
        learner.start_epoch(1)
    for _ in range(10):
        train_batch(trie.roots, learners, x, y_B)
    last = torch.stack(_losses(units.train(), x, y_B))
    assert last.isfinite().all(), "every loss must stay finite"
    assert last.sum() < first.sum(), f"losses must fall, but went from {first} to {last}"
    still = [name for name, p in units.named_parameters() if torch.equal(p, before[name])]
    assert not still, f"every weight must learn, but these did not: {', '.join(still)}"


def _rungs_come_in_order(run: RunConfig, plans: Mapping[Hierarchy, Plan]) -> None:
    """And networks train together exactly as alone, whatever is left of them at a rung."""
    schedule: Schedule = part_of(run.training, "schedule")
    num_stages = find_family(run.family).min_stages
    steps = list(range(1, schedule.num_steps(num_stages) + 1))
    trie, rungs = _scheduled(run, plans, schedule)
    assert [rung.step for rung in rungs] == steps, f"there must be a rung at each of {steps}"
    for hierarchy, plan in plans.items():
        for node in trie.path(hierarchy):
            done = [schedule.trained(node, step) for step in steps]
            assert done == sorted(done), f"no training may be undone, but trained() is {done}"
            assert (done[0] >= 0, done[-1]) == (True, 1), "all must be trained at the last rung"
        alone = _scheduled(run, {hierarchy: plan}, schedule)[1]
        for shared, own in zip(rungs, alone, strict=True):
            assert shared.read.get(hierarchy) == own.read.get(hierarchy), (
                f"{hierarchy} must train with others exactly as alone, but was read differently "
                f"at {schedule.step_name} {shared.step}"
            )


def _law_holds(run: RunConfig, plans: Mapping[Hierarchy, Plan]) -> None:
    """Networks train together, bit for bit, as each does alone."""
    trie, learners = _trained(run, plans)
    for hierarchy, plan in plans.items():
        own_trie, own_learners = _trained(run, {hierarchy: plan})
        paths = zip(trie.path(hierarchy), own_trie.path(hierarchy), strict=True)
        for shared, own in paths:
            for mine, theirs in zip(
                _tensors(learners[shared]), _tensors(own_learners[own]), strict=True
            ):
                assert torch.equal(mine, theirs), (
                    f"{hierarchy} must train with others exactly as alone ({run.training.precision}"
                    "): draw random numbers by position and role, and look at nothing that comes "
                    "later"
                )


# ---------------------------------------------------------------------- a tiny training


def _batch(seed: int = 0, num: int = BATCH) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    y_B = torch.arange(num) % NUM_CLASSES
    x = torch.randn(num, CHANNELS, SIDE, SIDE, generator=generator) + y_B[:, None, None, None] / 2
    return x.to(memory_format=torch.channels_last), y_B


def _units(plan: Plan) -> nn.ModuleList:
    return nn.ModuleList(unit for s in plan.segments for unit in build_units(s, seed=1))


def _losses(units: nn.ModuleList, x: Tensor, y_B: Tensor) -> list[Tensor]:
    """The loss of each unit on a batch, without dropped channels."""
    skip, losses, labels = None, [], Labels(y_B, x)
    for unit in units:
        assert isinstance(unit, Unit)
        fed = x
        h, x, skip = unit(x, skip, None)
        losses.append(unit.loss(h, labels, fed))
    return losses


def _learners(run: RunConfig, plans: Mapping[Hierarchy, Plan]) -> tuple[Trie, dict[Node, Learner]]:
    trie, cpu = Trie(plans), torch.device("cpu")
    make = {"seed": 1, "device": cpu}
    return trie, {n: Learner(n.segment, run.training, **make) for n in trie.nodes()}


def _trained(run: RunConfig, plans: Mapping[Hierarchy, Plan]) -> tuple[Trie, dict[Node, Learner]]:
    trie, learners = _learners(run, plans)
    for epoch in range(1, EPOCHS + 1):
        for learner in learners.values():
            learner.start_epoch(epoch)
        for x, y_B in _Batches().train_batches(epoch):
            train_batch(trie.roots, learners, x, y_B)
    return trie, learners


def _tensors(learner: Learner) -> Iterator[Tensor]:
    """All that training goes on from."""
    for unit, optimizer in zip(learner.units, learner.optimizers, strict=True):
        yield from unit.state_dict().values()
        for state in optimizer.state.values():
            yield from (value for value in state.values() if isinstance(value, Tensor))


class _Batches:
    """Images of a training, as a schedule takes them."""

    def train_batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        return (_batch(seed=10 * epoch + batch) for batch in range(2))

    def val_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter([_batch(num=4 * BATCH)])


def _scheduled(
    run: RunConfig, plans: Mapping[Hierarchy, Plan], schedule: Schedule
) -> tuple[Trie, list[Rung]]:
    trie, learners = _learners(run, plans)
    steps = schedule.rungs(trie, learners, _Batches(), start=0, within=Safe())
    return trie, [step for step in steps if isinstance(step, Rung)]
