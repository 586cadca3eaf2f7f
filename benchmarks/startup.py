"""How long `dsaccel --help` takes, in units of importing the library that it is made with.

    python benchmarks/startup.py --rounds 40

Each side is a process of its own, round by round: `import typer`, which nothing that Typer makes
can do without, and ours. Two figures a clock: the ratio of medians, and that of minima, which other
work on the machine disturbs least.
"""

import argparse
import os
import resource
import subprocess
import sys
import time
from dataclasses import dataclass

import measure
from rich.console import Console
from rich.table import Table

TARGET = 1.25
"""Most times as long as the import."""
UNIT = "import typer"
SIDES = {
    UNIT: ["-c", "import typer"],
    "dsaccel --help": ["-c", "from dsaccel.cli.app import main; main()", "--help"],
}


@dataclass(frozen=True)
class Share:
    """How many times as long as the unit a side takes."""

    medians: measure.Ratio
    minima: float


# compiled, as an installed program is
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}


def main() -> None:
    """Run all sides in turn, print a table, write the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--out", default="startup")
    options = parser.parse_args()
    environment = measure.environment()

    for side in SIDES.values():
        start(side)  # compiled and in the page cache from here on
    runs: measure.Runs = {name: [] for name in SIDES}
    for number in range(options.rounds):
        for name in list(SIDES)[:: 1 if number % 2 == 0 else -1]:
            runs[name].append(start(SIDES[name]))

    shares = {
        name: {clock: share(own, runs[UNIT], clock) for clock in measure.CLOCKS}
        for name, own in runs.items()
    }
    Console().print(table(runs, shares))
    record = {"target": TARGET, "shares": shares, "environment": environment, "runs": runs}
    print(measure.write(options.out, record))


def start(arguments: list[str]) -> measure.Run:
    """Run Python with arguments to its end; its processor time and page faults."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    command = [sys.executable, *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=ENVIRONMENT)
    wall = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)
    return measure.Run(wall, cpu, after.ru_minflt - before.ru_minflt)


def share(own: list[measure.Run], unit: list[measure.Run], clock: str) -> Share:
    lowest, lowest_unit = (min(getattr(run, clock) for run in side) for side in (own, unit))
    return Share(measure.ratio(own, unit, clock), lowest / lowest_unit)


def table(runs: measure.Runs, shares: dict[str, dict[str, Share]]) -> Table:
    """A row a side."""
    result = Table(title=f"Starting, in units of `{UNIT}`; target {TARGET:g}")
    result.add_column("side")
    for clock in ("wall", "processor"):
        for heading in (f"{clock}, ms", "medians", "minima"):
            result.add_column(heading, justify="right")
    for name, own in runs.items():
        cells = [name]
        for clock in measure.CLOCKS:
            figures = shares[name][clock]
            cells += [f"{1000 * measure.median(own, clock):.0f}"]
            cells += [str(figures.medians), f"{figures.minima:.2f}"]
        result.add_row(*cells)
    return result


if __name__ == "__main__":
    main()
