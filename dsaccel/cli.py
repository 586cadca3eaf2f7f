"""The command line. Heavy modules are imported by the command that needs them.

Exit codes: 0 done, 1 unexpected, 2 bad input, 3 no finished hierarchy, 4 storage, 5 the study
exists with other settings, 130 interrupted, 143 terminated.
"""

import functools
import json
import os
import shlex
import signal
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dsaccel import options
from dsaccel.errors import ConfigError, NoResultError, UserError

if TYPE_CHECKING:
    from optuna import Study
    from rich.console import Console

    from dsaccel.config import RunConfig, StudyConfig
    from dsaccel.study_dir import StudyDir

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: drawing it with rich takes as long as all else
    help="Search the hierarchy (blocks per stage) that learns best layer-wise.",
)
StudyName = Annotated[
    str, typer.Argument(metavar="STUDY", help="A study file, its name, or a study that was run.")
]


class Terminated(KeyboardInterrupt):
    """SIGTERM: handled as Ctrl-C is, with an exit code of its own."""


def main() -> None:
    """Entry point of `dsaccel`."""
    app()


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """End a command with one message and a documented exit code, without a traceback."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        signal.signal(signal.SIGTERM, _terminate)
        try:
            command(*args, **kwargs)
        except UserError as error:
            print(f"dsaccel: {error}", file=sys.stderr)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt as interrupt:
            again = shlex.join(["dsaccel", *sys.argv[1:]])
            print(f"dsaccel: stopped; continue with: {again}", file=sys.stderr)
            raise typer.Exit(143 if isinstance(interrupt, Terminated) else 130) from None

    return run


@app.command()
@guarded
def search(
    study: StudyName = "digits",
    space: Annotated[str | None, typer.Option(help="A search space file, or its name.")] = None,
    family: options.Family = None,
    data: options.Data = None,
    data_dir: options.DataDir = None,
    download: options.Download = False,
    train_images: options.TrainImages = None,
    n_trials: Annotated[
        int | None, typer.Option(help="Distinct hierarchies to train, over all runs of the study.")
    ] = None,
    strategy: Annotated[
        str | None,
        typer.Option(
            help="exhaustive, tpe, gp, nsga2 or random. Default: exhaustive if the space fits "
            "n-trials, else tpe."
        ),
    ] = None,
    cohort_size: Annotated[
        int | None, typer.Option(help="Hierarchies trained together, sharing their prefixes.")
    ] = None,
    timeout: Annotated[float | None, typer.Option(help="Stop after this many seconds.")] = None,
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
    storage: Annotated[str | None, typer.Option(help="Optuna storage URL.")] = None,
    study_name: Annotated[str | None, typer.Option(help="Write to studies/NAME/.")] = None,
    settings: options.Settings = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Search the best hierarchy; run again to continue. Default: handwritten digits."""
    given = dict(locals())
    from dsaccel.config import StudyConfig, parse_config
    from dsaccel.study_dir import StudyDir, find_space, find_study

    name, tables = find_study(study)
    directory = StudyDir(study_name or name)
    if space is not None:
        tables["space"] = find_space(space)
    options.apply(tables, given)
    config = parse_config(StudyConfig, tables, study)

    from dsaccel.results import search_summary, write_results
    from dsaccel.search import Search
    from dsaccel.study_dir import quiet_optuna
    from dsaccel.tables import headline, trials_table
    from dsaccel.view import ProgressView

    console, out = _consoles(as_json)
    quiet_optuna()
    searching = Search(config, directory, download=download)
    if not searching.data.has_test and not quiet:
        console.print(f"{config.data.name}: no test split; results are validation accuracies")
    if searching.is_finished:
        trained = f"{searching.num_trained} hierarchies"
        console.print(f"study {directory.name} is finished: {trained} trained; nothing to do")
    else:
        with (
            ProgressView(console, quiet=quiet, verbose=verbose) as view,
            closing(searching.run()) as run,
        ):
            try:
                for progress in run:
                    view.update(progress)
            finally:
                write_results(searching)
    if searching.is_exhausted and not quiet:
        console.print(f"all {searching.space.size} feasible hierarchies are trained")
    files = write_results(searching)
    if as_json:
        print(json.dumps(search_summary(searching, files)))
        return
    out.print(trials_table(searching.study))
    out.print(headline(searching.study))
    for label, path in files.items():
        out.print(f"{label:>10}  {path}", highlight=False, soft_wrap=True)
    out.print(
        f"{'dashboard':>10}  optuna-dashboard {searching.url}", highlight=False, soft_wrap=True
    )


@app.command()
@guarded
def train(
    target: Annotated[
        str, typer.Argument(metavar="HIERARCHY|CONFIG", help="1-1-2-2, or an exported config.")
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
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Train one hierarchy; with --study exactly as its search did."""
    run = _run_config(target, study, mode, dict(locals()))

    from dsaccel.results import result_table
    from dsaccel.tables import percent
    from dsaccel.train import Training

    console, out = _consoles(as_json)
    training = Training(run, download=download)
    for rung in training.cohort.rungs():
        if not quiet:
            heads = "  ".join(percent(accuracy) for accuracy in rung.accuracies[run.hierarchy])
            shown = heads if verbose else percent(rung.accuracies[run.hierarchy][-1])
            step = f"{run.training.step_name} {rung.step}/{training.cohort.num_steps}"
            console.print(f"{step}  {shown}", highlight=False)
    result = training.result()
    if as_json:
        print(json.dumps(asdict(result)))
    else:
        out.print(result_table(result))


@app.command()
@guarded
def describe(
    hierarchy: Annotated[
        str | None, typer.Argument(help="1-1-2-2; default: the family's own.")
    ] = None,
    family: Annotated[str, typer.Option(help="resnet18, resnet50, vgg, vgg8b ...")] = "resnet18",
    channels: Annotated[int, typer.Option(help="Of the images.", min=1)] = 3,
    image_size: Annotated[int, typer.Option(help="Side in pixels.", min=4)] = 32,
    num_classes: Annotated[int, typer.Option(help="Classes.", min=2)] = 10,
    granularity: options.Granularity = None,
    loss: options.Loss = None,
    width: options.Width = None,
    settings: options.Settings = None,
    as_json: options.Json = False,
) -> None:
    """Show a hierarchy stage by stage, and what it costs; trains nothing."""
    given = dict(locals()) | {"family": None}
    from dsaccel.config import NetworkConfig, parse_config
    from dsaccel.describe import describe_plan, description_table
    from dsaccel.families import build_plan, find_family
    from dsaccel.hierarchy import parse_hierarchy

    tables: dict[str, Any] = {}
    options.apply(tables, given)
    network = parse_config(NetworkConfig, tables.get("network", {}), "the command line")
    standard = find_family(family).standard
    plan = build_plan(
        family,
        standard if hierarchy is None else parse_hierarchy(hierarchy),
        network,
        channels=channels,
        side=image_size,
        num_classes=num_classes,
    )
    if as_json:
        print(json.dumps(describe_plan(plan)))
    else:
        _consoles(as_json)[1].print(description_table(plan))


@app.command()
@guarded
def export(
    study: StudyName,
    output: Annotated[Path, typer.Option("--output", "-o", help="The config.")] = Path("best.toml"),
    hierarchy: Annotated[str | None, typer.Option(help="Another one than the best.")] = None,
    force: Annotated[bool, typer.Option(help="Write over an existing file.")] = False,
) -> None:
    """Write the best hierarchy as a config for `dsaccel train`."""
    from dsaccel.export import export_trial
    from dsaccel.hierarchy import format_hierarchy, parse_hierarchy
    from dsaccel.tables import best_trial

    directory, config, stored = _stored_study(study)
    if output.exists() and not force:
        raise ConfigError(f"{output} exists already; choose another -o, or --force")
    if not output.parent.is_dir():
        raise ConfigError(f"folder {output.parent} must exist to write {output.name} into it")
    trial = best_trial(stored)
    if hierarchy is not None:
        wanted = format_hierarchy(parse_hierarchy(hierarchy))
        trials = [t for t in stored.trials if t.user_attrs.get("hierarchy") == wanted]
        trial = next((t for t in trials if t.state.is_finished() and "flops" in t.user_attrs), None)
    if trial is None:
        raise NoResultError(
            f"study {directory.name} has no finished trial {hierarchy or 'within its constraint'}; "
            f"train more with: dsaccel search {study}"
        )
    export_trial(config, directory.name, trial, output)
    print(f"{trial.user_attrs['hierarchy']} -> {output}", file=sys.stderr)


@app.command()
@guarded
def report(
    study: StudyName,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Default: studies/NAME/report.html.")
    ] = None,
) -> None:
    """Write a study's report: one HTML page that needs no network."""
    from dsaccel.report import write_report
    from dsaccel.tables import headline

    directory, _, stored = _stored_study(study)
    path = output or directory.report
    if not path.parent.is_dir():
        raise ConfigError(f"folder {path.parent} must exist to write {path.name} into it")
    write_report(stored, path)
    print(headline(stored))
    print(path)


@app.command()
@guarded
def landscape(
    studies: Annotated[
        list[str],
        typer.Argument(metavar="STUDY...", help="Exhaustive studies, equal but for the seed."),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help=".csv, .csv.gz or .parquet. Default: landscape.csv.gz."
        ),
    ] = None,
) -> None:
    """Write an exhaustive study as a table of every accuracy, for `dsaccel replay`."""
    from dsaccel.landscape import check_output, record_landscape, write_landscape

    path = output or Path("landscape.csv.gz")
    check_output(path)
    stored = [_stored_study(study) for study in studies]
    recorded = record_landscape([(config, study) for _, config, study in stored])
    write_landscape(recorded, path)
    num_feasible = sum(network.is_feasible for network in recorded.networks.values())
    seeds = ", ".join(map(str, recorded.accuracies))
    print(f"{num_feasible} feasible hierarchies, seeds {seeds}")
    print(path)


@app.command()
@guarded
def replay(
    table: Annotated[
        Path, typer.Argument(metavar="LANDSCAPE", help="What dsaccel landscape wrote.")
    ],
    strategy: Annotated[str, typer.Option(help="One or more: tpe,random.")] = "tpe,random",
    n_trials: Annotated[int, typer.Option(help="Distinct hierarchies to train.", min=1)] = 40,
    cohort_size: Annotated[str, typer.Option(help="One or more: 1,4,8.")] = "1,4,8",
    seeds: Annotated[int, typer.Option(help="Searches of each kind.", min=1)] = 100,
    pruning: Annotated[str, typer.Option(help="halving or none.")] = "none",
    reduction_factor: Annotated[
        float | None, typer.Option(help="Of halving. Default: the study's.")
    ] = None,
    grace_epochs: Annotated[
        int | None, typer.Option(help="The first rung. Default: the study's.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(help="Processes; changes no result. Default: one a core.", min=1)
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Draw regret against blocks: .html.")
    ] = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Replay searches on a landscape without training: regret against blocks."""
    from dsaccel.landscape import read_landscape
    from dsaccel.replay import policies, replay_policies
    from dsaccel.replay_figure import outcome_summary, outcome_table, write_replay

    if output is not None and not output.parent.is_dir():
        raise ConfigError(f"folder {output.parent} must exist to write {output.name} into it")
    recorded = read_landscape(table)
    given = {"kind": pruning, "reduction_factor": reduction_factor, "grace_epochs": grace_epochs}
    asked = policies(recorded, strategy, cohort_size, n_trials, given)
    console, out = _consoles(as_json)
    outcomes = []
    for outcome in replay_policies(recorded, asked, seeds, jobs or os.cpu_count() or 1):
        outcomes.append(outcome)
        if not quiet:
            name = f"{outcome.policy.strategy}, cohorts of {outcome.policy.cohort_size}"
            console.print(f"{len(outcomes)}/{len(asked)}  {name}", highlight=False)
    if output is not None:
        write_replay(outcomes, table.name, output)
    if as_json:
        print(
            json.dumps({"landscape": str(table), "outcomes": list(map(outcome_summary, outcomes))})
        )
        return
    out.print(outcome_table(outcomes))
    if output is not None:
        print(output)


def _terminate(_signal: int, _frame: object) -> None:
    raise Terminated


def _consoles(as_json: bool) -> tuple["Console", "Console"]:
    """For progress, and for results: stdout, unless that is kept for JSON."""
    from rich.console import Console

    progress = Console(stderr=True)
    return progress, progress if as_json else Console()


def _stored_study(study: str) -> tuple["StudyDir", "StudyConfig", "Study"]:
    """A study that was run: its folder, settings and Optuna study."""
    from dsaccel.study_dir import StudyDir, find_study, open_study

    name = study if "/" not in study and not study.endswith(".toml") else find_study(study)[0]
    directory = StudyDir(name)
    if not directory.exists:
        raise ConfigError(
            f"study must be one that was run, but {directory.config} is not there; "
            f"run it with: dsaccel search {study}"
        )
    config = directory.read_config()
    return directory, config, open_study(directory, config)


def _run_config(
    target: str, study: str | None, mode: str | None, given: dict[str, Any]
) -> "RunConfig":
    """The settings of `dsaccel train`: an exported config's, a study's, or the defaults."""
    from dsaccel.config import RunConfig, parse_config, read_toml
    from dsaccel.export import run_config
    from dsaccel.hierarchy import format_hierarchy, parse_hierarchy

    if target.endswith(".toml"):
        if study is not None:
            raise ConfigError(f"{target} holds all settings; leave --study {study} out")
        tables, source = read_toml(Path(target)), target
    else:
        hierarchy = format_hierarchy(parse_hierarchy(target))
        tables, source = {"family": "resnet18", "hierarchy": hierarchy}, "the command line"
        if study is not None:
            config = _study_config(study)
            tables = run_config(config, hierarchy, None).model_dump(exclude_none=True)
    options.apply(tables, given | {"family": None})
    if given["family"] is not None:
        tables["family"] = given["family"]
    if mode is not None:
        tables["mode"] = mode
    return parse_config(RunConfig, tables, source)


def _study_config(study: str) -> "StudyConfig":
    """A study's settings: as it was run, otherwise as its file says."""
    from dsaccel.config import StudyConfig, parse_config
    from dsaccel.study_dir import StudyDir, find_study

    if "/" not in study and not study.endswith(".toml") and StudyDir(study).exists:
        return StudyDir(study).read_config()
    return parse_config(StudyConfig, find_study(study)[1], study)
