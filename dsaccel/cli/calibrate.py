"""`dsaccel calibrate`: from which rung on pruning can be trusted."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dsaccel.cli.options import WORKERS, Given, takes
from dsaccel.cli.output import Output
from dsaccel.errors import ConfigError

if TYPE_CHECKING:
    from dsaccel.analysis.calibration import Calibration
    from dsaccel.analysis.landscape import Landscape
    from dsaccel.analysis.pruning_advice import Calibrated


@takes(
    *("budget.n_trials", "data.name", "data.dir", "--download", "data.train_images"),
    *("training.epochs", "training.schedule", "network.width", "runtime.device"),
    *WORKERS,
    *("runtime.threads", "seed", "--set", "--trust-part", "--json", "--quiet", "--verbose"),
)
def calibrate(
    target: Annotated[
        str,
        typer.Argument(
            metavar="STUDY|LANDSCAPE",
            help="A study file or its name, to be trained; or what dsaccel landscape wrote.",
        ),
    ] = "digits",
    *,
    seeds: Annotated[int, typer.Option(help="Runs of the whole cohort.", min=3)] = 3,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder to write to. Default: studies/NAME-calibrate; of a landscape: nothing.",
        ),
    ] = None,
    given: Given,
) -> None:
    """Find from which rung on pruning can be trusted.

    Trains without pruning, with several seeds, and compares each rung with the end.
    """
    from dsaccel.analysis.agreement import RankAgreement
    from dsaccel.analysis.landscape_files import read_landscape
    from dsaccel.analysis.pruning_advice import calibrated

    if output is not None and not output.is_dir():
        raise ConfigError(f"output must be a folder that exists, but got {output}")
    trained, folder = None, output
    if target.endswith((".csv", ".csv.gz", ".parquet")):
        landscape = read_landscape(Path(target))
    else:
        calibration = _open(target, seeds, given)
        landscape = trained = _train(calibration, given.output())
        folder = output or calibration.folder
    result = calibrated(RankAgreement(landscape))
    files = {} if folder is None else _write(result, trained, Path(target).name, folder)
    _show(result, files, given.output())


def _open(target: str, num_seeds: int, given: Given) -> "Calibration":
    from dsaccel.analysis.calibration import Calibration
    from dsaccel.config.study import StudyConfig
    from dsaccel.config.toml import parse_config
    from dsaccel.study.folder import find_study
    from dsaccel.study.storage import quiet_optuna

    name, tables = find_study(target)
    given.apply(tables)
    config = parse_config(StudyConfig, tables, target)
    quiet_optuna()
    return Calibration(config, name, num_seeds, download=given.download)


def _train(calibration: "Calibration", output: Output) -> "Landscape":
    """Train the cohort with each seed."""
    what = "a sample of the space" if calibration.is_sample else "the whole space"
    num = len(calibration.hierarchies)
    output.say(f"{num} hierarchies ({what}), {len(calibration.studies)} seeds, no pruning")
    searches = []
    for searching in calibration.searches():
        output.run(searching.run())
        searches.append(searching)
    return calibration.landscape(searches)


def _write(
    result: "Calibrated", trained: "Landscape | None", name: str, folder: Path
) -> dict[str, str]:
    """The outcome, and what was trained for it; what each file holds, and where it lies."""
    from dsaccel.analysis.landscape_files import write_landscape
    from dsaccel.files import make_folder
    from dsaccel.report.calibration import write_calibration, write_pruning

    make_folder(folder)
    files = {"page": folder / "calibration.html", "pruning": folder / "pruning.toml"}
    write_calibration(result, name, files["page"])
    write_pruning(result, files["pruning"])
    if trained is not None:
        files["landscape"] = folder / "landscape.csv.gz"
        write_landscape(trained, files["landscape"])
    return {label: path.as_posix() for label, path in files.items()}


def _show(result: "Calibrated", files: dict[str, str], output: Output) -> None:
    from dsaccel.report.calibration import calibration_summary, calibration_tables, pruning_table
    from dsaccel.report.calibration_words import verdict

    if output.as_json:
        output.show_json(calibration_summary(result) | {"files": files})
        return
    output.show(calibration_tables(result), *verdict(result))
    chosen = " ".join(f"--set pruning.{k}={v}" for k, v in pruning_table(result).items())
    output.show_files({"settings": chosen} | files)
