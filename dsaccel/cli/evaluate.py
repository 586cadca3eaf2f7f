"""`dsaccel evaluate`: the accuracy of trained weights."""

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from dsaccel.cli.options import Given, takes
from dsaccel.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from dsaccel.config.study import RunConfig


Target = Annotated[
    str,
    typer.Argument(
        metavar="WEIGHTS|CONFIG",
        help="What dsaccel train --output wrote; of x.toml, the x.safetensors beside it.",
    ),
]

Confusion = Annotated[bool, typer.Option("--confusion", help="Which class is taken for which.")]


@takes(
    *("data.name", "data.dir", "runtime.device", "runtime.threads"),
    *("--trust-part", "--download", "--json"),
)
def evaluate(
    target: Target,
    split: Annotated[str, typer.Option(help="test (read once, and recorded) or val.")] = "test",
    *,
    per_class: Annotated[bool, typer.Option("--per-class", help="Recall and precision.")] = False,
    confusion: Confusion = False,
    predictions: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a line an image: CSV.")
    ] = None,
    given: Given,
) -> None:
    """Read the accuracy of trained weights, by head.

    The test split is read once for the same weights and images, and the reading is recorded. The
    settings are those of the weights unless they are given; a folder needs test/CLASS/ alone.
    """
    if split not in ("test", "val"):
        raise ConfigError(f"split must be test or val, but got {split!r}")
    if predictions is not None and (predictions.suffix != ".csv" or predictions.exists()):
        raise ConfigError(f"--predictions must be a new .csv file, but got {predictions}")
    from dsaccel.report.results import reading_table
    from dsaccel.training.evaluate import read_accuracy, readings_path, weights_path

    path, read = weights_path(target), cast(Literal["val", "test"], split)
    run, output = _settings(path, given), given.output()
    command = shlex.join(["dsaccel", "evaluate", target])
    reading, is_new = read_accuracy(path, run, read, command=command, download=given.download)
    if not is_new:
        output.say(
            f"the test split was read for these weights on {reading.date}: that reading is shown, "
            f"see {readings_path(path)}"
        )
    wanted = per_class, confusion, predictions
    tables, more = _predictions(path, run, read, wanted, given) if any(wanted) else ([], {})
    if output.as_json:
        output.show_json(asdict(reading) | {"head_names": _head_names(path, run)} | more)
        return
    output.show(reading_table(reading), *tables)
    if split == "test":
        output.show(f"recorded in {readings_path(path)}")


def _predictions(
    path: Path,
    run: "RunConfig",
    split: Literal["val", "test"],
    wanted: tuple[bool, bool, Path | None],
    given: Given,
) -> "tuple[list[RenderableType], dict[str, Any]]":
    """What is wanted of the predictions: on a terminal, and as JSON."""
    from dsaccel.report.results import confusion_table, per_class_table
    from dsaccel.training.predictions import read_predictions

    per_class, confusion, file = wanted
    told = read_predictions(path, run, split, download=given.download)
    shown: list[RenderableType] = []
    more: dict[str, Any] = {}
    if per_class:
        shown.append(per_class_table(told))
        more["per_class"] = told.per_class
    if confusion:
        shown.append(confusion_table(told))
        more["confusion"] = told.confusion.tolist()
    if file is not None:
        told.write(file)
        shown.append(f"predictions  {file}")
    return shown, more


def _settings(path: Path, given: Given) -> "RunConfig":
    """The settings of weights, with those that were given in their place."""
    from dsaccel.config.study import RunConfig
    from dsaccel.config.toml import parse_config
    from dsaccel.nn.weights import read_config

    tables = read_config(path).model_dump(mode="json", exclude_none=True)
    given.apply(tables)
    return parse_config(RunConfig, tables, str(path))


def _head_names(path: Path, run: "RunConfig") -> list[str]:
    from dsaccel.nn.network import plan_of
    from dsaccel.nn.weights import read_facts
    from dsaccel.spec.unit_names import head_names

    return list(head_names(plan_of(run, len(read_facts(path).class_names), path)))
