"""Does the accuracy depend on how a CPU convolves? Digits, the same seeds each way.

    python benchmarks/precision.py --seeds 3

fp32 with direct convolutions, fp32 by tiles wherever a tile fits (`dsaccel/nn/winograd.py`
takes wide layers only), and bf16 autocast. Validation accuracy of the output layer after the last
epoch, and of the deepest local head; differences are taken seed by seed.
"""

import argparse
import statistics
import sys

import measure
from rich.console import Console
from rich.table import Table

from dsaccel.config.study import DataConfig, NetworkConfig, RunConfig, RuntimeConfig, TrainingConfig
from dsaccel.spec import tiling
from dsaccel.training.train import Training

WAYS = {
    "fp32 direct": ("fp32", sys.maxsize),
    "fp32 by tiles": ("fp32", 1),
    "bf16": ("bf16", sys.maxsize),
}
"""Precision, and the fewest channels of a layer that goes by tiles."""


def main() -> None:
    """Train each way and seed, print a table, write the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", default="digits", help="`digits`, or a folder of images")
    parser.add_argument("--train-images", type=int)
    parser.add_argument("--val-fraction", type=float, default=0.2)
    parser.add_argument("--family", default="resnet18")
    parser.add_argument("--hierarchy", default="1-1-2")
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", default="precision")
    options = parser.parse_args()
    accuracies: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    for seed in range(1, options.seeds + 1):
        for way in WAYS:
            accuracies[way].append(train(way, seed, options))
            print(f"seed {seed}, {way}: {accuracies[way][-1]}", flush=True)
    first = accuracies[next(iter(WAYS))]
    rows = {way: summary(own, first) for way, own in accuracies.items()}
    table = Table(title=f"Validation accuracy, {options.seeds} seeds")
    for heading in ("", *next(iter(rows.values()))):
        table.add_column(heading)
    for way, row in rows.items():
        table.add_row(way, *(f"{value:.4f}" for value in row.values()))
    Console().print(table)
    record = {
        "setting": vars(options),
        "environment": measure.environment(),
        "summary": rows,
        "accuracies": accuracies,
    }
    print(measure.write(options.out, record))


def train(way: str, seed: int, options: argparse.Namespace) -> tuple[float, float]:
    """Accuracies (0..1) of the output layer and of the deepest local head."""
    precision, tiling.MIN_CHANNELS = WAYS[way]
    training = TrainingConfig.model_validate(
        {
            "epochs": options.epochs,
            "batch_size": options.batch_size,
            "learning_rate": options.learning_rate,
            "precision": precision,
        }
    )
    run = RunConfig(
        family=options.family,
        hierarchy=options.hierarchy,
        seed=seed,
        data=DataConfig(
            name=options.data,
            val_fraction=options.val_fraction,
            train_images=options.train_images,
        ),
        network=NetworkConfig(width=options.width, dropout=0.05),
        training=training,
        runtime=RuntimeConfig(device="cpu", threads=1),
    )
    trained = Training(run)
    for _ in trained.cohort.rungs():
        pass
    heads = trained.result().head_accuracies[-1]
    return heads[-1], heads[-2]


def summary(own: list[tuple[float, float]], first: list[tuple[float, float]]) -> dict[str, float]:
    """Means and standard deviations over seeds, and differences from the first way."""
    result: dict[str, float] = {}
    for index, name in enumerate(("output", "deepest head")):
        values = [pair[index] for pair in own]
        gaps = [pair[index] - other[index] for pair, other in zip(own, first, strict=True)]
        result |= {
            name: statistics.mean(values),
            f"{name}, std": statistics.stdev(values) if len(values) > 1 else 0.0,
            f"{name}, mean difference": statistics.mean(gaps),
        }
    return result


if __name__ == "__main__":
    main()
