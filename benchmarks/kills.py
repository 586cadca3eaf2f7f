"""What killing a search costs: the same study, in how much more processor time.

    python benchmarks/kills.py --kills 20 --interval 10

A search is run whole, and once more with its process killed (SIGKILL) at random moments and begun
again; checkpoints are made every so many seconds. All times are processor times, so that a busy
machine changes nothing, and the start of each process is not counted. Both must come to the same
study. Told are the seconds of both, their ratio, and the kills.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import optuna

STEPS_S = 1 / os.sysconf("SC_CLK_TCK")
ROOT = Path(__file__).parents[1]
STUDY = (
    *("search", "digits", "--width", "0.125", "--train-images", "200", "--threads", "1"),
    *("--strategy", "tpe", "--set", "budget.cohort_size=4", "--set", "budget.baseline=false"),
)
CHILD = """
import sys, time
from dsaccel.cli.app import main
from dsaccel.search.engine import Search
from dsaccel.training import checkpoint
checkpoint.INTERVAL_S, checkpoint.time.perf_counter = float(sys.argv.pop(1)), time.process_time
begin = Search.run
def run(self):
    print("BEGINS", time.process_time(), file=sys.stderr, flush=True)
    return begin(self)
Search.run = run
main()
"""


class Process:
    """The search, from wherever it stands."""

    def __init__(self, folder: Path, interval_s: float, options: list[str]) -> None:
        env = os.environ | {"PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", CHILD, str(interval_s), *STUDY, *options]
        self._process = subprocess.Popen(
            command,
            cwd=folder,
            env=env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stderr is not None
        while not (line := self._process.stderr.readline()).startswith("BEGINS"):
            if not line:
                sys.exit("the search has not begun to train")
            print(line, end="", file=sys.stderr)
        self._start_s = float(line.split()[1])
        self._process.stderr.close()  # progress that nobody can read ends nothing

    def spent_s(self) -> float:
        """Since it began to train."""
        words = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) * STEPS_S - self._start_s

    def run(self, until_s: float) -> tuple[float, bool]:
        """Let it train for so long; what it has spent, and whether it has ended itself."""
        pid, spent, status = self._process.pid, 0.0, 0
        while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            spent = self.spent_s()
            if spent >= until_s:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
        _, status, usage = os.wait4(pid, 0)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        assert self._process.returncode in (0, -signal.SIGKILL), self._process.returncode
        return usage.ru_utime + usage.ru_stime - self._start_s, self._process.returncode == 0


def facts(folder: Path) -> list[Any]:
    """What the study says, but for times and the trials that were cut off."""
    name = "digits"
    study = optuna.load_study(
        study_name=name, storage=f"sqlite:///{folder}/studies/{name}/study.db"
    )
    trials = [t for t in study.get_trials(deepcopy=False) if t.state.name != "FAIL"]
    rows = [
        (
            t.state.name,
            t.values,
            t.params,
            sorted(t.intermediate_values.items()),
            {k: v for k, v in t.user_attrs.items() if k not in ("time_s", "alone_s")},
        )
        for t in trials
    ]
    own = {k: v for k, v in study.user_attrs.items() if k != "time_s"}
    return [*sorted(map(repr, rows)), repr(sorted(own.items()))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--interval", type=float, default=10.0, help="between checkpoints, s")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--trials", default="28")
    parser.add_argument("--epochs", default="100")
    parser.add_argument("--every", type=float, help="mean time between kills, s; default: measured")
    given = parser.parse_args()
    options = ["--n-trials", given.trials, "--epochs", given.epochs]
    rng = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as name:
        whole, cut = Path(name) / "whole", Path(name) / "cut"
        for folder in (whole, cut):
            folder.mkdir()
        first = Process(whole, given.interval, options)
        whole_s = None if given.every else first.run(float("inf"))[0]
        every_s = given.every or (whole_s or 0) / (given.kills + 1)
        spent_s, kills, is_over = 0.0, [], False
        while not is_over:
            left = given.kills - len(kills)
            until = rng.uniform(0, 2 * every_s) if left else float("inf")
            seconds, is_over = Process(cut, given.interval, options).run(until)
            spent_s += seconds
            if not is_over:
                kills.append(round(seconds, 1))
                print(f"killed after {seconds:.1f} s", file=sys.stderr, flush=True)
        if whole_s is None:
            whole_s, _ = first.run(float("inf"))
        same = facts(whole) == facts(cut)
    row = {"whole_s": round(whole_s, 1), "cut_s": round(spent_s, 1), "kills": len(kills)}
    row |= {"ratio": round(spent_s / whole_s, 3), "same_study": same, "killed_after_s": kills}
    print(json.dumps(row))
    sys.exit(not same)


if __name__ == "__main__":
    main()
