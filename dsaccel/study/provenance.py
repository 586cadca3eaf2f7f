"""Where results come from: commit, versions, device, images, command; written with every export."""

import importlib.metadata
import platform
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import torch

from dsaccel.config.study import RunConfig, StudyConfig
from dsaccel.data.batches import Data
from dsaccel.text import printable, redacted
from dsaccel.training.device import device_words

PACKAGES = ("dsaccel", "torch", "torchvision", "optuna", "numpy")


def provenance(config: StudyConfig | RunConfig, data: Data) -> dict[str, Any]:
    """What trains here and now; plain values."""
    runtime = config.runtime
    return {
        "command": command(),
        "commit": commit(),
        "versions": {package: importlib.metadata.version(package) for package in PACKAGES},
        "python": platform.python_version(),
        "device": device_words(torch.device(runtime.device), runtime.threads),
        "threads": runtime.threads,
        "images": data.fingerprint,
    }


def command() -> str:
    """What this process was started with, without passwords."""
    program = Path(sys.argv[0]).name if sys.argv and sys.argv[0] else "python"
    return printable(redacted(shlex.join([program, *sys.argv[1:]])))


@cache
def commit() -> str:
    """The commit of this package's checkout; `+changes` where it was changed since."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return "unknown"
    try:
        described = _git(here, "rev-parse", "HEAD"), _git(here, "status", "--porcelain", "-uno")
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return described[0] + ("+changes" if described[1] else "")


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments],
        capture_output=True,
        text=True,
        timeout=10,
        check=True,
    )
    return done.stdout.strip()
