"""One training step of ours against one of the reference code's, round by round in one process.

    python benchmarks/step.py --reference CHECKOUT --network resnet18 --precision fp32 bf16

CHECKOUT is a clone of anokland/local-loss; without it our sides are timed against the first of
them. All sides learn from the same batch of random images, under `predsim` on every convolution.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import local_loss
import measure
import torch
from rich.console import Console
from torch import Tensor

from dsaccel.config.study import NetworkConfig, TrainingConfig
from dsaccel.families import build_plan, find_family
from dsaccel.parts import BUILTIN
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.training.host_memory import keep_freed_memory
from dsaccel.training.learner import Learner

CHANNELS, SIDE, NUM_CLASSES = 3, 32, 10
RECIPES = {"resnet18": (0.3, 4096), "vgg8b": (0.2, 2048)}
"""Dropout and decoder size: of Ma et al., and for VGG8b of the reference's own runs."""


def main() -> None:
    """Time all sides, print a table, write the figures."""
    options = parse()
    torch.set_num_threads(options.threads)
    environment = measure.environment()
    hierarchy = Hierarchy.parse(options.hierarchy)
    network = recipe(options.network, options.width)
    batch = make_batch(options.batch_size)
    checkout = local_loss.read_checkout(options.reference) if options.reference else None
    sides: dict[str, Callable[[], object]] = {}
    if checkout is not None:
        sides["reference"] = reference_step(checkout, options.network, hierarchy, network, batch)
    for precision in options.precision:
        sides[precision] = our_step(options.network, hierarchy, network, precision, batch)

    runs = measure.interleave(sides, rounds=options.rounds, warm_up=options.warm_up)

    name = f"{options.network}-{options.hierarchy}-width{options.width:g}-{options.batch_size}"
    Console().print(measure.table(f"A step of {name}", runs))
    record = {
        "setting": {
            "network": options.network,
            "hierarchy": options.hierarchy,
            **network.model_dump(include={"width", "loss", "granularity", "dropout"}),
            "decoder_size": network.decoder_size,
            "batch_size": options.batch_size,
            "side": SIDE,
        },
        "reference": checkout.record if checkout else None,
        "environment": environment,
        **measure.record(runs),
    }
    print(measure.write(options.out or f"step-{name}", record))


def recipe(network: str, width: float) -> NetworkConfig:
    dropout, decoder_size = RECIPES.get(network, RECIPES["resnet18"])
    return NetworkConfig(width=width, dropout=dropout, decoder_size=decoder_size)


def make_batch(batch_size: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch_size, CHANNELS, SIDE, SIDE, generator=generator)
    return x, torch.randint(NUM_CLASSES, (batch_size,), generator=generator)


def reference_step(
    checkout: local_loss.Checkout,
    network: str,
    hierarchy: Hierarchy,
    config: NetworkConfig,
    batch: tuple[Tensor, Tensor],
) -> Callable[[], object]:
    """An epoch of one batch in the reference's own training loop, its statistics switched off."""
    trainer = local_loss.Trainer(
        checkout,
        network,
        hierarchy.blocks,
        config,
        channels=CHANNELS,
        side=SIDE,
        num_classes=NUM_CLASSES,
    )

    class Batches(list[tuple[Tensor, Tensor]]):
        dataset = batch[1]

    def step() -> None:
        measure.forget_freed_memory()  # a setting of the process: ours alone may have it
        trainer.train(Batches([batch]))

    return step


def our_step(
    network: str,
    hierarchy: Hierarchy,
    config: NetworkConfig,
    precision: str,
    batch: tuple[Tensor, Tensor],
) -> Callable[[], object]:
    """The learners of a network's segments, one after the other, as in `simultaneous`."""
    plan = build_plan(
        network, hierarchy, config, channels=CHANNELS, side=SIDE, num_classes=NUM_CLASSES
    )
    training = TrainingConfig.model_validate({"batch_size": len(batch[1]), "precision": precision})
    device = torch.device("cpu")
    learners = [Learner(segment, training, seed=1, device=device) for segment in plan.segments]
    for learner in learners:
        learner.start_epoch(1)
    # what the data gives: channels last
    x_start = batch[0].contiguous(memory_format=torch.channels_last)

    def step() -> None:
        keep_freed_memory()
        x, y = x_start, batch[1]
        for learner in learners:
            x = learner.step(x, y)

    return step


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--reference", type=Path, help="a clone of anokland/local-loss")
    parser.add_argument("--network", default="resnet18", choices=BUILTIN["family"])
    parser.add_argument("--hierarchy", help="default: the network's own")
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--precision", nargs="+", default=["fp32"], choices=["fp32", "bf16"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--warm-up", type=int, default=2)
    parser.add_argument("--out", help="name of the file in results/, without its ending")
    options = parser.parse_args()
    options.hierarchy = options.hierarchy or str(find_family(options.network).standard)
    return options


if __name__ == "__main__":
    main()
