"""The JSON object, the files and the progress of a confirmation."""

from dataclasses import asdict
from typing import Any

from rich.table import Table
from rich.text import Text

from dsaccel.confirm.jobs import ConfirmProgress
from dsaccel.confirm.result import Confirmation, Result, entry_record
from dsaccel.confirm.run import Confirm
from dsaccel.files import make_folder, write_csv, write_json
from dsaccel.report.verdict import VAL_IMAGES, sentences
from dsaccel.text import about

JUDGED = ("p_holm", "is_tie", "is_judged", "detectable")
"""What the JSON says of a comparison beside the difference."""


def confirmation_summary(confirming: Confirm, resolution: float) -> dict[str, Any]:
    """What `dsaccel confirm --json` prints, and `confirmation.json` holds."""
    confirmation = confirming.record.result
    components = confirmation.components()
    return {
        "study": confirming.directory.name,
        "seeds": confirming.seeds,
        "split": VAL_IMAGES[confirmation.val_is_given],
        "val_is_given": confirmation.val_is_given,
        "best": confirmation.best,
        "reference": confirmation.reference,
        "tuning": confirmation.tuning,
        "num_images": confirmation.num_images,
        "results": [
            {
                **entry_record(result.entry),
                "mode": result.mode,
                "accuracy": {split: asdict(s) for split, s in result.accuracies.items()},
                "by_seed": {
                    split: confirmation.series(split, result.entry.name, result.mode)
                    for split in result.accuracies
                },
                "differences": {
                    f"{split} to {against}": asdict(comparison.paired)
                    | {name: getattr(comparison, name) for name in JUDGED}
                    for (split, against), comparison in result.comparisons.items()
                },
                "depth": _depth(confirmation, result),
                "time_s": confirmation.times_s.get((result.entry.name, result.mode), {}),
            }
            for result in confirmation.results()
        ],
        "variance": None if components is None else asdict(components),
        "sentences": sentences(confirmation, resolution),
        "decisions": confirming.record.values["decisions"],
        "test_readings": confirming.record.readings,
        "time_s": confirming.record.values["time_s"],
    }


def _depth(confirmation: Confirmation, result: Result) -> dict[str, Any] | None:
    """A network at its exit against its best earlier head, if it has one."""
    depth = confirmation.depth(result.entry.name, result.mode)
    return depth and asdict(depth) | {"helps": depth.helps}


def write_confirmation(confirming: Confirm, resolution: float) -> dict[str, str]:
    """Write `confirmation.json`, `confirmation.csv` and `test_readings.csv`; their paths."""
    folder = confirming.directory.path
    make_folder(folder)
    summary = confirmation_summary(confirming, resolution)
    write_json(folder / "confirmation.json", summary)
    confirmation = confirming.record.result
    rows = [
        {
            "name": result.entry.name,
            "hierarchy": result.entry.hierarchy,
            "roles": ";".join(result.entry.roles),
            "mode": result.mode,
            "seed": seed,
            "val_accuracy": accuracy,
            "test_accuracy": confirmation.series("test", result.entry.name, result.mode).get(seed),
            "num_parameters": result.entry.num_parameters,
            "flops": result.entry.flops,
            "num_local_losses": result.entry.num_local_losses,
            "time_s": confirmation.times_s.get((result.entry.name, result.mode), {}).get(seed),
        }
        for result in confirmation.results()
        for seed, accuracy in confirmation.series("val", result.entry.name, result.mode).items()
    ]
    # of an earlier version, a look has no hash of what it has read of each image
    looks = [
        {key: value for key, value in look.items() if key != "right_sha256"}
        for look in confirming.record.readings
    ]
    files = {"confirmation": folder / "confirmation.json"}
    for name, table in (
        ("confirmation.csv", rows),
        ("test_readings.csv", looks),
    ):
        if table:
            write_csv(folder / name, table)
            files[name.removesuffix(".csv") + " table"] = folder / name
    return {label: path.as_posix() for label, path in files.items()}


PHASES = {
    "tuning": "tuning global back-propagation",
    "local": "layer-wise",
    "global": "global",
    "test": "reading the test split",
}


def progress_line(progress: ConfirmProgress) -> str:
    """A line a step, where no terminal is."""
    step = "" if progress.num_steps == 1 else f"  step {progress.step}/{progress.num_steps}"
    names = " ".join(progress.names)
    phase = PHASES[progress.phase]
    left = "" if progress.time_left_s is None else f"  left {about(progress.time_left_s)}"
    return f"confirm {phase} {progress.job}/{progress.num_jobs}{step}  {names}{left}"


def progress_panel(progress: ConfirmProgress) -> Table:
    """The panel that a terminal shows meanwhile."""
    table = Table.grid(padding=(0, 2))
    phase = Text(f"confirm: {PHASES[progress.phase]}", style="bold")
    table.add_row(phase, f"{progress.job} of {progress.num_jobs}")
    if progress.num_steps > 1:
        table.add_row("step", f"{progress.step} of {progress.num_steps}")
    table.add_row("networks", "  ".join(progress.names))
    if progress.time_left_s is not None:
        table.add_row("time left", f"about {about(progress.time_left_s)}")
    return table
