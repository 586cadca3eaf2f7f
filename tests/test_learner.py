"""One unit learns as a hand-written step does, and no gradient leaves a unit."""

import copy
import math
import weakref
from typing import Any

import pytest
import torch
from helpers import CPU, NETWORK, Batches, H, cohort, differing, plan, plans, tensors, trained
from torch import Tensor, nn
from torch.nn import functional as F

from dsaccel.config.study import NetworkConfig, TrainingConfig
from dsaccel.nn.labels import Labels
from dsaccel.nn.layers import LayerModule
from dsaccel.nn.similarity import label_similarity, similarity_loss
from dsaccel.nn.units import LocalHead, Unit
from dsaccel.spec.plan import Plan, Segment
from dsaccel.training.descent import evaluate
from dsaccel.training.learner import Learner

TRAINING = TrainingConfig(epochs=4, learning_rate=1e-2)
PLAIN = NETWORK.model_copy(update={"dropout": 0.0})


def learner(segment: Segment, training: TrainingConfig = TRAINING, **kwargs: Any) -> Learner:
    made = Learner(segment, training, seed=1, device=CPU, **kwargs)
    made.start_epoch(1)
    return made


def learners(network: Plan, training: TrainingConfig = TRAINING) -> list[Learner]:
    return [learner(segment, training) for segment in network.segments]


def step(chain: list[Learner], x: Tensor, y_B: Tensor) -> Tensor:
    for one in chain:
        x = one.step(x, y_B)
    return x


def units(chain: list[Learner]) -> list[Unit]:
    return [unit for one in chain for unit in one.units]


def batch() -> tuple[Tensor, Tensor]:
    return next(Batches().train_batches(1))


def weights(unit: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in unit.state_dict().items()}


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


def replace_loss(unit: Unit, loss: Any) -> None:
    def gradients(h: Tensor, labels: Labels) -> list[tuple[Tensor, None]]:
        return [(loss(h, labels.y_B), None)]

    unit.head.gradients = gradients  # pyright: ignore[reportAttributeAccessIssue]


def silence(unit: Unit) -> None:
    """A loss of zero, with a gradient of zero for every weight."""
    replace_loss(
        unit, lambda h, _y_B: sum((p * 0).sum() for p in unit.parameters()) + (h * 0).sum()
    )


RECOMPUTED = {
    "conv": {"granularity": "conv"},
    "stage": {"granularity": "stage", "loss": "sim"},
    "K2": {"granularity": ("none", "none", "stage", "none"), "head": "tail"},
    "none": {"granularity": "none"},
}


@pytest.mark.parametrize("kind", [True, "stage", "nested"])
@pytest.mark.parametrize("schedule", ["simultaneous", "sequential"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("cuts", RECOMPUTED)
def test_what_is_computed_again_is_the_same_bit_for_bit(cuts, precision, schedule, kind):
    if kind is not True and (precision, schedule) != ("fp32", "simultaneous"):
        return
    settings: dict[str, Any] = {"precision": precision, "schedule": schedule, "epochs": 2}
    network = NETWORK.model_copy(update=RECOMPUTED[cuts])
    for family, name in (("resnet18", "2-1-2"), ("vgg", "1-2-1")):
        if family == "vgg" and cuts in ("K2", "stage"):
            continue
        once, again = (
            trained(
                plans(name, family=family, network=network),
                TrainingConfig(batch_size=16, learning_rate=1e-2, recompute=recompute, **settings),
            )
            for recompute in (False, kind)
        )
        # weights, the optimizer's averages, and running statistics, which count each batch once
        assert not differing(tensors(once, H(name)), tensors(again, H(name)))
        assert once.head_accuracies(H(name)) == again.head_accuracies(H(name))


GRANULARITIES = ["conv", "block", "stage"]
UPDATES: dict[str, dict[str, Any]] = {
    **{granularity: {"granularity": granularity} for granularity in GRANULARITIES},
    "by stage": {"granularity": ("stage", "block", "conv")},
    "first loss inside a block": {"first_loss": 2},
}
FAMILIES = [("resnet18", "1-2-1"), ("resnet50", "1-1-1"), ("vgg", "1-2-1")]


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize(("family", "name"), FAMILIES)
def test_what_later_units_are_told_never_reaches_earlier_ones(family, name, granularity):
    network = plan(name, family, PLAIN.model_copy(update={"granularity": granularity}))
    x, y_B = batch()
    usual = learners(network)
    step(usual, x, y_B)
    expected = [weights(unit) for unit in units(usual)]
    for liar in range(len(expected)):
        chain = learners(network)
        all_units = units(chain)
        told_the_truth = all_units[liar].head.loss
        replace_loss(
            all_units[liar], lambda h, y, loss=told_the_truth: 50 * loss(h, (y + 1) % 4) + h.sum()
        )
        step(chain, x, y_B)
        for number in range(liar):
            assert not moved(expected[number], weights(all_units[number]))
        assert moved(expected[liar], weights(all_units[liar]))


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize(("family", "name"), FAMILIES)
def test_a_unit_learns_from_its_own_loss_only(family, name, granularity):
    network = plan(name, family, PLAIN.model_copy(update={"granularity": granularity}))
    x, y_B = batch()
    num_units = len(units(learners(network)))
    for silent in range(num_units):
        chain = learners(network)
        unit = units(chain)[silent]
        silence(unit)
        before = weights(unit)
        step(chain, x, y_B)
        changed = moved(before, weights(unit))
        # statistics of the batch are kept, no weight is learnt
        assert changed == {key for key in before if "running" in key or "num_batches" in key}
        for other in units(chain)[silent + 1 :]:
            assert all(parameter.grad is None for parameter in other.parameters())


@pytest.mark.parametrize(("family", "last"), [("resnet18", 2), ("resnet50", 3)])
def test_under_conv_granularity_the_shortcut_learns_from_the_blocks_last_unit_only(family, last):
    network = plan("1-1-1", family, PLAIN)
    x, y_B = batch()
    for silent in range(last):
        chain = learners(network)
        step(chain[:2], x, y_B)  # stem and stage 1
        features = step(chain[:2], x, y_B)
        block = chain[2].units  # projects
        assert len(block) == last
        silence(block[silent])
        layer = block[-1].layers[-1]
        assert isinstance(layer, LayerModule)
        assert layer.shortcut is not None
        before = weights(layer.shortcut[0])
        chain[2].step(features, y_B)
        assert bool(moved(before, weights(layer.shortcut[0]))) == (silent != last - 1)


@pytest.mark.parametrize("update", UPDATES.values(), ids=UPDATES)
@pytest.mark.parametrize(("family", "name"), FAMILIES)
def test_the_gradients_are_those_of_one_backward_through_detached_borders(family, name, update):
    network = plan(name, family, PLAIN.model_copy(update=update))
    x, y_B = batch()
    chain, other = learners(network), learners(network)
    total, features, skip = torch.zeros(()), x, None
    for unit in units(other):
        h, features, skip = unit(features, skip, None)
        total = total + unit.head.loss(h, y_B)
        features, skip = features.detach(), None if skip is None else skip.detach()
    total.backward()
    seen: list[Tensor | None] = []
    for one in chain:
        for optimizer in one.optimizers:
            optimizer.register_step_pre_hook(
                lambda adam, _args, _kwargs: seen.extend(
                    None if p.grad is None else p.grad.clone()
                    for group in adam.param_groups
                    for p in group["params"]
                )
            )
    step(chain, x, y_B)
    expected = [p.grad for unit in units(other) for p in unit.parameters()]
    assert len(seen) == len(expected)
    for ours, theirs in zip(seen, expected, strict=True):
        torch.testing.assert_close(ours, theirs)
        assert ours is not None


@pytest.mark.parametrize("mode", ["local", "global"])
@pytest.mark.parametrize("update", UPDATES.values(), ids=UPDATES)
def test_units_are_given_detached_features_and_give_them_on(update, mode):
    network = PLAIN.model_copy(update=update)
    chain = learners(plan("1-2-1", network=network, mode=mode))
    given: list[Tensor | None] = []
    for unit in units(chain):
        unit.register_forward_pre_hook(lambda _unit, inputs: given.extend(inputs[:2]))
    x, y_B = batch()
    out = step(chain, x, y_B)
    assert not out.requires_grad
    assert out.grad_fn is None
    assert not any(tensor.requires_grad for tensor in given if tensor is not None)
    assert x.grad is None
    assert all(p.grad is None for unit in units(chain) for p in unit.parameters())


class Saved:
    """A tensor that autograd keeps for the backward pass."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


@pytest.mark.parametrize("update", UPDATES.values(), ids=UPDATES)
def test_each_units_graph_is_released_before_the_next_begins(update):
    network = plan("1-2-1", network=NETWORK.model_copy(update=update))
    chain = learners(network)
    x, y_B = batch()
    alive: weakref.WeakSet[Saved] = weakref.WeakSet()
    counts: list[int] = []

    def keep(tensor: Tensor) -> Saved:
        saved = Saved(tensor)
        alive.add(saved)
        return saved

    for unit in units(chain):
        unit.register_forward_pre_hook(lambda _unit, _inputs: counts.append(len(alive)))
        unit.register_forward_hook(lambda _unit, _inputs, _out: counts.append(len(alive)))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved.tensor):
        step(chain, x, y_B)
        assert counts[::2] == [0] * len(units(chain))
        assert min(counts[1:-1:2]) > 0  # the output layer alone has no layers of its own
        assert len(alive) == 0


def plain_unit(made: Learner) -> tuple[nn.Sequential, nn.Linear, nn.Conv2d]:
    """The stem, its classifier and its similarity branch in plain torch, with the same weights."""
    (unit,) = made.units
    layer, head = unit.layers[0], unit.head
    assert isinstance(layer, LayerModule)
    assert isinstance(head, LocalHead)
    num_channels = layer.weight.weight.shape[0]
    body = nn.Sequential(
        nn.Conv2d(3, num_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(num_channels),
        nn.LeakyReLU(0.01),
    )
    classifier = nn.Linear(head.classifier.in_features, 4)
    similarity = nn.Conv2d(num_channels, num_channels, 3, padding=1, bias=False)
    pairs = ((body[0], layer.weight), (classifier, head.classifier), (similarity, head.similarity))
    for plain, ours in pairs:
        plain.load_state_dict(ours.state_dict())
    return body, classifier, similarity


def test_a_step_of_one_unit_is_a_hand_written_adam_step():
    training = TRAINING.model_copy(update={"adam_eps": 1e-3})
    made = learner(plan("1-1-1", network=PLAIN).segments[0], training, dtype=torch.float64)
    body, classifier, similarity = (module.double() for module in plain_unit(made))
    parameters = [*body.parameters(), *classifier.parameters(), *similarity.parameters()]
    first = [torch.zeros_like(parameter) for parameter in parameters]
    second = [torch.zeros_like(parameter) for parameter in parameters]
    (unit,) = made.units
    pool = unit.head.spec.classifier.pool  # pyright: ignore[reportAttributeAccessIssue]
    for t, (images, y_B) in enumerate(Batches().train_batches(1), 1):
        x = images.double()
        made.step(x, y_B)
        h = body(x)
        logits = classifier(F.avg_pool2d(h, pool).flatten(1))
        target_BB = label_similarity(y_B, 4, torch.float64)
        loss = 0.01 * F.cross_entropy(logits, y_B)
        loss = loss + 0.99 * similarity_loss(similarity(h), target_BB)
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for i, (parameter, g) in enumerate(zip(parameters, gradients, strict=True)):
                first[i] = 0.9 * first[i] + 0.1 * g
                second[i] = 0.999 * second[i] + 0.001 * g**2
                m_hat, v_hat = first[i] / (1 - 0.9**t), second[i] / (1 - 0.999**t)
                parameter -= 1e-2 * m_hat / (v_hat**0.5 + 1e-3)
    ours = [*unit.layers.parameters(), *unit.head.parameters()]
    assert len(ours) == len(parameters)
    for a, b in zip(ours, parameters, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_globally_a_step_is_torchs_adam_on_the_whole_network():
    network = plan("1-2-1", network=PLAIN, mode="global")
    (made,), (other,) = learners(network), learners(network)
    (unit,) = other.units
    adam = torch.optim.Adam(unit.parameters(), lr=1e-2)
    for x, y_B in Batches().train_batches(1):
        made.step(x, y_B)
        h, _, _ = unit(x, None, None)
        logits = unit.head.classifier(h.mean(dim=(2, 3)))
        adam.zero_grad()
        F.cross_entropy(logits, y_B).backward()
        adam.step()
    for (name, a), b in zip(made.units[0].named_parameters(), unit.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5, msg=name)


def test_the_output_layer_learns_from_the_cross_entropy_alone():
    network = plan("1-1-1", network=PLAIN)
    chain = learners(network)
    x, y_B = batch()
    features = step(chain[:-1], x, y_B)
    output = nn.Linear(features.shape[1], 4)
    (unit,) = chain[-1].units
    output.load_state_dict(unit.head.classifier.state_dict())
    adam = torch.optim.Adam(output.parameters(), lr=1e-2)
    chain[-1].step(features, y_B)
    F.cross_entropy(output(features.mean(dim=(2, 3))), y_B).backward()
    adam.step()
    torch.testing.assert_close(unit.head.classifier.weight, output.weight)
    torch.testing.assert_close(unit.head.classifier.bias, output.bias)


def test_the_learning_rate_is_the_papers_at_each_epoch():
    training = TrainingConfig(epochs=400, learning_rate=3e-4)
    made = learner(plan("1-1-1").segments[1], training)
    # part V: times 0.25 at 50, 75, 89 and 94 % of 400 epochs
    stretches = [(200, 3e-4), (100, 7.5e-5), (56, 1.875e-5), (20, 4.6875e-6), (24, 1.171875e-6)]
    expected = [rate for num_epochs, rate in stretches for _ in range(num_epochs)]
    seen = []
    for epoch in range(1, 401):
        made.start_epoch(epoch)
        rates = {group["lr"] for adam in made.optimizers for group in adam.param_groups}
        assert len(rates) == 1
        seen += rates
    assert seen == pytest.approx(expected, rel=1e-12)


def test_a_channel_is_dropped_by_position_and_epoch():
    network = plan("2-1-1", network=NETWORK.model_copy(update={"dropout": 0.5, "width": 1.0}))
    shape = torch.ones(4, 64, 1, 1)

    def masks(epoch: int, seed: int = 1) -> dict[tuple[int, ...], tuple[bool, ...]]:
        made = Learner(network.segments[1], TRAINING, seed=seed, device=CPU)
        made.start_epoch(epoch)
        return {
            tuple(layer.position): tuple(
                (layer.drop(shape, made.generators[layer.position]) > 0).flatten().tolist()
            )
            for unit in made.units
            for layer in unit.layers
            if isinstance(layer, LayerModule)
        }

    assert masks(1) == masks(1)
    drawn = [mask for made in (masks(1), masks(2), masks(1, seed=2)) for mask in made.values()]
    assert len(drawn) == len(set(drawn)) == 6
    # and by batch: a second draw goes on where the first ended
    made = learner(network.segments[0])
    (generator,) = made.generators.values()
    (layer,) = made.units[0].layers
    assert isinstance(layer, LayerModule)
    assert not torch.equal(layer.drop(shape, generator), layer.drop(shape, generator))


def test_an_evaluation_drops_nothing_and_changes_nothing():
    chain = learners(plan("1-1-1", network=NetworkConfig(width=1 / 16, dropout=0.5)))
    x, y_B = batch()
    step(chain, x, y_B)
    before = [weights(unit) for unit in units(chain)]
    results = []
    for num_images in (16, 16, 3):
        features, logits = x[:num_images], []
        for one in chain:
            one.start_evaluation()
            features, of_heads = one.evaluate(features)
            logits += [out[:3] for out in of_heads]
        assert not features.requires_grad
        results.append(torch.cat(logits))
    assert torch.equal(results[0], results[1])
    # running statistics: an image's answer does not depend on the batch that it comes in
    torch.testing.assert_close(results[0], results[2])
    for unit, values in zip(units(chain), before, strict=True):
        assert not moved(values, weights(unit))


def test_evaluation_reads_one_head_a_unit_in_order_of_depth():
    network = plan("1-2-1", network=PLAIN)
    chain = learners(network)
    x, _ = batch()
    num_heads = []
    for one in chain:
        one.start_evaluation()
        x, logits = one.evaluate(x)
        num_heads.append(len(logits))
        assert all(out.shape == (16, 4) for out in logits)
    assert num_heads == [1, 2, 2, 2, 2, 1]
    assert sum(num_heads) == network.num_local_losses + 1


def test_a_network_that_diverged_is_right_nowhere():
    # all images are of class 0, which `argmax` makes of what is not a number
    data = Batches()
    data.y.zero_()
    result = cohort(plans("1-1-1", "1-2-1"), data=data)
    list(result.rungs())
    last = result.trie.path(H("1-2-1"))[-2]  # before it both are one network
    with torch.no_grad():
        result.learners[last].units[0].layers[0].weight.weight[0] = math.nan  # pyright: ignore
    read = evaluate(result.trie, result.learners, data.val_batches())
    assert set(read[H("1-1-1")].heads) == {1.0}
    heads = len(result.learners[last].units) + 1
    assert read[H("1-2-1")].heads[-heads:] == (0.0,) * heads
    assert set(read[H("1-2-1")].heads[:-heads]) == {1.0}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_saved_learner_goes_on_bit_for_bit(precision):
    training = TRAINING.model_copy(update={"precision": precision})
    segment = plan("1-1-1").segments[2]
    x = torch.randn(16, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    _, y_B = batch()
    one, other = learner(segment, training), learner(segment, training)
    one.step(x, y_B)
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    for made in (one, other):
        made.start_epoch(2)
        made.step(x, y_B)
    for a, b in zip(one.units, other.units, strict=True):
        assert not moved(weights(a), weights(b))
        for p, q in zip(a.parameters(), b.parameters(), strict=True):
            assert p.stride() == q.stride()  # memory format included
