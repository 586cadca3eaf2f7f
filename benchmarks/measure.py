"""Time sides against each other in one process, round by round, and say on what machine.

Rounds are interleaved and every other one runs backwards, so that what else the machine does falls
on all sides. Processor time beside the time that passed: where the cores are shared, it is the
steadier of the two.
"""

import ctypes
import datetime
import gc
import importlib.metadata
import json
import os
import platform
import random
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

RESULTS = Path(__file__).parent / "results"
NUM_RESAMPLES = 2000
CLOCKS = ("wall_s", "cpu_s")


@dataclass(frozen=True)
class Run:
    """One side in one round."""

    wall_s: float
    cpu_s: float
    """Of all threads of the process."""
    page_faults: int
    """Pages that the kernel had to map: memory that was given back and asked for again."""


@dataclass(frozen=True)
class Ratio:
    """How many times faster one side is than another: medians over rounds."""

    ratio: float
    low: float
    high: float
    """95 % interval: a bootstrap over rounds."""

    def __str__(self) -> str:
        return f"{self.ratio:.2f} ({self.low:.2f} to {self.high:.2f})"


Runs = dict[str, list[Run]]
"""By side, a run each round."""


def interleave(sides: Mapping[str, Callable[[], object]], *, rounds: int, warm_up: int) -> Runs:
    """Run all sides `warm_up + rounds` times; the first rounds are not counted."""
    runs: Runs = {name: [] for name in sides}
    for number in range(-warm_up, rounds):
        for name in list(sides)[:: 1 if number % 2 == 0 else -1]:
            run = time_once(sides[name])
            print(f"round {number + 1} of {rounds}, {name}: {run}", file=sys.stderr, flush=True)
            if number >= 0:
                runs[name].append(run)
    return runs


def forget_freed_memory() -> None:
    """Undo `keep_freed_memory`: what the C library's own rule comes to where maps are large."""
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(-3, 32 * 2**20)  # M_MMAP_THRESHOLD: the most that it rises to by itself
        libc.mallopt(-1, 64 * 2**20)  # M_TRIM_THRESHOLD: twice as much


def time_once(side: Callable[[], object]) -> Run:
    gc.collect()
    faults = _page_faults()
    wall, cpu = time.perf_counter(), time.process_time()
    side()
    return Run(time.perf_counter() - wall, time.process_time() - cpu, _page_faults() - faults)


def median(runs: list[Run], clock: str = "wall_s") -> float:
    return statistics.median(getattr(run, clock) for run in runs)


def ratio(slow: list[Run], fast: list[Run], clock: str = "wall_s") -> Ratio:
    """Median time of one side over that of the other, rounds resampled together."""
    pairs = [(getattr(a, clock), getattr(b, clock)) for a, b in zip(slow, fast, strict=True)]
    draw = random.Random(0)
    resampled = sorted(
        _ratio_of_medians(draw.choices(pairs, k=len(pairs))) for _ in range(NUM_RESAMPLES)
    )
    tail = NUM_RESAMPLES // 40
    return Ratio(_ratio_of_medians(pairs), resampled[tail], resampled[-1 - tail])


def environment() -> dict[str, Any]:
    """Machine, versions, threads, commit and date: what a figure was taken with.

    Asked for before the runs, during which the commit may change.
    """
    return {
        "cpu": _cpu_model(),
        "threads": torch.get_num_threads(),
        "load_average": round(_load(), 2),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "dsaccel": _version("dsaccel"),
        "commit": _commit(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def write(name: str, record: dict[str, Any]) -> Path:
    """Write a record to `results/NAME.json`."""
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"{name}.json"
    file.write_text(json.dumps(record, indent=2, default=asdict) + "\n", encoding="utf-8")
    return file


def record(runs: Runs) -> dict[str, Any]:
    """All runs, and how many times faster each side is than the first."""
    base, *others = runs
    return {
        "faster_than": base,
        "ratios": {
            name: {clock: ratio(runs[base], runs[name], clock) for clock in CLOCKS}
            for name in others
        },
        "runs": runs,
    }


def table(title: str, runs: Runs) -> Table:
    """A row a side: medians, and how many times faster it is than the first."""
    base = next(iter(runs))
    result = Table(title=title)
    result.add_column("side")
    for heading in ("wall, s", f"faster than {base}", "processor, s", f"faster than {base}"):
        result.add_column(heading, justify="right")
    result.add_column("page faults", justify="right")
    for name, own in runs.items():
        cells = [name]
        for clock in CLOCKS:
            faster = "" if name == base else str(ratio(runs[base], own, clock))
            cells += [f"{median(own, clock):.3f}", faster]
        result.add_row(*cells, f"{median(own, 'page_faults'):.0f}")
    return result


def _ratio_of_medians(pairs: list[tuple[float, float]]) -> float:
    slow, fast = zip(*pairs, strict=True)
    return statistics.median(slow) / statistics.median(fast)


def _page_faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def _cpu_model() -> str:
    """Name, family and model: a name like "AMD EPYC" alone says little."""
    if platform.system() != "Linux":
        return platform.processor()
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    fields = {key.strip(): value.strip() for key, _, value in (s.partition(":") for s in lines)}
    names = ("model name", "cpu family", "model")
    return ", ".join(f"{name} {fields[name]}" for name in names if name in fields)


def _load() -> float:
    """Processes that wanted a core in the last minute, this one counted."""
    return os.getloadavg()[0]


def _version(name: str) -> str:
    """Of a package; a checkout need not be installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _commit() -> str:
    """The commit of this repository, with `+` if files of the program differ from it."""
    if shutil.which("git") is None:
        return "unknown"
    here = ["git", "-C", str(Path(__file__).parent)]
    commit = subprocess.run([*here, "rev-parse", "HEAD"], capture_output=True, text=True)
    changed = subprocess.run(
        [*here, "status", "--porcelain", "--", "../dsaccel"], capture_output=True, text=True
    )
    return (commit.stdout.strip() or "unknown") + ("+" if changed.stdout.strip() else "")
