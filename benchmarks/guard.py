"""Sections of measuring under a time limit: one after the other, and what does not fit is said."""

import json
import subprocess
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import measure
import torch

NOT_REACHED = "not reached"


class NotReachedError(Exception):
    """The time was up before there was anything to report."""


@dataclass(frozen=True)
class Guard:
    """The end of the time that may be used."""

    end_s: float
    """On the clock."""
    clock: Callable[[], float] = time.perf_counter

    @classmethod
    def lasting(cls, seconds: float, clock: Callable[[], float] = time.perf_counter) -> "Guard":
        return cls(clock() + seconds, clock)

    @property
    def left_s(self) -> float:
        return self.end_s - self.clock()

    def part(self, seconds: float) -> "Guard":
        """The next so many seconds, or what is left."""
        return Guard(min(self.end_s, self.clock() + seconds), self.clock)

    def check(self) -> None:
        """Raises NotReachedError if the time is up."""
        if self.left_s <= 0:
            raise NotReachedError


@dataclass(frozen=True)
class Section:
    """Something to measure."""

    run: Callable[[Guard], dict[str, Any]]
    least_s: float
    """Not begun with less time than this."""
    most_s: float
    """The time that it may use."""


def run_processes(
    limits: Mapping[str, float],
    command: Callable[[str], list[str]],
    guard: Guard,
    save: Callable[[dict[str, dict[str, Any]]], object],
) -> dict[str, dict[str, Any]]:
    """Run sections in order, each in a process of its own, and save after each.

    What one breaks, as a device that answers nothing any more, does not stop the others; one that
    takes longer than its limit is killed.

    Args:
        limits: of each section, in seconds.
        command: of a section; it writes its record, JSON, to the standard output.
        guard: of all.
        save: is given the records so far.
    """
    records: dict[str, dict[str, Any]] = {}
    for name, limit_s in limits.items():
        records[name] = {"status": NOT_REACHED}
        if (left_s := min(limit_s, guard.left_s)) > 0:
            started = guard.clock()
            records[name] = _in_process(command(name), left_s)
            records[name]["took_s"] = round(guard.clock() - started, 3)
        save(records)
    return records


def _in_process(command: list[str], limit_s: float) -> dict[str, Any]:
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired:
        return {"status": f"failed: killed after {limit_s:.0f} s"}
    try:
        return json.loads(done.stdout)
    except ValueError:
        return {"status": f"failed: its process ended with {done.returncode}"}


def run_section(section: Section, guard: Guard) -> dict[str, Any]:
    """A record: its `status` is "measured", "not reached", or says how it failed."""
    if guard.left_s < section.least_s:
        return {"status": NOT_REACHED}
    try:
        record = {"status": "measured", **section.run(guard.part(section.most_s))}
    except NotReachedError:
        record = {"status": NOT_REACHED}
    except torch.OutOfMemoryError:
        record = {"status": "failed: out of memory"}
    except Exception as error:  # the device may not be at hand again for the other sections
        traceback.print_exc()
        record = {"status": f"failed: {type(error).__name__}: {error}"}
    return record


def interleave(
    sides: Mapping[str, Callable[[], object]], guard: Guard, *, most: int, warm_up: int = 1
) -> measure.Runs:
    """Rounds of all sides until the time is up or there are `most`.

    Raises:
        NotReachedError: if not even one round fitted.
    """
    runs: measure.Runs = {name: [] for name in sides}
    for number in range(-warm_up, most):
        if guard.left_s <= 0:
            break
        order = list(sides)[:: 1 if number % 2 == 0 else -1]
        new = {name: measure.time_once(sides[name]) for name in order}
        if number >= 0:
            for name, run in new.items():
                runs[name].append(run)
    if not all(runs.values()):
        raise NotReachedError
    return runs
