"""`dsaccel train`: one hierarchy, or an exported config."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dsaccel.cli import options
from dsaccel.cli.common import consoles, print_json
from dsaccel.errors import ConfigError, StorageError

if TYPE_CHECKING:
    from dsaccel.config.study import RunConfig, StudyConfig


def train(
    target: Annotated[
        str,
        typer.Argument(
            metavar="HIERARCHY|CONFIG",
            help="1-1-2-2, '1-1-2-2 loss=pred', or an exported config.",
        ),
    ],
    study: Annotated[
        str | None, typer.Option(help="Take the settings and the seed of this study.")
    ] = None,
    mode: Annotated[
        str | None, typer.Option(help="local: layer-wise; global: back-propagation.")
    ] = None,
    family: options.Family = None,
    data: options.Data = None,
    data_dir: options.DataDir = None,
    download: options.Download = False,
    train_images: options.TrainImages = None,
    epochs: options.Epochs = None,
    batch_size: options.BatchSize = None,
    learning_rate: options.LearningRate = None,
    schedule: options.Schedule = None,
    granularity: options.Granularity = None,
    loss: options.Loss = None,
    width: options.Width = None,
    dropout: options.Dropout = None,
    device: options.Device = None,
    precision: options.Precision = None,
    threads: options.Threads = None,
    seed: options.Seed = None,
    settings: options.Settings = None,
    init: Annotated[
        Path | None,
        typer.Option(
            help="Begin with these weights (.safetensors) of a network with the same body, not "
            "with drawn ones. Classifiers of other classes begin anew."
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the weights: .safetensors.")
    ] = None,
    force: Annotated[bool, typer.Option(help="Write over an existing file.")] = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Train one hierarchy; with --study exactly as its search did.

    With --init it begins with trained weights, whatever the search began with.
    """
    run = _run_config(target, study, mode, dict(locals()))
    recorded = run.result or {}
    if init is None and "init" in recorded:
        raise ConfigError(
            f"{target} needs the weights that its result began with, {recorded['init']}: give them "
            f"with --init, or take init out of its [result] to begin with drawn ones"
        )
    if output is not None:
        _check_output(output, force)
    if init is not None:
        _check_weights(init)

    from dsaccel.files import check_writable
    from dsaccel.nn.weights import save_weights
    from dsaccel.report.results import result_table
    from dsaccel.text import percent
    from dsaccel.training.train import Training

    console, out = consoles(as_json)
    training = Training(run, download=download)
    if output is not None:
        check_writable(output, 4 * training.plan.num_parameters)  # fp32
    begun: dict[str, Any] = {}
    if init is not None:
        taken = training.begin_with(init)
        begun = {
            "init": init.name,
            "init_weights": taken.weights,
            "val_may_be_known": training.may_know_held_out(init),
        }
        if not quiet:
            console.print(f"begins with {init}: {taken}", highlight=False, soft_wrap=True)
            for warning in _warnings(begun, recorded):
                console.print(warning, highlight=False, soft_wrap=True)
    for rung in training.rungs():
        if not quiet:
            heads = "  ".join(percent(accuracy) for accuracy in rung.accuracies[training.hierarchy])
            shown = heads if verbose else percent(rung.accuracies[training.hierarchy][-1])
            step = f"{run.training.step_name} {rung.step}/{training.cohort.num_steps}"
            console.print(f"{step}  {shown}", highlight=False)
    result = training.result()
    if as_json:
        print_json(asdict(result) | begun)
    else:
        out.print(result_table(result))
    if output is not None:
        reached = {"val_accuracy": result.val_accuracy, "num_parameters": result.num_parameters}
        run = training.run.model_copy(update={"result": reached | begun})
        try:
            save_weights(output, training.units, run, training.facts)
        except StorageError as error:
            raise StorageError(f"trained, but the weights are lost: {error}") from None
        if not as_json:
            out.print(f"weights  {output}", highlight=False, soft_wrap=True)


def _check_output(path: Path, force: bool) -> None:
    """Refuse what cannot be written before the hours of training."""
    if path.suffix != ".safetensors":
        raise ConfigError(f"--output must be a .safetensors file, but got {path}")
    if not path.parent.is_dir():
        raise ConfigError(f"folder {path.parent} must exist to write {path.name} into it")
    if path.exists() and not force:
        raise ConfigError(f"{path} exists already; choose another --output, or --force")


def _check_weights(path: Path) -> None:
    """Refuse what cannot be begun with before the images are read."""
    from dsaccel.nn.weights import read_config, read_facts

    read_config(path)
    read_facts(path)


def _warnings(begun: dict[str, Any], recorded: dict[str, Any]) -> Iterator[str]:
    """What may be meant otherwise, though it can be done."""
    if "init" in recorded and recorded.get("init_weights") != begun["init_weights"]:
        yield f"these are not the weights that the config's result began with, {recorded['init']}"
    if begun["val_may_be_known"]:
        yield (
            f"{begun['init']} was trained on other images of these classes, or with another "
            f"validation split: images held out now may be known to it, and the validation "
            f"accuracy too high; keep images, seed and data.val_fraction, or go by the test split"
        )


def _run_config(
    target: str, study: str | None, mode: str | None, given: dict[str, Any]
) -> "RunConfig":
    """The settings of `dsaccel train`: an exported config's, a study's, or the defaults."""
    from dsaccel.config.own_settings import section_of
    from dsaccel.config.study import RunConfig
    from dsaccel.config.toml import parse_config, read_toml, set_value
    from dsaccel.spec.hierarchy import Hierarchy
    from dsaccel.study.export import run_config

    if target.endswith(".toml"):
        if study is not None:
            raise ConfigError(f"{target} holds all settings; leave --study {study} out")
        tables, source = read_toml(Path(target)), target
    else:
        hierarchy, source = Hierarchy.parse(target), "the command line"
        tables: dict[str, Any] = {
            "family": "resnet18",
            "hierarchy": str(Hierarchy(hierarchy.blocks)),
        }
        for name, value in hierarchy.settings:
            set_value(tables, f"{section_of(name)}.{name}", value)
        if study is not None:
            run = run_config(_study_config(study), target, None)
            tables = run.model_dump(exclude_none=True)
    options.apply(tables, given | {"family": None})
    if given["family"] is not None:
        tables["family"] = given["family"]
    if mode is not None:
        tables["mode"] = mode
    return parse_config(RunConfig, tables, source)


def _study_config(study: str) -> "StudyConfig":
    """A study's settings: as it was run, otherwise as its file says."""
    from dsaccel.config.study import StudyConfig
    from dsaccel.config.toml import parse_config
    from dsaccel.study.folder import StudyDir, find_study

    if "/" not in study and not study.endswith(".toml") and StudyDir(study).exists:
        return StudyDir(study).read_config()
    return parse_config(StudyConfig, find_study(study)[1], study)
