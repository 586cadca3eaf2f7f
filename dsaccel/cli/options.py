"""The command line's settings: each option is a key of a study file, and overrides it."""

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import typer

T = TypeVar("T")

KEYS = {
    "family": "space.family",
    "data": "data.name",
    "data_dir": "data.dir",
    "train_images": "data.train_images",
    "n_trials": "budget.n_trials",
    "strategy": "budget.strategy",
    "cohort_size": "budget.cohort_size",
    "against": "budget.against",
    "pruning": "pruning.kind",
    "timeout": "budget.timeout_s",
    "epochs": "training.epochs",
    "batch_size": "training.batch_size",
    "learning_rate": "training.learning_rate",
    "schedule": "training.schedule",
    "precision": "training.precision",
    "granularity": "network.granularity",
    "loss": "network.loss",
    "width": "network.width",
    "dropout": "network.dropout",
    "device": "runtime.device",
    "threads": "runtime.threads",
    "confirm": "confirm.enabled",
    "seed": "seed",
    "storage": "storage",
}
"""Option -> key in a study file."""

Family = Annotated[
    str | None, typer.Option(help="resnet18, resnet34, resnet50, resnet101, vgg, vgg8b.")
]
Data = Annotated[
    str | None, typer.Option(help="digits, a torchvision data set, or a folder with train/CLASS/.")
]
DataDir = Annotated[str | None, typer.Option(help="Where torchvision data sets lie.")]
Download = Annotated[bool, typer.Option("--download", help="Fetch a torchvision data set.")]
TrainImages = Annotated[int | None, typer.Option(help="Train on this many images only.")]
Epochs = Annotated[int | None, typer.Option(help="Passes over the training images.")]
BatchSize = Annotated[int | None, typer.Option(help="Images a step.")]
LearningRate = Annotated[float | None, typer.Option(help="Adam's, before the first decay.")]
Schedule = Annotated[
    str | None,
    typer.Option(
        help="simultaneous: every unit learns on every batch; sequential: one unit after another, "
        "each for all epochs (Algorithm 1 of the paper)."
    ),
]
Granularity = Annotated[
    str | None,
    typer.Option(help="Where gradients are cut: conv, block or stage; or one a stage: a,b,c."),
]
Loss = Annotated[str | None, typer.Option(help="predsim, pred, sim or mse.")]
Width = Annotated[float | None, typer.Option(help="Multiplies all channels.")]
Dropout = Annotated[float | None, typer.Option(help="Probability to drop a channel.")]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Precision = Annotated[str | None, typer.Option(help="fp32 or bf16.")]
Threads = Annotated[int | None, typer.Option(help="CPU threads; results depend on them.")]
Seed = Annotated[int | None, typer.Option(help="Base of all random numbers.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any setting, as training.lr_decay=0.5."),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Errors only, and the result.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="A line a rung.")]


def apply(tables: dict[str, Any], options: Mapping[str, Any]) -> None:
    """Override a study's tables, in place, with the options that were given."""
    from dsaccel.config.toml import parse_override, set_value

    for name, key in KEYS.items():
        value = options.get(name)
        if name == "granularity" and value is not None and "," in value:
            value = value.split(",")
        if value is not None:
            set_value(tables, key, value)
    for text in options.get("settings") or ():
        set_value(tables, *parse_override(text))
