"""All hierarchies of a small space: as a trie, one by one, and one by one in the reference code.

    python benchmarks/cohort.py --reference CHECKOUT --precision fp32 bf16 --batches 2 --epochs 1

A few epochs of each network over a few batches, data loading included: ours from the images in
memory, the reference's through the data loader and the transformations that it uses itself. Making
the networks is not timed; evaluation is left out, but for ours of 8 images. The images are random;
the time does not depend on what they show.
"""

import argparse
import itertools
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import local_loss
import measure
import numpy as np
import torch
from flops import training_flops, trie_flops
from PIL import Image
from rich.console import Console
from step import CHANNELS, NUM_CLASSES, SIDE, recipe
from torch.utils.data import DataLoader, Dataset

from dsaccel.config.study import DataConfig, NetworkConfig, TrainingConfig
from dsaccel.data.batches import Data, EvalSplit
from dsaccel.data.source import open_source
from dsaccel.families import build_plan
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.plan import Plan
from dsaccel.spec.trie import Trie
from dsaccel.training.cohort import Cohort
from dsaccel.training.host_memory import keep_freed_memory

PADDING = 4
MEAN, STD = (0.424, 0.415, 0.384), (0.283, 0.278, 0.284)
NUM_VAL = 8
REFERENCE = "reference one by one"
HOW = ("one by one", "trie")


def main() -> None:
    """Time all sides, print a table, write the figures."""
    options = parse()
    torch.set_num_threads(options.threads)
    environment = measure.environment()
    network = recipe(options.network, options.width)
    plans = make_plans(options)
    checkout = local_loss.read_checkout(options.reference) if options.reference else None
    sides = [REFERENCE] if checkout is not None else []
    sides += [f"{precision} {how}" for precision in options.precision for how in HOW]

    runs: measure.Runs = {name: [] for name in sides}
    # a process a run: what one side has done with the C library's memory must not help the other
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as processes:
        for number in range(options.rounds):
            for name in sides[:: 1 if number % 2 == 0 else -1]:
                runs[name].append(processes.submit(run_side, name, options).result())
                run = runs[name][-1]
                print(f"round {number + 1}, {name}: {run}", file=sys.stderr, flush=True)

    sharing = flop_ratio(plans)
    name = f"{options.network}-{options.blocks}-width{options.width:g}-{options.batch_size}"
    console = Console()
    console.print(measure.table(f"{len(plans)} hierarchies of {name}", runs))
    trie_gains = {
        precision: {
            clock: measure.ratio(runs[f"{precision} one by one"], runs[f"{precision} trie"], clock)
            for clock in measure.CLOCKS
        }
        for precision in options.precision
    }
    console.print(f"Training FLOPs one by one over those of the trie: {sharing:.3f}")
    for precision, gains in trie_gains.items():
        shares = {clock: f"{gain.ratio / sharing:.3f}" for clock, gain in gains.items()}
        console.print(f"{precision}: trie against one by one, share of that: {shares}")
    record = {
        "setting": {
            "network": options.network,
            "hierarchies": list(plans),
            **network.model_dump(include={"width", "loss", "granularity", "dropout"}),
            "batch_size": options.batch_size,
            "batches_an_epoch": options.batches,
            "epochs": options.epochs,
            "side": SIDE,
        },
        "reference": checkout.record if checkout else None,
        "flop_ratio": sharing,
        "trie_faster_than_one_by_one": trie_gains,
        "environment": environment,
        **measure.record(runs),
    }
    print(measure.write(options.out or f"cohort-{name}", record))


def run_side(name: str, options: argparse.Namespace) -> measure.Run:
    """All hierarchies once, one way."""
    torch.set_num_threads(options.threads)
    plans = make_plans(options)
    images = make_images(options.batches * options.batch_size)
    if name == REFERENCE:
        checkout = local_loss.read_checkout(options.reference)
        loader = reference_loader(*images, options.batch_size)
        network = recipe(options.network, options.width)
        return sum_runs(
            reference_epochs(checkout, options.network, h, network, loader, options.epochs)
            for h in hierarchies(options)
        )
    precision, how = name.split(" ", 1)
    training = TrainingConfig.model_validate(
        {"batch_size": options.batch_size, "precision": precision}
    )
    data = our_data(*images, options.batch_size)
    if how == "trie":
        return our_epochs(plans, training, data, options.epochs)
    return sum_runs(
        our_epochs({h: plan}, training, data, options.epochs) for h, plan in plans.items()
    )


def hierarchies(options: argparse.Namespace) -> list[Hierarchy]:
    return list(map(Hierarchy, itertools.product(range(1, options.blocks + 1), repeat=4)))


def make_plans(options: argparse.Namespace) -> dict[Hierarchy, Plan]:
    """All networks, by hierarchy."""
    network = recipe(options.network, options.width)
    return {
        h: build_plan(
            options.network, h, network, channels=CHANNELS, side=SIDE, num_classes=NUM_CLASSES
        )
        for h in hierarchies(options)
    }


def flop_ratio(plans: dict[Hierarchy, Plan]) -> float:
    """Training FLOPs of all networks on their own over those of their trie."""
    separate = sum(training_flops(s) for plan in plans.values() for s in plan.segments)
    return separate / trie_flops(Trie(plans))


def our_epochs(
    plans: dict[Hierarchy, Plan], training: TrainingConfig, data: Data, epochs: int
) -> measure.Run:
    """The first epochs of a new cohort."""
    keep_freed_memory()
    rungs = Cohort(plans, training, data, seed=1, device=torch.device("cpu")).rungs()
    return measure.time_once(lambda: list(itertools.islice(rungs, epochs)))


def reference_epochs(
    checkout: local_loss.Checkout,
    network: str,
    hierarchy: Hierarchy,
    config: NetworkConfig,
    loader: Any,
    epochs: int,
) -> measure.Run:
    """The first epochs of a new network of the reference, its statistics switched off."""
    trainer = local_loss.Trainer(
        checkout,
        network,
        hierarchy.blocks,
        config,
        channels=CHANNELS,
        side=SIDE,
        num_classes=NUM_CLASSES,
    )
    return measure.time_once(lambda: [trainer.train(loader) for _ in range(epochs)])


def sum_runs(runs: Any) -> measure.Run:
    walls, cpus, faults = zip(*((r.wall_s, r.cpu_s, r.page_faults) for r in runs), strict=True)
    return measure.Run(sum(walls), sum(cpus), sum(faults))


def make_images(num: int) -> tuple[np.ndarray, np.ndarray]:
    """(N, H, W, C) uint8 and (N,) int64."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (num, SIDE, SIDE, CHANNELS), dtype=np.uint8)
    return pixels, random.integers(0, NUM_CLASSES, num)


def our_data(pixels: np.ndarray, labels: np.ndarray, batch_size: int) -> Data:
    """The images as `load_data` puts them on the device, with a few to evaluate on."""
    mean, std = (torch.tensor([255 * level for level in levels]) for levels in (MEAN, STD))
    x, y = torch.from_numpy(pixels), torch.from_numpy(labels)
    return Data(
        source=open_source(DataConfig()),
        resolved=DataConfig(name="random", image_size=SIDE, crop_padding=PADDING, flip=True),
        class_names=tuple(str(label) for label in range(NUM_CLASSES)),
        notes=(),
        has_test=False,
        val_is_given=False,
        fingerprint="",
        mean=MEAN,
        std=STD,
        seed=1,
        batch_size=batch_size,
        train_pixels=torch.nn.functional.pad(x, (0, 0, *[PADDING] * 4)),
        train_labels=y,
        val=EvalSplit(x[:NUM_VAL], y[:NUM_VAL], mean, std, fingerprint=""),
    )


class Pictures(Dataset[Any]):
    """Images as torchvision's CIFAR-10 gives them: a picture each, transformed when asked for."""

    def __init__(self, pixels: np.ndarray, labels: np.ndarray) -> None:
        self.pixels, self.labels = pixels, labels
        from torchvision import transforms

        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(SIDE, padding=PADDING),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transform(Image.fromarray(self.pixels[index])), int(self.labels[index])


def reference_loader(pixels: np.ndarray, labels: np.ndarray, batch_size: int) -> Any:
    """The data loader of the reference: in the same process."""
    return DataLoader(Pictures(pixels, labels), batch_size=batch_size, shuffle=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--reference", type=Path, help="a clone of anokland/local-loss")
    parser.add_argument("--network", default="resnet18", choices=("resnet18", "resnet50"))
    parser.add_argument("--blocks", type=int, default=2, help="most blocks of each of 4 stages")
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--batches", type=int, default=2, help="batches an epoch")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--precision", nargs="+", default=["fp32"], choices=("fp32", "bf16"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", help="name of the file in results/, without its ending")
    return parser.parse_args()


if __name__ == "__main__":
    main()
