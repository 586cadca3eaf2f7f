"""`dsaccel calibrate`: from which rung on pruning can be trusted."""

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dsaccel.cli import options
from dsaccel.cli.common import consoles, print_json
from dsaccel.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from dsaccel.analysis.landscape import Landscape


def calibrate(
    target: Annotated[
        str,
        typer.Argument(
            metavar="STUDY|LANDSCAPE",
            help="A study file or its name, to be trained; or what dsaccel landscape wrote.",
        ),
    ] = "digits",
    seeds: Annotated[int, typer.Option(help="Runs of the whole cohort.", min=3)] = 3,
    n_trials: Annotated[
        int | None,
        typer.Option(help="Hierarchies to train with each seed; the whole space if it fits."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder to write to. Default: studies/NAME-calibrate; of a landscape: nothing.",
        ),
    ] = None,
    data: options.Data = None,
    data_dir: options.DataDir = None,
    download: options.Download = False,
    train_images: options.TrainImages = None,
    epochs: options.Epochs = None,
    schedule: options.Schedule = None,
    width: options.Width = None,
    device: options.Device = None,
    threads: options.Threads = None,
    seed: options.Seed = None,
    settings: options.Settings = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Find from which rung on pruning can be trusted.

    Trains without pruning, with several seeds, and compares each rung with the end.
    """
    given = dict(locals())
    from dsaccel.analysis.agreement import Fidelity
    from dsaccel.analysis.landscape_files import read_landscape, write_landscape
    from dsaccel.analysis.pruning_advice import calibrated
    from dsaccel.files import make_folder
    from dsaccel.report.calibration import (
        calibration_summary,
        calibration_tables,
        pruning_table,
        write_calibration,
        write_pruning,
    )
    from dsaccel.report.calibration_words import verdict

    if output is not None and not output.is_dir():
        raise ConfigError(f"output must be a folder that exists, but got {output}")
    console, out = consoles(as_json)
    is_file = target.endswith((".csv", ".csv.gz", ".parquet"))
    if is_file:
        landscape, folder = read_landscape(Path(target)), output
    else:
        landscape, folder = _train(target, seeds, given, console)
        folder = output or folder
    result = calibrated(Fidelity(landscape))
    files: dict[str, Path] = {}
    if folder is not None:
        make_folder(folder)
        files = {"page": folder / "calibration.html", "pruning": folder / "pruning.toml"}
        write_calibration(result, Path(target).name, files["page"])
        write_pruning(result, files["pruning"])
        if not is_file:
            files["landscape"] = folder / "landscape.csv.gz"
            write_landscape(landscape, files["landscape"])
    shown = {label: path.as_posix() for label, path in files.items()}
    if as_json:
        print_json(calibration_summary(result) | {"files": shown})
        return
    out.print(calibration_tables(result))
    for sentence in verdict(result):
        out.print(sentence, highlight=False)
    chosen = " ".join(f"--set pruning.{k}={v}" for k, v in pruning_table(result).items())
    out.print(f"{'settings':>10}  {chosen}", highlight=False, soft_wrap=True)
    for label, path in shown.items():
        out.print(f"{label:>10}  {path}", highlight=False, soft_wrap=True)


def _train(
    target: str, num_seeds: int, given: dict[str, Any], console: "Console"
) -> tuple["Landscape", Path]:
    """Train the cohort with each seed; the landscape, and the folder for the outcome."""
    from dsaccel.analysis.calibration import Calibration
    from dsaccel.config.study import StudyConfig
    from dsaccel.config.toml import parse_config
    from dsaccel.report.live import ProgressView
    from dsaccel.study.folder import find_study
    from dsaccel.study.storage import quiet_optuna

    name, tables = find_study(target)
    options.apply(tables, given)
    config = parse_config(StudyConfig, tables, target)
    quiet_optuna()
    calibration = Calibration(config, name, num_seeds, download=given["download"])
    quiet, verbose = given["quiet"], given["verbose"]
    if not quiet:
        what = "a sample of the space" if calibration.is_sample else "the whole space"
        num = len(calibration.hierarchies)
        console.print(f"{num} hierarchies ({what}), {num_seeds} seeds, no pruning")
    searches = []
    for searching in calibration.searches():
        with (
            ProgressView(console, quiet=quiet, verbose=verbose) as view,
            closing(searching.run()) as run,
        ):
            for progress in run:
                view.update(progress)
        searches.append(searching)
    return calibration.landscape(searches), calibration.folder
