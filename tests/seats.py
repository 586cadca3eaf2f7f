"""Workers that are pretended: each has a station of its own in this process, and can be lost."""

from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Future
from contextlib import contextmanager
from typing import Any, ClassVar

from dsaccel.executors import Executor
from dsaccel.training.station import Station
from dsaccel.training.team import Team

LOSES: list[Callable[[int, Any], bool]] = []
"""Whether a worker is lost with a job, by the number of jobs so far and what is asked."""


class Seat:
    lost = (BrokenExecutor,)
    num_jobs = 0

    def __init__(self, name: str, bench: Any) -> None:
        self.name, self.bench = name, bench
        self.renew()

    def renew(self) -> bool:
        self.station = Station(self.bench.data, self.bench.device, self.bench)
        return True

    def is_alive(self) -> bool:
        return True

    def submit(self, function: Any, argument: Any) -> Future[Any]:
        Seat.num_jobs += 1
        done: Future[Any] = Future()
        result = function(self.station, argument)
        if any(loses(Seat.num_jobs, argument) for loses in LOSES):
            done.set_exception(BrokenExecutor("lost"))
        else:
            done.set_result(result)
        return done

    def stop(self) -> None:
        pass


class Seats(Executor):
    """So many of them."""

    num: int = 2
    teams: ClassVar[list[Team]] = []

    @contextmanager
    def team(self, bench, folder):
        team = Team([Seat(f"seat {n}", bench) for n in range(self.num)])
        self.teams.append(team)
        yield team


class SeatsAway(Seats):
    """Which see another folder than the study's, as those of a cluster."""

    def folder(self, own):
        own.with_name("scratch").mkdir(exist_ok=True)
        return own.with_name("scratch")
