"""Our engine against the public code of Nøkland and Eidnes (ICML 2019), number by number.

Both sides get the same weights and the same batches, in float64 at reduced width, without dropout.
The losses of every step, the first gradients and all weights at the end must agree. What is
compared and how, and what differs by choice, is in docs/reference.md.

    python benchmarks/reference.py CHECKOUT [--out benchmarks/results/reference.json]

CHECKOUT is a clone of anokland/local-loss. Its classes are read from there at run time.
"""

import argparse
import contextlib
import importlib.metadata
import itertools
import json
import math
import platform
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import local_loss
import torch
from local_loss import Checkout
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.optimizer import register_optimizer_step_pre_hook

from dsaccel.config.study import NetworkConfig, TrainingConfig
from dsaccel.families import build_plan, find_family
from dsaccel.nn.layers import LayerModule
from dsaccel.nn.units import LocalHead, OutputLayer, Unit
from dsaccel.schedules.simultaneous import simultaneous
from dsaccel.spec.trie import Trie
from dsaccel.training.learner import Learner

NETWORKS = ("vgg8b", "resnet18", "resnet50")
LOSSES = ("pred", "sim", "predsim")
STARTS = ("as built", "drawn")
"""Classifiers at zero and normalisations at one and zero, as both sides build them; or drawn, since
a classifier at zero sends no gradient into the features."""

WIDTH = 1 / 8
NUM_STEPS = 5
BATCH_SIZE = 16
CHANNELS, SIDE, NUM_CLASSES = 3, 32, 10
LEARNING_RATE = 5e-4

LIMITS = {"losses": 1e-9, "gradients": 1e-9, "weights": 1e-5}
"""Largest relative difference; of gradients and weights: of each tensor's norm."""

Modules = list[dict[str, nn.Module]]
"""The modules of each unit by role, the output layer last; the same roles on both sides."""


class Batch(NamedTuple):
    x: Tensor
    y: Tensor


class Batches(list[Batch]):
    """Data in the shape that either side asks for."""

    @property
    def dataset(self) -> Tensor:
        """Its length is the number of images."""
        return torch.cat([batch.y for batch in self])

    def train_batches(self, epoch: int) -> Iterator[Batch]:
        return iter(self)

    def val_batches(self) -> Iterator[Batch]:
        return iter(self[:1])


@dataclass
class Trace:
    """What a side did: the loss of each `backward`, and the first gradient of each parameter."""

    losses: list[float] = field(default_factory=list)
    gradients: dict[str, Tensor] = field(default_factory=dict)

    @contextlib.contextmanager
    def record(self, tensors: dict[str, Tensor]) -> Iterator[None]:
        """Listen to every `backward` and every optimizer's step; both go on unchanged."""
        names = {id(tensor): name for name, tensor in tensors.items()}
        backward = torch.Tensor.backward

        def listen(loss: Tensor, *args: Any, **kwargs: Any) -> None:
            self.losses.append(loss.item())
            backward(loss, *args, **kwargs)

        def before_step(optimizer: torch.optim.Optimizer, *_: Any) -> None:
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        self.gradients.setdefault(names[id(parameter)], parameter.grad.clone())

        handle = register_optimizer_step_pre_hook(before_step)
        try:
            with mock.patch.object(torch.Tensor, "backward", listen):
                yield
        finally:
            handle.remove()


@dataclass
class Comparison:
    """The largest differences of one network under one loss from one start."""

    network: str
    loss: str
    start: str
    num_units: int
    """Units with a local loss; the output layer not counted."""
    num_tensors: int
    """Weights, and running statistics of the normalisations, that were compared."""
    losses: float
    gradients: float
    weights: float
    excluded_weights: float
    """The same for the biases that are excluded (see `is_noise`); no limit."""

    @property
    def passed(self) -> bool:
        return all(getattr(self, name) <= limit for name, limit in LIMITS.items())


class Reference:
    """A network of the reference code and its own training loop."""

    def __init__(self, checkout: Checkout, network: str, loss: str) -> None:
        flags = {
            "--model": network,
            "--loss-sup": loss,
            "--nonlin": "leakyrelu",
            "--feat-mult": WIDTH,
            "--dim-in-decoder": round(NetworkConfig().decoder_size * WIDTH),
            "--batch-size": BATCH_SIZE,
            "--lr": LEARNING_RATE,
        }
        space = local_loss.load(checkout, flags)
        self.args = space["args"]
        space["torch"] = Widened()
        one_hot = space["to_one_hot"]
        space["to_one_hot"] = lambda y, num_classes: one_hot(y, num_classes).double()
        self.model = local_loss.build_network(
            space,
            network,
            find_family(network).standard.blocks,
            channels=CHANNELS,
            side=SIDE,
            num_classes=NUM_CLASSES,
        ).double()
        self.optimizer = local_loss.set_up_training(space, self.model, LEARNING_RATE)
        self._space = space

    @property
    def output_weight(self) -> float:
        return 1 - self.args.beta if self.args.loss_sup == "predsim" else 1.0

    @property
    def modules(self) -> Modules:
        kinds = (self._space["LocalLossBlockConv"], self._space["LocalLossBlockLinear"])
        modules: Modules = []
        for name, module in self.model.named_modules():
            if isinstance(module, kinds):
                roles = {
                    "map": "encoder",
                    "norm": "bn",
                    "classifier": "decoder_y",
                    "similarity": "conv_loss" if hasattr(module, "conv_loss") else "linear_loss",
                }
                parts = {role: getattr(module, own, None) for role, own in roles.items()}
                modules.append({role: part for role, part in parts.items() if part is not None})
            elif name.endswith("shortcut") and list(module.children()):
                modules[-1]["shortcut"] = module  # registered after the unit that adds it
        is_vgg = hasattr(self.model, "classifier")
        output = self.model.classifier.layer_out if is_vgg else self.model.linear
        return [*modules, {"classifier": output}]

    def train(self, batches: Batches) -> None:
        local_loss.train(self._space, batches, LEARNING_RATE)


class Widened:
    """torch, but what the reference makes as fp32 by name is fp64.

    Its unused unsupervised loss is an fp32 zero of shape (1,): added to a loss of shape () it makes
    the reported sum fp32. Gradients are the same either way.
    """

    FloatTensor = torch.DoubleTensor

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


class Ours:
    """The same network in our engine: plan, trie, learners, simultaneous schedule."""

    def __init__(self, network: str, loss: str, reference: Reference) -> None:
        config = NetworkConfig.model_validate(
            {"width": WIDTH, "loss": loss, "beta": reference.args.beta}
        )
        self.training = TrainingConfig(
            epochs=1,
            batch_size=BATCH_SIZE,
            learning_rate=LEARNING_RATE,
            lr_milestones=(),
            output_weight=reference.output_weight,
            adam_eps=reference.optimizer.param_groups[0]["eps"],
        )
        plan = build_plan(
            network,
            find_family(network).standard,
            config,
            channels=CHANNELS,
            side=SIDE,
            num_classes=NUM_CLASSES,
            training=self.training,
        )
        self.trie = Trie({plan.hierarchy: plan})
        cpu = torch.device("cpu")
        self.learners = {
            node: Learner(node.segment, self.training, seed=1, device=cpu, dtype=torch.float64)
            for node in self.trie.path(plan.hierarchy)
        }

    @property
    def units(self) -> list[Unit]:
        return [unit for learner in self.learners.values() for unit in learner.units]

    @property
    def modules(self) -> Modules:
        modules: Modules = []
        for unit in self.units:
            parts: dict[str, nn.Module | None] = {}
            for layer in unit.layers:  # one: every layer carries a loss
                assert isinstance(layer, LayerModule)
                parts |= {"map": layer.weight, "norm": layer.norm, "shortcut": layer.shortcut}
            assert isinstance(unit.head, LocalHead | OutputLayer)
            parts["classifier"] = unit.head.classifier
            if isinstance(unit.head, LocalHead):
                parts["similarity"] = getattr(unit.head, "similarity", None)
            modules.append({role: part for role, part in parts.items() if part is not None})
        return modules

    def train(self, batches: Batches) -> None:
        for _ in simultaneous(self.trie, self.learners, batches, self.training.epochs):
            pass

    @contextlib.contextmanager
    def record_read_outs(self) -> Iterator[list[Tensor]]:
        """The logits of every local classifier, in the order of the steps."""
        logits: list[Tensor] = []
        handles = [
            unit.head.classifier.register_forward_hook(lambda *call: logits.append(call[2]))
            for unit in self.units
            if isinstance(unit.head, LocalHead)
        ]
        yield logits
        for handle in handles:
            handle.remove()


def main() -> None:
    """Compare, print a table, write the figures; exit code 1 if something differs."""
    parser = argparse.ArgumentParser(description="Compare dsaccel with local-loss.")
    parser.add_argument("checkout", type=Path, help="a clone of anokland/local-loss")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "reference.json"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    try:
        checkout = local_loss.read_checkout(options.checkout)
    except ValueError as error:
        parser.error(str(error))
    console = Console()
    comparisons = []
    with console.status("comparing") as status:
        for case in itertools.product(NETWORKS, LOSSES, STARTS):
            status.update(" ".join(case))
            comparisons.append(compare(checkout, *case))
    console.print(as_table(comparisons))
    text = json.dumps(as_record(comparisons, checkout), indent=2)
    options.out.write_text(text + "\n", encoding="utf-8")
    sys.exit(not all(comparison.passed for comparison in comparisons))


def compare(checkout: Checkout, network: str, loss: str, start: str) -> Comparison:
    """Train both sides for a few steps from the same weights on the same batches."""
    torch.manual_seed(0)  # the reference draws from the global generator
    reference = Reference(checkout, network, loss)
    ours = Ours(network, loss, reference)
    theirs, own = named(reference.modules), named(ours.modules)
    shared = share_weights(theirs, own, loss, drawn=start == "drawn")
    batches = make_batches()

    expected, got = Trace(), Trace()
    with expected.record(theirs):
        reference.train(batches)
    with ours.record_read_outs() as read_outs, got.record(own):
        ours.train(batches)
    if loss == "sim":
        got.losses = without_read_outs(got.losses, read_outs, batches, len(ours.units))

    exact = [name for name in shared if not is_noise(name, network)]
    noise = [name for name in shared if is_noise(name, network)]
    assert len(expected.losses) == len(got.losses) == NUM_STEPS * len(ours.units)
    return Comparison(
        network,
        loss,
        start,
        num_units=len(ours.units) - 1,
        num_tensors=len(exact),
        losses=max(map(relative, as_tensors(got.losses), as_tensors(expected.losses))),
        gradients=max(
            relative(got.gradients.get(name), expected.gradients.get(name))
            for name in exact
            if theirs[name].requires_grad
        ),
        weights=max(relative(own[name], theirs[name]) for name in exact),
        excluded_weights=max((relative(own[name], theirs[name]) for name in noise), default=0.0),
    )


def named(modules: Modules) -> dict[str, Tensor]:
    """Weights and running statistics, by unit, role and name."""
    return {
        f"{number}.{role}.{name}": tensor
        for number, parts in enumerate(modules)
        for role, part in parts.items()
        for name, tensor in part.state_dict(keep_vars=True).items()
        if tensor.is_floating_point()
    }


def share_weights(
    theirs: dict[str, Tensor], own: dict[str, Tensor], loss: str, *, drawn: bool
) -> list[str]:
    """Give both sides one start; returns the names of the tensors that both have."""
    output = f"{max(int(name.split('.')[0]) for name in own)}.classifier"
    extra = {name for name in own if loss == "sim" and "classifier" in name and output not in name}
    assert own.keys() - extra == theirs.keys(), own.keys() ^ theirs.keys()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in theirs.items():
            assert own[name].shape == tensor.shape, name
            assert own[name].dtype == tensor.dtype == torch.float64, name
            assert constant(own[name]) == constant(tensor), f"{name} starts differently"
            if drawn and tensor.requires_grad and ("classifier" in name or tensor.ndim == 1):
                tensor.add_(torch.randn(tensor.shape, generator=generator), alpha=0.2)
            own[name].copy_(tensor)
        if drawn:
            for name in sorted(extra):
                own[name].normal_(0, 0.2, generator=generator)
    return list(theirs)


def constant(tensor: Tensor) -> float | None:
    """The value that all of a tensor has (0 of a local classifier, 1 of a scale); None: random."""
    first = tensor.flatten()[0]
    return first.item() if bool((tensor == first).all()) else None


def make_batches() -> Batches:
    """Random images with a little of their class in them, another batch each step."""
    generator = torch.Generator().manual_seed(2)
    batches = Batches()
    for _ in range(NUM_STEPS):
        y = torch.randint(NUM_CLASSES, (BATCH_SIZE,), generator=generator)
        x = torch.randn(BATCH_SIZE, CHANNELS, SIDE, SIDE, generator=generator, dtype=torch.float64)
        batches.append(Batch(x + y[:, None, None, None] / NUM_CLASSES, y))
    return batches


def without_read_outs(
    losses: list[float], read_outs: list[Tensor], batches: Batches, num_units: int
) -> list[float]:
    """Our `sim` losses less the cross-entropy of the read-outs: the reference has none."""
    logits = iter(read_outs)
    return [
        loss
        if position % num_units == num_units - 1  # the output layer
        else loss - F.cross_entropy(next(logits), batches[position // num_units].y).item()
        for position, loss in enumerate(losses)
    ]


def is_noise(name: str, network: str) -> bool:
    """Biases that the normalisation after them takes out: their gradient is rounding noise."""
    return network.startswith("vgg") and name.endswith("map.bias")


def relative(got: Tensor | None, expected: Tensor | None) -> float:
    """Norm of the difference over the expected norm; 0 where both are exactly 0.

    Infinite where one is missing, and rather than NaN, which `max` could pass over.
    """
    if got is None or expected is None:
        return math.inf
    if torch.equal(got, expected):
        return 0.0
    ratio = ((got - expected).norm() / expected.norm()).item()
    return math.inf if math.isnan(ratio) else ratio


def as_tensors(losses: list[float]) -> tuple[Tensor, ...]:
    """Scalars of float64."""
    return torch.tensor(losses, dtype=torch.float64).unbind()


def as_table(comparisons: list[Comparison]) -> Table:
    """A row a network and loss: the larger difference of the two starts."""
    limits = ", ".join(f"{name} {limit:g}" for name, limit in LIMITS.items())
    table = Table(
        title=f"Largest relative difference: losses of {NUM_STEPS} steps, first gradients,\n"
        f"weights after {NUM_STEPS} steps (limits: {limits})"
    )
    for heading in ("network", "loss", "units", "tensors"):
        table.add_column(heading)
    for heading in LIMITS:
        table.add_column(heading, justify="right")
    table.add_column("result")
    for (network, loss), group in itertools.groupby(comparisons, lambda c: (c.network, c.loss)):
        rows = list(group)
        largest = [f"{max(getattr(row, name) for row in rows):.1e}" for name in LIMITS]
        result = "[green]pass" if all(row.passed for row in rows) else "[red]FAIL"
        units, tensors = str(rows[0].num_units), str(rows[0].num_tensors)
        table.add_row(network, loss, units, tensors, *largest, result)
    return table


def as_record(comparisons: list[Comparison], checkout: Checkout) -> dict[str, Any]:
    """All figures and what they were made with."""
    return {
        "reference": checkout.record,
        "versions": {
            "dsaccel": importlib.metadata.version("dsaccel"),
            "python": platform.python_version(),
            "torch": torch.__version__,
        },
        "setting": {
            "width": WIDTH,
            "batch_size": BATCH_SIZE,
            "num_steps": NUM_STEPS,
            "side": SIDE,
            "num_classes": NUM_CLASSES,
            "learning_rate": LEARNING_RATE,
            "dtype": "float64",
        },
        "limits": LIMITS,
        "comparisons": [asdict(c) | {"passed": c.passed} for c in comparisons],
    }


if __name__ == "__main__":
    main()
