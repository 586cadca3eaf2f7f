"""Logs of training, for other programs: JSON lines, CSV, and TensorBoard events by unit."""

import csv
import json
import logging
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from typing import Any, Self

from dsaccel.confirm.jobs import ConfirmProgress
from dsaccel.errors import StorageError
from dsaccel.files import make_folder
from dsaccel.paper.train import JobProgress
from dsaccel.search.progress import Progress
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.rung import Point
from dsaccel.text import utc_now

MEASURES = ("learning_rate", "train_accuracy", "train_loss", "val_accuracy", "val_loss")


class Log(ExitStack):
    """A callback of a search and of a training, and a context manager; what is there is added to.

    `events.jsonl` has a line a rung, `units.csv` a line a unit and epoch, of each network whose
    curves are recorded (`runtime.curves`), and `events.out.tfevents...` the same for TensorBoard,
    where that is installed (`pip install 'dsaccel[tensorboard]'`).
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def __enter__(self) -> Self:
        make_folder(self.folder)
        try:
            lines = (self.folder / "events.jsonl").open("a", encoding="utf-8")
            table = (self.folder / "units.csv").open("a", encoding="utf-8", newline="")
        except OSError as error:
            raise StorageError(f"{self.folder} must be writable, but: {error.strerror}") from None
        self._lines, self._table = self.enter_context(lines), self.enter_context(table)
        self._rows = csv.writer(self._table)
        if not self._table.tell():
            self._rows.writerow(("hierarchy", "phase", *(field.name for field in fields(Point))))
        self._tensorboard = self._writer()
        return self

    def __call__(self, progress: Progress | ConfirmProgress | JobProgress) -> None:
        """Note where it stands."""
        if isinstance(progress, Progress):
            self.points(progress.phase, progress.points)
        self.event({"kind": type(progress).__name__, **_plain(progress)})

    def event(self, values: Mapping[str, Any]) -> None:
        """A line of JSON."""
        line = {"date": utc_now(), **values}
        self._lines.write(json.dumps(line, default=str) + "\n")
        self._lines.flush()

    def points(self, phase: str, points: Mapping[Hierarchy, tuple[Point, ...]]) -> None:
        """Note the points that units have reached."""
        for hierarchy, of_network in points.items():
            for point in of_network:
                self._rows.writerow((str(hierarchy), phase, *point.values()))
                if self._tensorboard is not None:
                    for measure in MEASURES:
                        name = f"{phase}/{hierarchy}/{measure}/{point.head}".replace(" ", "_")
                        value = getattr(point, measure)
                        self._tensorboard.add_scalar(name, value, point.epoch, time.time())
        self._table.flush()

    def _writer(self) -> Any:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            logging.getLogger("dsaccel").info(
                "no TensorBoard events are written: pip install 'dsaccel[tensorboard]'"
            )
            return None
        writer = SummaryWriter(str(self.folder))
        self.callback(writer.close)
        return writer


def _plain(progress: Any) -> dict[str, Any]:
    """Fields as JSON has them; the units' points are in the table."""
    values = {k: v for k, v in vars(progress).items() if k != "points"}
    return {key: _texts(value) for key, value in values.items()}


def _texts(value: Any) -> Any:
    if isinstance(value, Hierarchy):
        return str(value)
    return [_texts(each) for each in value] if isinstance(value, tuple) else value
