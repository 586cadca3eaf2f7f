"""Small plans, data and cohorts for the engine's tests: 8x8 images, a few channels."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from dsaccel.config.study import NetworkConfig, TrainingConfig
from dsaccel.families import build_plan
from dsaccel.parts import part_of
from dsaccel.schedules.looking_ahead import ahead_of
from dsaccel.schedules.simultaneous import Simultaneous
from dsaccel.seeds import derive
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.plan import Plan
from dsaccel.spec.rung import Exit, Read
from dsaccel.training.cohort import Cohort

CPU = torch.device("cpu")
NETWORK = NetworkConfig(width=1 / 16, dropout=0.2)
H = Hierarchy.parse
TRAINING = TrainingConfig(epochs=3, batch_size=16, learning_rate=1e-2)


def plan(
    hierarchy: Hierarchy | str,
    family: str = "resnet18",
    network: NetworkConfig = NETWORK,
    **kwargs: Any,
) -> Plan:
    kwargs = {"channels": 3, "side": 8, "num_classes": 4, **kwargs}
    return build_plan(family, H(str(hierarchy)), network, **kwargs)


def plans(*hierarchies: Hierarchy | str, **kwargs) -> dict[Hierarchy, Plan]:
    return {H(str(hierarchy)): plan(hierarchy, **kwargs) for hierarchy in hierarchies}


@dataclass
class Batches:
    """Random images with a little of their class in them, shuffled and shifted by epoch."""

    num_images: int = 48
    batch_size: int = 16
    channels: int = 3
    side: int = 8
    num_classes: int = 4
    seed: int = 0
    x: Tensor = field(init=False)
    y: Tensor = field(init=False)

    def __post_init__(self) -> None:
        generator = torch.Generator().manual_seed(self.seed)
        shape = (self.num_images, self.channels, self.side, self.side)
        self.y = torch.arange(self.num_images) % self.num_classes
        self.x = torch.randn(shape, generator=generator) + self.y[:, None, None, None] / 2

    def train_batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(derive(self.seed, "order", epoch))
        order = torch.randperm(self.num_images, generator=generator)
        shifted = self.x.roll(epoch, dims=3)
        for start in range(0, self.num_images, self.batch_size):
            rows = order[start : start + self.batch_size]
            yield shifted[rows], self.y[rows]

    def val_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield self.x[:32], self.y[:32]
        yield self.x[32:], self.y[32:]


def cohort(
    networks: dict[Hierarchy, Plan],
    training: TrainingConfig = TRAINING,
    *,
    seed: int = 1,
    data: Batches | None = None,
    harvest: dict[Hierarchy, Plan] | None = None,
    looks_ahead: bool = False,
) -> Cohort:
    data = data or Batches()
    schedule = ahead_of(part_of(training, "schedule")) if looks_ahead else None
    return Cohort(
        networks, training, data, seed=seed, device=CPU, harvest=harvest, schedule=schedule
    )


def read_as(heads: Iterable[float]) -> Read:
    """What is read of a network with an output layer whose heads are these."""
    heads = tuple(heads)
    exits: dict[Exit, float] = {"head": heads[-2:][0], "ensemble": heads[0], "layer": heads[-1]}
    return Read(heads, exits, heads[-1])


def trained(
    networks: dict[Hierarchy, Plan], training: TrainingConfig = TRAINING, **kwargs
) -> Cohort:
    result = cohort(networks, training, **kwargs)
    for _ in result.rungs():
        pass
    return result


def tensors(trained_cohort: Cohort, hierarchy: Hierarchy) -> dict[str, Tensor]:
    """Every weight, buffer and optimizer value of a network, by a name that says where it is."""
    values: dict[str, Tensor] = {}
    for depth, node in enumerate(trained_cohort.trie.path(hierarchy)):
        learner = trained_cohort.learners[node]
        for i, (unit, adam) in enumerate(zip(learner.units, learner.optimizers, strict=True)):
            for key, value in unit.state_dict().items():
                values[f"{depth}.{i}.{key}"] = value
            for j, state in enumerate(adam.state.values()):
                values |= {f"{depth}.{i}.adam.{j}.{key}": value for key, value in state.items()}
    return values


def differing(a: dict[str, Tensor], b: dict[str, Tensor]) -> list[str]:
    """Names of the tensors that are not bit for bit equal."""
    assert a.keys() == b.keys()
    return [name for name in a if not torch.equal(a[name], b[name])]


def num_undecided(logits_BK: Tensor) -> int:
    """Images whose two likeliest classes are so near that the rounding of a sum may decide."""
    best, second = logits_BK.topk(2, dim=1).values.unbind(1)
    return int((best - second < 1e-5).sum())


def write_images(folder: Path, classes: str = "ab", shift: int = 0, num: int = 8) -> Path:
    """A folder of 8x8 RGB images of noise, `num` of each class in each split."""
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in classes:
            for index in range(num):
                path = folder / split / name / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = rng.integers(0, 200, (8, 8, 3)) + shift
                Image.fromarray(pixels.astype(np.uint8)).save(path)
    return folder


def spy_on_training(monkeypatch) -> list[int]:
    """The epochs that cohorts have behind them when they are trained on."""
    starts: list[int] = []
    real = Simultaneous.rungs

    def spying(self, *args, start, **options):
        starts.append(start)
        return real(self, *args, start=start, **options)

    monkeypatch.setattr(Simultaneous, "rungs", spying)
    return starts


def disagreements(together: Cohort, networks: dict[Hierarchy, Plan], **kwargs) -> list[str]:
    """What differs between networks trained together and each alone."""
    wrong = []
    for name, network in networks.items():
        alone = trained({name: network}, together.training, **kwargs)
        wrong += differing(tensors(together, name), tensors(alone, name))
        if together.head_accuracies(name) != alone.head_accuracies(name):
            wrong.append(f"{name} accuracies")
    return wrong


def whole_and_resumed(
    make: Callable[[], Cohort], retired: Hierarchy, stop: int, checkpoint: Path
) -> tuple[Cohort, Cohort]:
    """A cohort trained at once, and one saved after a rung; at rung 1 a network retires."""

    def train(one: Cohort, stop: int | None = None) -> Cohort:
        for rung in one.rungs():
            if rung.step == 1:
                one.retire({retired})
            if rung.step == stop:
                torch.save(one.state_dict(), checkpoint)
                break
        return one

    train(make(), stop)
    second = make()
    second.load_state_dict(torch.load(checkpoint, weights_only=True))
    return train(make()), train(second)


def leaky(module: nn.Module) -> nn.Module:
    """The module with a leaky ReLU for each ReLU."""
    for name, child in module.named_children():
        if isinstance(child, nn.ReLU):
            setattr(module, name, nn.LeakyReLU(0.01))
        leaky(child)
    return module
