"""What a worker does before it trains: open the driver's bench, and say what it computes with.

Everything here is sent to another process by name, so that must have the same version of the
program.
"""

import platform
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import dsaccel
from dsaccel import stopping
from dsaccel.config.study import RuntimeConfig
from dsaccel.data.source import whole_paths
from dsaccel.data.sources.arrays import Carried, carry
from dsaccel.errors import WorkerError
from dsaccel.files import make_folder, remove_file, write_text
from dsaccel.imports import is_foreign, trust_as, trusted
from dsaccel.parts import named_parts, part_ref
from dsaccel.training.arithmetic import arithmetic, changes
from dsaccel.training.device import start_runtime
from dsaccel.training.device_memory import free_memory_bytes
from dsaccel.training.memory_limit import MIB, SHARE
from dsaccel.training.station import Station
from dsaccel.training.workbench import Bench

A = TypeVar("A")
R = TypeVar("R")

CARRIED_BYTES = 2**30
"""Images up to so many are written to one file for all workers: to look through a folder of many
files takes each of them longer."""

TRAIN = ("family", "head", "loss", "optimizer", "lr_schedule", "schedule")
"""Kinds of parts that workers have to do with."""


@dataclass(frozen=True)
class Opening:
    """What a worker needs to train for a bench."""

    config: Any
    """The config of the bench, with the worker's own device and memory."""
    images: Path | None
    """The file of the images; None: they are many, and each worker reads what the config names."""
    share: float
    """The share of the machine's free memory."""
    trusted: Mapping[str, Path]
    """Parts of the user's own."""
    mark: Path
    """A file of the driver's, which a worker that sees the same folder sees."""
    id: str

    @classmethod
    def of(cls, bench: Bench[Any], folder: Path, *, share: float) -> "Opening":
        """The opening for the workers of a driver.

        Args:
            bench: the driver's.
            folder: where learners will be written.
            share: of a machine's free memory, for each worker.
        """
        id_ = uuid4().hex[:8]
        mark = folder / f"driver-{id_}"
        make_folder(folder)
        write_text(mark, id_)
        held = bench.data.train_pixels.nbytes + bench.data.val.pixels.nbytes
        carried = None
        if bench.given is not None:
            carried = carry(bench.data.source, folder / f"images-{id_}.npz")
        elif held <= CARRIED_BYTES:  # else there is no need to read them again
            carried = carry(bench.data.source, folder / f"images-{id_}.npz", CARRIED_BYTES)
        data = whole_paths(bench.config.data)
        config = bench.config.model_copy(update={"data": data})
        return cls(config, carried, share, trusted(), mark, id_)

    def on(self, device: str) -> "Opening":
        """The opening for a worker of this device."""
        runtime = self.config.runtime
        own = RuntimeConfig(device=device, threads=runtime.threads, memory_mib=runtime.memory_mib)
        return replace(self, config=self.config.model_copy(update={"runtime": own}))

    def is_seen(self) -> bool:
        """Whether this process sees the driver's folder."""
        return self.mark.is_file() and self.mark.read_text(encoding="utf-8") == self.id

    def close(self) -> None:
        """Leave nothing but what a checkpoint needs."""
        remove_file(self.mark)
        if self.images is not None:
            remove_file(self.images)
        with suppress(OSError):
            self.mark.parent.rmdir()


@dataclass(frozen=True)
class Facts:
    """What a worker is."""

    version: str
    """The version of this program."""
    arithmetic: Mapping[str, str]
    images: str
    """Their fingerprint."""
    sees_folder: bool
    machine: str

    @classmethod
    def of(cls, bench: Bench[Any]) -> "Facts":
        """Imports the parts that are not shipped, too: what is sent may be of their classes."""
        known = arithmetic(bench.device, bench.config.runtime.threads)
        for kind, name in named_parts(bench.config):
            if kind in TRAIN and is_foreign(name):
                known[f"{kind} {name}"] = str(part_ref(kind, name).sha256)
        return cls(dsaccel.__version__, known, bench.data.fingerprint, True, platform.node())

    def check(self, name: str, driver: "Facts", folder: Path) -> None:
        """Refuse a worker that would come to other results than the driver's.

        Raises:
            WorkerError: with the difference.
        """
        if not self.sees_folder:
            raise WorkerError(
                f"{name} must see the folder of the driver, but does not: {folder}; name one that "
                "all machines share with --scratch"
            )
        versions = {"dsaccel": driver.version}, {"dsaccel": self.version}
        found = changes(*versions) + changes(driver.arithmetic, self.arithmetic)
        if found:
            raise WorkerError(
                f"{name} must compute the same bits as the driver, but differs from it: "
                f"{', '.join(found)}; give both the same, or leave it out"
            )
        if self.images != driver.images:
            raise WorkerError(
                f"{name} must read the driver's images, but reads others (fingerprint "
                f"{self.images[:12]}, the driver's {driver.images[:12]}); put the same ones there"
            )


_stations: dict[str, Station] = {}
"""The station that was opened last, by its id."""


def open_station(opening: Opening) -> Facts:
    """Open a bench in a worker.

    Raises:
        ConfigError: images or a device that cannot be used there.
    """
    _stations.clear()
    runtime = opening.config.runtime
    if not opening.is_seen():
        return Facts(dsaccel.__version__, {}, "", False, platform.node())
    for name, base in opening.trusted.items():
        trust_as(name, base)
    source = None if opening.images is None else Carried(opening.images)
    bench: Bench[Any] = Bench.load(opening.config, source=source)
    if bench.device.type == "cpu":
        allowed = runtime.memory_mib or SHARE * free_memory_bytes(bench.device) / MIB
        own = runtime.model_copy(update={"memory_mib": max(1, int(opening.share * allowed))})
        config = bench.config.model_copy(update={"runtime": own})
        bench = replace(bench, config=config)
    _stations[opening.id] = Station(bench.data, bench.device, bench)
    return Facts.of(bench)


def at_station(
    id_: str,
    function: Callable[[Station, A], R],
    argument: A,
    is_wanted: Callable[[], bool],
) -> R:
    """Do a job in a worker that has opened a bench.

    Args:
        id_: of the opening.
        function: the job.
        argument: its argument.
        is_wanted: whether somebody still waits for it: where nobody does, it is saved and left.

    Raises:
        LostJobError: if it was left, or if the worker has opened nothing, as one that was started
            again.
    """
    station = _stations.get(id_)
    if station is None or station.bench is None:
        raise stopping.LostJobError(f"no station {id_}")
    start_runtime(station.bench.config.runtime)  # threads are those of the thread that asks
    with stopping.while_wanted(is_wanted):
        return function(station, argument)
