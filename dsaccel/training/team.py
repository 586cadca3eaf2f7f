"""Workers that train for one driver, and what is given to them.

Each is an executor of one worker, so that a part of a cohort comes back to who holds its learners.
A job is a function of a station and one argument; done again, it comes to the same. So a job whose
worker is lost is given to another one.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from dsaccel import stopping
from dsaccel.errors import WorkerError
from dsaccel.training.station import Station

A = TypeVar("A")
R = TypeVar("R")

log = logging.getLogger("dsaccel")

POLL_S = 0.5
"""How often it is looked whether the driver is to stop."""
MAX_LOSSES = 3
"""A job whose workers were lost so often is not tried again."""


class Worker(Protocol):
    """Someone who does one job after another."""

    name: str

    @property
    def lost(self) -> tuple[type[BaseException], ...]:
        """What its jobs end with if it is no more."""
        ...

    def submit(self, function: Callable[[Station, A], R], argument: A) -> "Future[R]":
        """Have a job done."""
        ...

    def is_alive(self) -> bool:
        """Whether a job that it does can still come to an end."""
        ...

    def renew(self) -> bool:
        """Take another one's place when it is lost; False: there is none."""
        ...

    def leave(self) -> None:
        """Save what it is doing at the next safe place, and leave it off."""
        ...

    def stop(self) -> None:
        """Leave off what it is doing at once."""
        ...


class Here:
    """This process as the only worker."""

    name = "this process"
    lost: tuple[type[BaseException], ...] = ()

    def __init__(self, station: Station) -> None:
        self._station = station

    def submit(self, function: Callable[[Station, A], R], argument: A) -> "Future[R]":
        done: Future[R] = Future()
        done.set_result(function(self._station, argument))  # errors are raised here and now
        return done

    def is_alive(self) -> bool:
        return True

    def renew(self) -> bool:
        return False

    def leave(self) -> None:
        pass

    stop = leave


@dataclass(eq=False)
class Job:
    function: Callable[[Station, Any], Any]
    argument: Any
    worker: int | None = None
    """The worker that should do it if nobody is idle meanwhile."""
    num_losses: int = 0


@dataclass(frozen=True)
class Done:
    job: Job
    result: Any
    worker: int


class Team:
    """The workers of a driver."""

    def __init__(self, workers: Sequence[Worker], share: float = 1.0) -> None:
        """
        Args:
            workers: all have the same bench.
            share: of its machine's free memory that each may take.
        """
        self.workers, self.share = list(workers), share
        self._gone: set[int] = set()

    @property
    def is_here(self) -> bool:
        """Whether there is no worker but this process."""
        return isinstance(self.workers[0], Here)

    @property
    def living(self) -> list[int]:
        """The workers that are not lost."""
        return [index for index in range(len(self.workers)) if index not in self._gone]

    def costliest_first(
        self, function: Callable[[Station, A], R], arguments: Sequence[A], costs: Sequence[float]
    ) -> Iterator[tuple[int, R]]:
        """Do independent jobs, the costliest first, so that none of those is left to one worker at
        the end; yields the place of each among the arguments and what it comes to, when it is done.
        """
        jobs = [Job(function, argument) for argument in arguments]
        places = {job: place for place, job in enumerate(jobs)}
        queue = deque(sorted(jobs, key=lambda job: -costs[places[job]]))
        for done in self.run(queue):
            yield places[done.job], done.result

    def map(self, function: Callable[[Station, A], R], arguments: Sequence[A]) -> Iterator[R]:
        """Do independent jobs; yields what they come to in their order, as soon as it is there."""
        jobs = [Job(function, argument) for argument in arguments]
        results: dict[Job, Any] = {}
        queue = deque(jobs)
        for done in self.run(queue):
            results[done.job] = done.result
            while jobs and jobs[0] in results:
                yield results.pop(jobs.pop(0))

    def run(self, queue: "deque[Job]") -> Iterator[Done]:
        """Do jobs, and those that are appended meanwhile; yields each that is done.

        Workers have a few seconds to save what they are doing if it ends before.

        Raises:
            WorkerError: if a job's workers are lost again and again, or none is left.
        """
        running: dict[Future[Any], tuple[int, Job]] = {}
        try:
            while queue or running:
                busy = {index for index, _ in running.values()} | self._gone
                for index in range(len(self.workers)):
                    if index not in busy and (job := _next(queue, index)):
                        future = self.workers[index].submit(job.function, job.argument)
                        running[future] = index, job
                finished, _ = wait(running, timeout=POLL_S, return_when=FIRST_COMPLETED)
                stopping.leave()
                if not finished:
                    for future, (index, job) in list(running.items()):
                        if not self.workers[index].is_alive():
                            del running[future]
                            self._lose(index, job)
                            queue.appendleft(job)
                for future in finished:
                    index, job = running.pop(future)
                    try:
                        result = future.result()
                    except self.workers[index].lost:
                        self._lose(index, job)
                        queue.appendleft(job)
                    else:
                        yield Done(job, result, index)
        finally:
            self._leave(running)

    def _leave(self, running: "dict[Future[Any], tuple[int, Job]]") -> None:
        for index, _ in running.values():
            self.workers[index].leave()
        _, busy = wait(running, timeout=stopping.WAIT_S)
        for future in busy:
            self.workers[running[future][0]].stop()

    def _lose(self, index: int, job: Job) -> None:
        worker = self.workers[index]
        job.num_losses += 1
        job.worker = None
        if job.num_losses >= MAX_LOSSES:
            raise WorkerError(
                f"a worker must live until its job is done, but {job.num_losses} ended with the "
                "same one (out of memory, perhaps); what was reached is kept: run the command "
                "again, with fewer workers or a smaller runtime.memory_mib"
            )
        log.warning("%s is lost: what it did is done again", worker.name)
        if not worker.renew():
            self._gone.add(index)
        if not self.living:
            raise WorkerError(
                "a worker must be left, but all of them are lost; what was reached is kept: run "
                "the command again"
            )


def _next(queue: "deque[Job]", index: int) -> Job | None:
    """The job that a worker should do next."""
    if not queue:
        return None
    own = next((job for job in queue if job.worker in (index, None)), queue[0])
    queue.remove(own)
    return own
