"""`dsaccel evaluate`: the accuracy of trained weights."""

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from dsaccel.cli.options import Given, takes
from dsaccel.errors import ConfigError

if TYPE_CHECKING:
    from dsaccel.config.study import RunConfig


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
    per_class: Annotated[bool, typer.Option("--per-class", help="Recall and precision.")] = False,
    confusion: Annotated[
        bool, typer.Option("--confusion", help="Which class is taken for which.")
    ] = False,
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

    from dsaccel.report.results import confusion_table, per_class_table, reading_table
    from dsaccel.training.evaluate import read_accuracy, readings_path, weights_path

    if predictions is not None and (predictions.suffix != ".csv" or predictions.exists()):
        raise ConfigError(f"--predictions must be a new .csv file, but got {predictions}")
    path = weights_path(target)
    run = _settings(path, given)
    command = shlex.join(["dsaccel", "evaluate", target])
    name = cast(Literal["val", "test"], split)
    reading, is_new = read_accuracy(path, run, name, command=command, download=given.download)
    output = given.output()
    if not is_new:
        output.say(
            f"the test split was read for these weights on {reading.date}: that reading is shown, "
            f"see {readings_path(path)}"
        )
    told = None
    if per_class or confusion or predictions is not None:
        from dsaccel.training.predictions import read_predictions

        told = read_predictions(path, run, name, download=given.download)
        if predictions is not None:
            told.write(predictions)
    if given.as_json:
        more: dict[str, Any] = {"head_names": _head_names(path, run)}
        more |= {"per_class": told.per_class} if told and per_class else {}
        more |= {"confusion": told.confusion.tolist()} if told and confusion else {}
        output.show_json(asdict(reading) | more)
        return
    output.show(reading_table(reading))
    if told is not None and per_class:
        output.show(per_class_table(told))
    if told is not None and confusion:
        output.show(confusion_table(told))
    if predictions is not None:
        output.show(f"predictions  {predictions}")
    if split == "test":
        output.show(f"recorded in {readings_path(path)}")


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
