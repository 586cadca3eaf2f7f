"""`dsaccel evaluate`: the accuracy of trained weights."""

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from dsaccel.cli.options import Given, takes
from dsaccel.cli.output import Output
from dsaccel.errors import ConfigError

if TYPE_CHECKING:
    from dsaccel.training.evaluate import Reading


@takes(
    *("data.name", "data.dir", "runtime.device", "runtime.threads"),
    *("--trust-part", "--download", "--json"),
)
def evaluate(
    target: Annotated[
        str,
        typer.Argument(
            metavar="WEIGHTS|CONFIG",
            help="What dsaccel train --output wrote; of x.toml, the x.safetensors beside it.",
        ),
    ],
    split: Annotated[str, typer.Option(help="test (read once, and recorded) or val.")] = "test",
    *,
    given: Given,
) -> None:
    """Read the accuracy of trained weights, by head.

    The test split is read once for the same weights and images, and the reading is recorded. The
    settings are those of the weights unless they are given; a folder needs test/CLASS/ alone.
    """
    if split not in ("test", "val"):
        raise ConfigError(f"split must be test or val, but got {split!r}")

    from dsaccel.config.study import RunConfig
    from dsaccel.config.toml import parse_config
    from dsaccel.nn.weights import read_config
    from dsaccel.training.evaluate import read_accuracy, readings_path, weights_path

    path = weights_path(target)
    tables = read_config(path).model_dump(mode="json", exclude_none=True)
    given.apply(tables)
    run = parse_config(RunConfig, tables, str(path))
    reading, is_new = read_accuracy(
        path,
        run,
        cast(Literal["val", "test"], split),
        command=shlex.join(["dsaccel", "evaluate", target]),
        download=given.download,
    )
    _show(reading, readings_path(path), is_new, given.output())


def _show(reading: "Reading", place: Path, is_new: bool, output: Output) -> None:
    from dsaccel.report.results import reading_table

    if not is_new:
        output.say(
            f"the test split was read for these weights on {reading.date}: that reading is shown, "
            f"see {place}"
        )
    recorded = [f"recorded in {place}"] if reading.split == "test" else []
    if output.as_json:
        output.show_json(asdict(reading))
    else:
        output.show(reading_table(reading), *recorded)
