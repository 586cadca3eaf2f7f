"""`dsaccel evaluate`: the accuracy of trained weights."""

import sys
from dataclasses import asdict
from typing import Annotated, Literal, cast

import typer

from dsaccel.cli import options
from dsaccel.cli.common import consoles, print_json
from dsaccel.errors import ConfigError


def evaluate(
    target: Annotated[
        str,
        typer.Argument(
            metavar="WEIGHTS|CONFIG",
            help="What dsaccel train --output wrote; of x.toml, the x.safetensors beside it.",
        ),
    ],
    split: Annotated[str, typer.Option(help="test (read once, and recorded) or val.")] = "test",
    data: Annotated[
        str | None,
        typer.Option(
            help="digits, a torchvision data set, or a folder; of it, --split test needs "
            "test/CLASS/ alone."
        ),
    ] = None,
    data_dir: options.DataDir = None,
    download: options.Download = False,
    device: options.Device = None,
    threads: options.Threads = None,
    as_json: options.Json = False,
) -> None:
    """Read the accuracy of trained weights, by head.

    The test split is read once for the same weights and images, and the reading is recorded.
    """
    given = {"data": data, "data_dir": data_dir, "device": device, "threads": threads}
    if split not in ("test", "val"):
        raise ConfigError(f"split must be test or val, but got {split!r}")

    from dsaccel.config.study import RunConfig
    from dsaccel.config.toml import parse_config
    from dsaccel.nn.weights import read_config
    from dsaccel.report.results import reading_table
    from dsaccel.training.evaluate import read_accuracy, readings_path, weights_path

    path = weights_path(target)
    tables = read_config(path).model_dump(mode="json", exclude_none=True)
    options.apply(tables, given)
    run = parse_config(RunConfig, tables, str(path))
    name = cast(Literal["val", "test"], split)
    reading, is_new = read_accuracy(
        path, run, name, command=f"dsaccel evaluate {target}", download=download
    )
    if not is_new:
        print(
            f"the test split was read for these weights on {reading.date}: that reading is shown, "
            f"see {readings_path(path)}",
            file=sys.stderr,
        )
    if as_json:
        print_json(asdict(reading))
        return
    out = consoles(as_json)[1]
    out.print(reading_table(reading))
    if split == "test":
        out.print(f"recorded in {readings_path(path)}", highlight=False, soft_wrap=True)
