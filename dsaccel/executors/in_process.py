"""This process trains, and nobody else."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsaccel.executors import Executor

if TYPE_CHECKING:
    from dsaccel.training.team import Team
    from dsaccel.training.workbench import Bench


class InProcess(Executor):
    """This process, on one device."""

    @contextmanager
    def team(self, bench: "Bench[Any]", folder: Path) -> "Iterator[Team]":
        from dsaccel.training.station import Station
        from dsaccel.training.team import Here, Team

        yield Team([Here(Station(bench.data, bench.device, bench))])
