"""How long a confirmation still takes: from the pace at which its work has gone so far."""

from collections.abc import Generator
from dataclasses import replace
from typing import TYPE_CHECKING

from dsaccel.confirm.entrants import GlobalSettings
from dsaccel.confirm.jobs import ConfirmProgress, Job
from dsaccel.confirm.tuning import layerwise_settings
from dsaccel.ticks import Pace

if TYPE_CHECKING:
    from dsaccel.confirm.run import Confirm


def with_time_left(confirming: "Confirm") -> Generator[ConfirmProgress]:
    """Run a confirmation; each step says how long the rest takes, test readings not counted."""
    work, pace = Work(confirming), Pace()
    for progress in confirming.run():
        left = None if progress.phase == "test" else pace.left_s(work.done(progress), work.total)
        yield replace(progress, time_left_s=left)


class Work:
    """The work that a confirmation has to do, in FLOPs: that of tuning and of each job."""

    def __init__(self, confirming: "Confirm") -> None:
        self._entrants = confirming.entrants
        self._trial = self._flops(Job(0, "global", confirming.record.result.entries[:1]))
        self._tuning = self._trial * _num_to_try(confirming)
        self._jobs = [(job, self._flops(job)) for job in confirming.jobs()]
        self._trained: set[tuple[int, str]] = set()

    @property
    def total(self) -> float:
        return self._tuning + sum(flops for _, flops in self._jobs)

    def done(self, progress: ConfirmProgress) -> float:
        """The work that is behind a step of tuning or training."""
        if progress.phase == "tuning":
            return min(self._tuning, self._trial * progress.job)
        number, names = progress.place, progress.names
        if progress.step == progress.num_steps:
            self._trained.update((number, name) for name in names)
        # of workers any job may be done first; one whose networks do not fit into memory together
        # trains them in parts
        behind = sum(
            flops * sum((n, name) in self._trained for name in job.names) / len(job.names)
            for n, (job, flops) in enumerate(self._jobs)
        )
        job, flops = self._jobs[number]
        under_way = [name for name in names if (number, name) not in self._trained]
        share = len(under_way) * progress.step / progress.num_steps / len(job.names)
        return self._tuning + behind + flops * share

    def _flops(self, job: Job) -> float:
        return self._entrants.flops(job.entries, job.mode, GlobalSettings(1.0, 0.0))


def _num_to_try(confirming: "Confirm") -> int:
    """Settings that back-propagation is tried with; one alone is not tried."""
    if confirming.record.tuned:
        return 0
    found = layerwise_settings(confirming.study.get_trials(deepcopy=False))
    num = confirming.confirm.tuning_trials or found
    return num if num > 1 else 0
