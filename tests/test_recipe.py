"""Optimizers and learning-rate schedules: what they do to weights, and what is refused."""

import math

import pytest
import torch
from helpers import NETWORK, plan
from torch import nn

from dsaccel.config.study import PruningConfig, TrainingConfig
from dsaccel.config.toml import parse_config
from dsaccel.errors import ConfigError
from dsaccel.nn.labels import Labels
from dsaccel.parts import part_of
from dsaccel.search.pruners import rung_steps
from dsaccel.training.learner import Learner

CPU = torch.device("cpu")


def training(**settings) -> TrainingConfig:
    return parse_config(TrainingConfig, {"epochs": 10, "learning_rate": 0.5} | settings, "x.toml")


def rates(**settings) -> list[float]:
    made = training(**settings)
    return [made.learning_rate_at(epoch) for epoch in range(1, made.epochs + 1)]


def test_cosine_falls_along_half_a_wave_and_networks_are_ranked_where_it_has_halved():
    assert rates(lr_schedule="cosine") == pytest.approx(
        [0.25 * (1 + math.cos(math.pi * epoch / 10)) for epoch in range(10)]
    )
    for epochs in (1, 2, 9, 10):
        made = training(lr_schedule="cosine", epochs=epochs)
        first = made.first_rung() or 0
        factors = [made.learning_rate_at(epoch) / 0.5 for epoch in range(1, epochs + 2)]
        assert [factor <= 0.5 + 1e-9 for factor in factors].index(True) + 1 == first


def test_warm_up_rises_in_equal_steps_to_the_schedules_rate():
    assert rates(lr_schedule="constant", warmup_epochs=4) == pytest.approx(
        [0.1, 0.2, 0.3, 0.4, *[0.5] * 6]
    )
    assert training(warmup_epochs=8, lr_milestones=[0.1]).first_rung() == 9


def test_a_constant_rate_asks_for_the_first_rung():
    with pytest.raises(ConfigError, match="grace_epochs must be set with lr_schedule constant"):
        rung_steps(PruningConfig(), training(lr_schedule="constant"), 4)
    pruning = PruningConfig(grace_epochs=3)
    assert rung_steps(pruning, training(lr_schedule="constant"), 4) == (3, 6)
    assert rung_steps(PruningConfig(kind="none"), training(lr_schedule="constant"), 4) == ()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": "lion"}, "optimizer must be one of adam, adamw, sgd, or an import path"),
        ({"optimizer_options": {"momentum": 0.9}}, "optimizer adam: unknown key momentum"),
        (
            {"optimizer": "sgd", "optimizer_options": {"momentum": 1.5}},
            "optimizer sgd: momentum must be less than 1, but got 1.5",
        ),
        ({"optimizer_options": {"adam_eps": 1e-3}}, "adam_eps must be left out: it is adam_eps"),
        ({"lr_schedule": "cosine", "lr_options": {"cycles": 2}}, "unknown key cycles"),
        ({"weight_decay": -1}, "weight_decay must be greater than or equal to 0"),
        ({"label_smoothing": 1}, "label_smoothing must be less than 1"),
    ],
)
def test_a_recipe_that_cannot_be_is_one_line(settings, message):
    def load():
        made = training(**settings)
        return part_of(made, "optimizer"), part_of(made, "lr_schedule")

    with pytest.raises(ConfigError, match=message) as error:
        load()
    assert len(str(error.value).splitlines()) == 1


PLAIN = {
    "adam": lambda groups: torch.optim.Adam(groups, 0.01),
    "adamw": lambda groups: torch.optim.AdamW(groups, 0.01, weight_decay=0),
    "sgd": lambda groups: torch.optim.SGD(groups, 0.01, momentum=0.9, nesterov=True),
}


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("name", PLAIN)
def test_an_optimizer_steps_as_torchs_does_and_norms_and_biases_do_not_decay(name, weight_decay):
    recipe = training(
        learning_rate=0.01, optimizer=name, weight_decay=weight_decay, lr_schedule="constant"
    )
    segment = plan("1-1-1", network=NETWORK).segments[1]
    ours, theirs = (Learner(segment, recipe, seed=1, device=CPU) for _ in range(2))
    modules = [m for unit in theirs.units for m in unit.modules()]
    maps = [m.weight for m in modules if isinstance(m, nn.Conv2d | nn.Linear)]
    others = [p for unit in theirs.units for p in unit.parameters()]
    others = [p for p in others if not any(p is weight for weight in maps)]
    plain = PLAIN[name]([{"params": maps, "weight_decay": weight_decay}, {"params": others}])
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        for mine, their in zip(ours.units, theirs.units, strict=True):
            for a, b in zip(mine.parameters(), their.parameters(), strict=True):
                # laid out as the weights are: fused steps do not look
                a.grad = torch.empty_like(a).copy_(torch.randn(a.shape, generator=generator))
                b.grad = a.grad.clone()
        for optimizer in ours.optimizers:
            optimizer.step()
        plain.step()
    for mine, their in zip(ours.units, theirs.units, strict=True):
        for a, b in zip(mine.parameters(), their.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_back_propagation_may_learn_from_the_squared_distance_to_one_hot_labels():
    settings = training(output_loss="mse", output_weight=0.5)
    squared = plan("1-1-1", training=settings, mode="global")
    ours, theirs = (Learner(squared.segments[0], training(), seed=1, device=CPU) for _ in range(2))
    x = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    y_B = torch.arange(8) % 4
    (unit,) = theirs.units
    h, _, _ = unit(x, None, None)
    expected = 0.5 * (unit.head.logits(h) - torch.eye(4)[y_B]).norm() ** 2 / len(y_B)
    (end, gradient), *_ = ours.units[0].gradients(ours.units[0](x, None, None)[0], Labels(y_B), x)
    assert gradient is None
    torch.testing.assert_close(end, expected)
    plain = plan("1-1-1", mode="global").segments[0].output
    assert plain
    assert plain.loss is None


@pytest.mark.parametrize("loss", ["pred", "sim", "predsim"])
def test_label_smoothing_reaches_every_cross_entropy(loss):
    network = NETWORK.model_copy(update={"loss": loss})
    plans = [
        plan("1-1-1", network=network, training=training(label_smoothing=smoothing))
        for smoothing in (0.0, 0.2)
    ]
    assert plans[1].output
    assert plans[1].output.label_smoothing == 0.2
    x = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    y_B = torch.arange(8) % 4
    losses, logits_BK = [], torch.zeros(8, 4)
    for each in plans:
        (unit,) = Learner(each.segments[0], training(), seed=1, device=CPU).units
        unit.head.classifier.weight.data.normal_(generator=torch.Generator().manual_seed(1))  # pyright: ignore
        h, _, _ = unit(x, None, None)
        logits_BK = unit.head.logits(h)
        losses.append(unit.head.loss(h, y_B))
    smoothed = nn.functional.cross_entropy(logits_BK, y_B, label_smoothing=0.2)
    share = 1 - NETWORK.beta if loss == "predsim" else 1
    expected = share * (smoothed - nn.functional.cross_entropy(logits_BK, y_B))
    torch.testing.assert_close(losses[1] - losses[0], expected, rtol=1e-3, atol=1e-6)
