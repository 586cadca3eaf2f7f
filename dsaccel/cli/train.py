"""`dsaccel train`: one hierarchy, or an exported config."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dsaccel.cli.options import LOG, Given, logged, takes
from dsaccel.cli.output import Output
from dsaccel.errors import ConfigError, StorageError
from dsaccel.files import check_target, check_writable

if TYPE_CHECKING:
    from dsaccel.config.study import RunConfig, StudyConfig
    from dsaccel.report.logs import Log
    from dsaccel.spec.rung import Rung
    from dsaccel.training.train import Training


Target = Annotated[
    str,
    typer.Argument(
        metavar="HIERARCHY|CONFIG", help="1-1-2-2, '1-1-2-2 loss=pred', or an exported config."
    ),
]
OfStudy = Annotated[str | None, typer.Option(help="Take the settings and the seed of this study.")]
Weights = Annotated[
    Path | None, typer.Option("--output", "-o", help="Write the weights: .safetensors.")
]
Init = Annotated[
    Path | None,
    typer.Option(
        help="Begin with these weights (.safetensors) of a network with the same body, not "
        "with drawn ones. Classifiers of other classes begin anew."
    ),
]


@takes(
    *("mode", "family", "data.name", "data.dir", "--download", "data.train_images"),
    *("training.epochs", "training.batch_size", "training.learning_rate", "training.schedule"),
    *("network.granularity", "network.loss", "network.width", "network.dropout"),
    "network.output",
    *("runtime.device", "training.precision", "runtime.threads", "runtime.curves", "seed"),
    *("--set", "--trust-part", "--json", "--quiet", "--verbose"),
)
def train(
    target: Target,
    *,
    study: OfStudy = None,
    init: Init = None,
    output: Weights = None,
    force: Annotated[bool, typer.Option(help="Write over an existing file.")] = False,
    log: Annotated[Path | None, typer.Option(metavar="DIR", help=LOG)] = None,
    given: Given,
) -> None:
    """Train one hierarchy; with --study exactly as its search did.

    With --init it begins with trained weights, whatever the search began with.
    """
    if output is not None:
        check_target(output, (".safetensors",), force=force)
    run = _run_config(target, study, given)
    if log is not None:
        run = run.model_copy(update={"runtime": run.runtime.model_copy(update={"curves": True})})
    _check(target, run, init)
    from dsaccel.report.results import result_table
    from dsaccel.training.checkpoint import remove_checkpoint
    from dsaccel.training.train import Training

    shown = given.output()
    training = Training(run, download=given.download)
    if output is not None:
        check_writable(output, 4 * training.plan.num_parameters)  # fp32
    begun = {} if init is None else _begin(training, init, shown)
    checkpoint = output and output.with_suffix(".checkpoint.pt")
    with logged(log) as logs:
        _train(training, shown, checkpoint, logs)
    result = training.result()
    if given.as_json:
        shown.show_json(asdict(result) | begun)
    else:
        shown.show(result_table(result))
    if output is not None and checkpoint is not None:
        _save(training, begun, output, shown)
        remove_checkpoint(checkpoint)


def _check(target: str, run: "RunConfig", init: Path | None) -> None:
    """Refuse weights to begin with that are missing or damaged, before the images are read."""
    from dsaccel.nn.weights import read_config, read_facts

    recorded = run.result or {}
    if init is not None:
        read_config(init)
        read_facts(init)
    elif "init" in recorded:
        raise ConfigError(
            f"{target} needs the weights that its result began with, {recorded['init']}: give them "
            f"with --init, or take init out of its [result] to begin with drawn ones"
        )


def _begin(training: "Training", init: Path, output: Output) -> dict[str, Any]:
    """Take the weights that training begins with, and return what is to be recorded of them."""
    taken = training.begin_with(init)
    begun = {
        "init": init.name,
        "init_weights": taken.weights,
        "val_may_be_known": training.may_know_held_out(init),
    }
    for line in (f"begins with {init}: {taken}", *_warnings(begun, training.run.result or {})):
        output.say(line)
    return begun


def _train(
    training: "Training", output: Output, checkpoint: Path | None, logs: "tuple[Log, ...]"
) -> None:
    for note in training.notes:
        output.say(note)
    try:
        for rung in training.rungs(checkpoint):
            _show(training, rung, output, logs)
    except KeyboardInterrupt:
        if checkpoint is None:
            output.say("without --output nothing is kept: the same command begins anew")
        raise


def _show(training: "Training", rung: "Rung", output: Output, logs: "tuple[Log, ...]") -> None:
    from dsaccel.text import percent

    run, accuracies = training.run, rung.accuracies[training.hierarchy]
    heads = accuracies if output.verbose else accuracies[-1:]
    step = f"{run.training.step_name} {rung.step}/{training.cohort.num_steps}"
    output.say(f"{step}  {'  '.join(map(percent, heads))}")
    read = rung.read[training.hierarchy]
    for log in logs:
        name = {"hierarchy": str(training.hierarchy), "mode": run.mode}
        log.event(name | {"step": rung.step, "heads": read.heads, "exits": dict(read.exits)})
        log.points(f"train {run.mode}", {training.hierarchy: read.points})


def _save(training: "Training", begun: dict[str, Any], path: Path, output: Output) -> None:
    from dsaccel.nn.weights import save_weights

    reached = training.result()
    result = {"val_accuracy": reached.val_accuracy, "num_parameters": reached.num_parameters}
    run = training.run.model_copy(update={"result": result | begun})
    try:
        save_weights(path, training.units, run, training.facts)
    except StorageError as error:
        raise StorageError(f"trained, but the weights are lost: {error}") from None
    if not output.as_json:
        output.show(f"weights  {path}")


def _warnings(begun: dict[str, Any], recorded: dict[str, Any]) -> Iterator[str]:
    """Warn of what the user may have meant otherwise."""
    if "init" in recorded and recorded.get("init_weights") != begun["init_weights"]:
        yield f"these are not the weights that the config's result began with, {recorded['init']}"
    if begun["val_may_be_known"]:
        yield (
            f"{begun['init']} was trained on other images of these classes, or with another "
            f"validation split: images held out now may be known to it, and the validation "
            f"accuracy too high; keep images, seed and data.val_fraction, or go by the test split"
        )


def _run_config(target: str, study: str | None, given: Given) -> "RunConfig":
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
    given.apply(tables)
    return parse_config(RunConfig, tables, source)


def _study_config(study: str) -> "StudyConfig":
    """A study's settings: as it was run, otherwise as its file says."""
    from dsaccel.config.study import StudyConfig
    from dsaccel.config.toml import parse_config
    from dsaccel.study.folder import StudyDir, find_study

    if "/" not in study and not study.endswith(".toml") and StudyDir(study).exists:
        return StudyDir(study).read_config()
    return parse_config(StudyConfig, find_study(study)[1], study)
