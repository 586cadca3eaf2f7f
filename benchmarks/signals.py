"""How long a command takes to save and end after SIGTERM, and that it has saved.

    python benchmarks/signals.py [--rounds 3] [--out FILE]

Needs an idle machine. Each command trains the digits, with one thread a process.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[1]
ONE = ("--threads", "1")
COMMANDS: dict[str, tuple[tuple[str, ...], ...]] = {
    "search": (("search", "digits", *ONE),),
    "search, sequential, 200 epochs a unit": (
        ("search", "digits", *ONE, "--schedule", "sequential", "--epochs", "200"),
    ),
    "search, 2 workers": (("search", "digits", *ONE, "--workers", "2"),),
    "calibrate": (("calibrate", "digits", *ONE),),
    "confirm": (
        ("search", "digits", *ONE, "--epochs", "20", "--n-trials", "2", "--train-images", "200"),
        ("confirm", "digits"),
    ),
    "train": (
        (
            "train",
            "2-2-2",
            "--data",
            "digits",
            *ONE,
            "--epochs",
            "500",
            "--output",
            "net.safetensors",
        ),
    ),
}
"""Commands that are run to their end, and a last one that gets the signal."""
WAITS_S = (25, 32, 41)
"""From the start to the signal: at any place of an epoch."""


def run(commands: tuple[tuple[str, ...], ...], wait_s: float, folder: Path) -> dict[str, Any]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    base = [sys.executable, "-m", "dsaccel"]
    quiet: dict[str, Any] = dict.fromkeys(("stdout", "stderr"), subprocess.DEVNULL)
    quiet |= {"cwd": folder, "env": environment}
    for command in commands[:-1]:
        subprocess.run([*base, *command], check=True, **quiet)
    process = subprocess.Popen([*base, *commands[-1]], **quiet)
    time.sleep(wait_s)
    assert process.poll() is None, "it has ended before"
    at, started = time.time(), time.perf_counter()
    process.send_signal(signal.SIGTERM)
    code = process.wait()
    seconds = time.perf_counter() - started
    saved = [path for path in folder.rglob("*.pt") if path.stat().st_mtime > at]
    return {"seconds": seconds, "exit": code, "files saved": len(saved)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=len(WAITS_S))
    parser.add_argument("--only", choices=COMMANDS, nargs="*", default=list(COMMANDS))
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    found: dict[str, Any] = {"torch": torch.__version__, "commands": {}}
    for name in args.only:
        ends = []
        for wait_s in WAITS_S[: args.rounds]:
            with tempfile.TemporaryDirectory() as folder:
                ends.append(run(COMMANDS[name], wait_s, Path(folder)))
        found["commands"][name] = ends
        seconds = [end["seconds"] for end in ends]
        print(
            f"{name}: {statistics.median(seconds):.1f} s ({min(seconds):.1f} to "
            f"{max(seconds):.1f}, n = {len(ends)}), exit {ends[0]['exit']}, files saved "
            f"{[end['files saved'] for end in ends]}",
            flush=True,
        )
        if args.out:
            args.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
