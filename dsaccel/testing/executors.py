"""The contract of executors: whoever trains, the result is that of one process."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from dsaccel.config.study import RunConfig
from dsaccel.config.toml import parse_config
from dsaccel.executors import Executor
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.training.cohort import Cohort
from dsaccel.training.device import running
from dsaccel.training.parts import SplitCohort
from dsaccel.training.station import Station
from dsaccel.training.workbench import Bench

RUN: dict[str, Any] = {
    "family": "resnet18",
    "hierarchy": "1-1-1",
    "data": {"name": "digits", "train_images": 64},
    "network": {"width": 1 / 16},
    "training": {"epochs": 2, "batch_size": 16},
    "runtime": {"device": "cpu", "threads": 1},
}


def check_executor(executor: Executor) -> None:
    """Its workers train parts of a cohort to the bits of one process, and do jobs in their order.

    Raises:
        ConfigError: settings that it cannot use.
        WorkerError: if it has no worker that is fit.
    """
    bench: Bench[Any] = Bench.load(parse_config(RunConfig, RUN, "an executor"))
    plans = {h: bench.plan(h) for h in map(Hierarchy, ((1, 1, 1), (1, 1, 2), (2, 1, 1)))}
    given = {"seed": 1, "device": bench.device}
    training = bench.config.training
    with TemporaryDirectory() as place, running(bench.config.runtime):
        folder = executor.folder(Path(place) / "study" / "parts")
        expected = list(Cohort(plans, training, bench.data, **given).rungs())
        with executor.team(bench, folder) as team:
            split: dict[str, Any] = {"fits": lambda _: True, "stops": (1,), "folder": folder}
            run = SplitCohort(plans, training, bench.data, **given, **split, team=team)
            found = list(run.rungs())
            assert found == expected, "workers must find what one process finds, bit for bit"
            numbers = list(team.map(_negated, [3, 1, 2]))
            assert numbers == [-3, -1, -2], f"jobs must be answered in their order, not {numbers}"


def _negated(station: Station, number: int) -> int:
    assert station.bench is not None, "a worker must have the driver's bench open"
    return -number
