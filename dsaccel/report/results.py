"""The files, the summary and the table of a command that is done."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from optuna.trial import TrialState
from rich.table import Column, Table
from rich.text import Text

from dsaccel.config.toml import write_toml
from dsaccel.report.study_page import write_report
from dsaccel.report.study_table import exits_text
from dsaccel.search.engine import Search
from dsaccel.study.export import trial_config
from dsaccel.study.folder import StudyDir
from dsaccel.study.kept import place_best
from dsaccel.study.rows import best_trial, read_rows
from dsaccel.study.storage import storage_errors
from dsaccel.study.urls import redact
from dsaccel.text import amount, duration, percent
from dsaccel.training.evaluate import Reading
from dsaccel.training.predictions import Predictions
from dsaccel.training.train import TrainResult


def write_results(searching: Search) -> None:
    """Write report and best hierarchy."""
    directory, study = searching.directory, searching.ledger.record()
    with storage_errors(searching.url):
        best = best_trial(study)
        if best is not None:
            write_toml(directory.best, trial_config(searching.config, study, best))
            place_best(directory, best)
        write_report(study, directory.report)


def result_files(directory: StudyDir) -> dict[str, str]:
    """The files of a study, and where they lie."""
    paths = {
        "study": directory.database,
        "best": directory.best,
        "weights": directory.best_weights,
        "baseline": directory.baseline,
        "report": directory.report,
        "config": directory.config,
        "harvest": directory.harvest,
    }
    return {label: path.as_posix() for label, path in paths.items() if path.is_file()}


def search_summary(searching: Search) -> dict[str, Any]:
    """What `dsaccel search --json` prints."""
    study = searching.ledger.record()
    best, baseline = best_trial(study), study.baseline
    states = [trial.state for trial in study.all()]
    return {
        "study": searching.directory.name,
        "storage": redact(searching.url),
        "num_trained": searching.num_trained,
        "num_pruned": states.count(TrialState.PRUNED),
        "num_harvested": sum(trial.is_harvested for trial in study.all()),
        "blocks_trained": study.blocks_trained or 0,
        "blocks_separate": study.blocks_separate or 0,
        "time_s": study.time_s or 0.0,
        "best": best
        and {
            "hierarchy": best.name,
            "val_accuracy": best.value,
            "exits": best.exits,
            "num_parameters": best.figure("num_parameters"),
        },
        "baseline": baseline
        and {"hierarchy": baseline.hierarchy, "val_accuracy": baseline.accuracy},
        "trials": [
            {
                "number": row.number,
                "hierarchy": row.hierarchy,
                "state": row.state,
                "val_accuracy": row.accuracy if row.is_complete else None,
                "exits": row.trial.exits,
                "feasible": row.feasible,
                "num_parameters": row.num_parameters,
                "flops": row.flops,
                "time_s": row.time_s,
            }
            for row in read_rows(study)
        ],
        "environment": study.environment,
        "files": result_files(searching.directory),
    }


def result_table(result: TrainResult) -> Table:
    """What `dsaccel train` prints."""
    table = Table.grid(padding=(0, 2))
    table.add_row("hierarchy", result.hierarchy)
    table.add_row("mode", result.mode)
    table.add_row("validation accuracy", percent(result.val_accuracy))
    heads = "  ".join(percent(accuracy) for accuracy in result.head_accuracies[-1])
    table.add_row("by head, last one last", heads)
    table.add_row("by exit", exits_text(result.exits))
    if result.val_accuracy < (first := result.head_accuracies[-1][0]):
        table.add_row("warning", f"below its first head with {percent(first)}: depth does not help")
    table.add_row("parameters", amount(result.num_parameters))
    table.add_row("time", duration(result.time_s))
    table.add_row("peak memory", f"{result.peak_memory_bytes / 2**20:.0f} MiB")
    return table


def reading_table(reading: Reading) -> Table:
    """What `dsaccel evaluate` prints."""
    split = {"val": "validation", "test": "test"}[reading.split]
    table = Table.grid(padding=(0, 2))
    table.add_row("hierarchy", reading.hierarchy)
    table.add_row("mode", reading.mode)
    table.add_row(f"{split} accuracy", percent(reading.accuracy))
    heads = reading.head_accuracies
    held = [accuracy for accuracy in heads if accuracy is not None]
    which = "last one last" if len(held) == len(heads) else f"the {len(held)} of {len(heads)} kept"
    table.add_row(f"by head, {which}", "  ".join(map(percent, held)))
    table.add_row("by exit", exits_text(reading.exits))
    table.add_row("images", f"{reading.num_images:,}")
    return table


def per_class_table(told: Predictions) -> Table:
    """Recall and precision of each class."""
    table = Table("class", "images", "recall", "precision")
    for name, of_class in told.per_class.items():
        shares = percent(of_class["recall"]), percent(of_class["precision"])
        table.add_row(Text(name), f"{of_class['images']:.0f}", *shares)
    return table


def confusion_table(told: Predictions) -> Table:
    """Images by class (rows) and by what they are taken for."""
    columns = (Column(Text(name), justify="right") for name in told.class_names)
    table = Table("class", *columns)
    for name, row in zip(told.class_names, told.confusion.tolist(), strict=True):
        table.add_row(Text(name), *(str(num) if num else "·" for num in row))
    return table


def prediction_table(predictions: Mapping[Path, Mapping[str, float]]) -> Table:
    """The classes of each image, the most probable first."""
    table = Table("image", "classes")
    for path, classes in predictions.items():
        shown = "  ".join(f"{name} {percent(share)}" for name, share in classes.items())
        table.add_row(Text(str(path)), Text(shown))
    return table
