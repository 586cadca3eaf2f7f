"""Training images a second: ours, and the usual way with torchvision and a data loader.

    python benchmarks/loader.py --batches 40 --workers 0 2

Both give augmented batches of the same images: crop after padding by an eighth, flip, normalise.
Ours are drawn from images that lie on the device as a whole; the usual way transforms a picture at
a time. A loader's workers are started before the clock (`persistent_workers`), and their processor
time is not in ours, so that with workers only the time that passed can be read. Then the share of a
training step of ResNet18 that the data takes on this device.
"""

import argparse
from collections.abc import Callable, Iterator
from typing import Any

import measure
import torch
from cohort import Pictures, make_images, our_data
from rich.console import Console
from rich.table import Table
from step import our_step, recipe
from torch.utils.data import DataLoader

from dsaccel.spec.hierarchy import Hierarchy

HIERARCHY = Hierarchy((2, 2, 2, 2))


def main() -> None:
    """Time all sides, print a table, write the figures."""
    options = parse()
    torch.set_num_threads(options.threads)
    environment = measure.environment()
    pixels, labels = make_images(options.images)
    data = our_data(pixels, labels, options.batch_size)
    batches: dict[str, Iterator[Any]] = {}
    for workers in options.workers:
        loader: Any = DataLoader(
            Pictures(pixels, labels),
            batch_size=options.batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=workers,
            persistent_workers=workers > 0,
        )
        batches[f"torchvision, {workers} workers"] = endless(lambda _, own=loader: iter(own))
    batches["dsaccel"] = endless(data.train_batches)

    runs = measure.interleave(
        {name: reader(side, options.batches) for name, side in batches.items()},
        rounds=options.rounds,
        warm_up=1,
    )
    x, y = next(batches["dsaccel"])
    network = recipe("resnet18", options.width)
    steps = measure.interleave(
        {"step": our_step("resnet18", HIERARCHY, network, "fp32", (x, y))}, rounds=3, warm_up=1
    )["step"]

    images = options.batches * options.batch_size
    rates = {name: images / measure.median(own) for name, own in runs.items()}
    batch_s = measure.median(runs["dsaccel"], "cpu_s") / options.batches
    share = batch_s / (batch_s + measure.median(steps, "cpu_s"))
    name = f"ResNet18 {HIERARCHY} of width {options.width:g}"
    console = Console()
    console.print(table(runs, rates, options.batches))
    console.print(f"Share of a training step of {name}, processor time: {share:.2%}")
    record = {
        "setting": {
            "images": options.images,
            "batch_size": options.batch_size,
            "batches_a_round": options.batches,
            "network": name,
        },
        "images_per_s": rates,
        "share_of_step": share,
        "step_runs": steps,
        "environment": environment,
        **measure.record(runs),
    }
    print(measure.write(options.out, record))


def endless(epoch: Callable[[int], Iterator[Any]]) -> Iterator[Any]:
    """Batches, epoch after epoch."""
    number = 0
    while True:
        number += 1
        yield from epoch(number)


def reader(batches: Iterator[Any], num: int) -> Callable[[], None]:
    """Reads the next so many batches."""

    def read() -> None:
        for _ in range(num):
            next(batches)

    return read


def table(runs: measure.Runs, rates: dict[str, float], batches: int) -> Table:
    """A row a side."""
    base = next(iter(runs))
    result = Table(title="Training images")
    result.add_column("side")
    for heading in ("images/s", "batch, ms", "batch, ms of processor", f"faster than {base}"):
        result.add_column(heading, justify="right")
    for name, own in runs.items():
        milliseconds = (1000 * measure.median(own, clock) / batches for clock in measure.CLOCKS)
        faster = "" if name == base else str(measure.ratio(runs[base], own))
        cells = (f"{value:.2f}" for value in milliseconds)
        result.add_row(name, f"{rates[name]:,.0f}", *cells, faster)
    return result


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--batches", type=int, default=20, help="of a round")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--width", type=float, default=1.0, help="of the network of the share")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", default="loader")
    return parser.parse_args()


if __name__ == "__main__":
    main()
