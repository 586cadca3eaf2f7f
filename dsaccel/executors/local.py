"""Worker processes on this machine: one for each of several GPUs, or several on its CPU."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import Field

from dsaccel.executors import Executor
from dsaccel.stopping import LostJobError

if TYPE_CHECKING:
    from dsaccel.training.opening import Facts, Opening
    from dsaccel.training.station import Station
    from dsaccel.training.team import Team
    from dsaccel.training.workbench import Bench

A = TypeVar("A")
R = TypeVar("R")


class Local(Executor):
    """A process for each of `devices`, or so many `workers` on the CPU."""

    workers: int | None = Field(default=None, ge=1)
    devices: str | None = None

    @contextmanager
    def team(self, bench: "Bench[Any]", folder: Path) -> "Iterator[Team]":
        from dsaccel.training.device import worker_devices
        from dsaccel.training.opening import Facts, Opening
        from dsaccel.training.team import Team

        devices = worker_devices(bench.config.runtime)
        share = 1.0 if self.devices else 1 / len(devices)
        with ExitStack() as stack:
            opening = Opening.of(bench, folder, share=share)
            stack.callback(opening.close)
            names = devices if self.devices else [f"worker {n}" for n in range(1, len(devices) + 1)]
            workers = [
                ProcessWorker(name, opening.on(device))
                for name, device in zip(names, devices, strict=True)
            ]
            for worker in workers:
                stack.callback(worker.stop)
            driver = Facts.of(bench)
            for worker, opened in [(worker, worker.open()) for worker in workers]:
                opened.result().check(worker.name, driver, folder)
            yield Team(workers, share)


class ProcessWorker:
    """A process that trains on one device."""

    lost = (BrokenExecutor, LostJobError)

    def __init__(self, name: str, opening: "Opening") -> None:
        self.name = name
        self._opening = opening
        self._executor: ProcessPoolExecutor | None = None
        self._process: Any = None

    @property
    def pid(self) -> int | None:
        """The number of the process, while there is one."""
        return self._process and self._process.pid

    def open(self) -> "Future[Facts]":
        """Start the process, and have it open the bench."""
        from dsaccel.training.opening import open_station

        before = multiprocessing.active_children()
        self._executor = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _begin_worker)
        opened = self._executor.submit(open_station, self._opening)
        new = [each for each in multiprocessing.active_children() if each not in before]
        self._process = new[-1] if new else None
        return opened

    def submit(self, function: "Callable[[Station, A], R]", argument: A) -> "Future[R]":
        if self._executor is None:
            self.open()
        assert self._executor is not None
        try:
            return self._executor.submit(_at_station, self._opening.id, function, argument)
        except BrokenExecutor as error:  # it died while it had nothing to do
            failed: Future[R] = Future()
            failed.set_exception(error)
            return failed

    def is_alive(self) -> bool:
        return True  # a job of one that is not ends with an error

    def renew(self) -> bool:
        self.stop()
        self.open()
        return True

    def leave(self) -> None:
        if self._process is not None:
            self._process.terminate()

    def stop(self) -> None:
        """End the process at once: what it writes is whole or not there."""
        executor, self._executor = self._executor, None
        if executor is None:
            return
        if self._process is not None:
            self._process.kill()
        executor.shutdown(wait=True, cancel_futures=True)
        self._process = None


_left = threading.Event()
"""Set in a worker that is to leave what it does."""


def _at_station(id_: str, function: Callable[..., R], argument: Any) -> R:
    """Do a job in a worker."""
    from dsaccel.training.opening import at_station

    try:
        return at_station(id_, function, argument, lambda: not _left.is_set())
    finally:  # not at the beginning, which the wish may have overtaken
        _left.clear()


def _begin_worker() -> None:
    """The terminal's Ctrl-C is the driver's business, and without a driver there is none here."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in ("SIGTERM", "SIGHUP"):  # the driver's wish, or a system's that ends all of us
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _leave)
    threading.Thread(target=_end_with_driver, daemon=True).start()


def _leave(number: int, _frame: object) -> None:
    """Leave a job at its next safe place, at the second time at once."""
    if _left.is_set():
        os._exit(128 + number)
    _left.set()


def _end_with_driver() -> None:
    driver = multiprocessing.parent_process()
    if driver is not None:
        wait([driver.sentinel])
        os._exit(1)
