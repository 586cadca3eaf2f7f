"""`harvest.csv`: networks that were read on the way and are no trials of the study, and why not.

A network stands there once, as far as it was trained; one that becomes a trial leaves the file.
"""

import csv
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from dsaccel.files import write_csv
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.plan import Plan
from dsaccel.training.run import Run


@dataclass(frozen=True)
class Harvest:
    """A network that nobody asked for."""

    hierarchy: str
    epochs: int
    """Trained so far; of a sequential schedule the sum over its units."""
    val_accuracy: float | None
    """The accuracy of the study's exit after these epochs; None: it was not trained."""
    head_accuracy: float | None
    """The deepest head's; None: none was trained."""
    num_parameters: int
    flops: int
    why: str
    """Why it is not in the study."""


def read_harvest(run: Run, hierarchy: Hierarchy, plan: Plan, violation: str | None) -> Harvest:
    """A harvested network as far as it is trained.

    Args:
        run: that it is read off.
        hierarchy: the network's.
        plan: its network.
        violation: why it is outside the space; None: it is inside.
    """
    rung, why = run.history[-1], violation
    read = rung.read.get(hierarchy)
    if rung.step < run.num_steps:
        step = f"{run.schedule.step_name} {rung.step}"
        cut = f"not trained to the end: what it is a part of was pruned at {step}"
        why = cut if why is None else f"{why}; {cut}"
    return Harvest(
        hierarchy=str(hierarchy),
        epochs=run.epochs_trained(hierarchy),
        val_accuracy=read and read.objective,
        head_accuracy=read and read.exits["head"],
        num_parameters=plan.num_parameters,
        flops=plan.flops,
        why=why or "",
    )


def add_harvest(path: Path, rows: Sequence[Harvest], trials: Collection[str]) -> None:
    """Add networks to the file, which is written whole or not at all.

    Args:
        path: the file; made when there is a first network, removed when the last one leaves.
        rows: what was read; replaces what the file says of the same networks less far trained.
        trials: hierarchies that are in the study by now.
    """
    old = _read(path)
    merged = dict(old)
    for row in rows:
        known = merged.get(row.hierarchy)
        if known is None or int(known["epochs"]) <= row.epochs:
            merged[row.hierarchy] = _texts(row)
    merged = {name: row for name, row in merged.items() if name not in trials}
    if merged == old:
        return
    if not merged:
        path.unlink()
        return
    write_csv(path, list(merged.values()))


def _read(path: Path) -> dict[str, dict[str, str]]:
    """The rows by hierarchy; a line that someone has damaged is left out."""
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        rows = [row for row in csv.DictReader(file) if list(row) == _columns()]
    return {row["hierarchy"]: row for row in rows if (row["epochs"] or "").isdecimal()}


def _columns() -> list[str]:
    return [field.name for field in fields(Harvest)]


def _texts(row: Harvest) -> dict[str, str]:
    """A cell of the file: what is not known is empty."""
    values: dict[str, Any] = asdict(row)
    return {name: "" if value is None else str(value) for name, value in values.items()}
