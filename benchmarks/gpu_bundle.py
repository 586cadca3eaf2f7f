"""Collect what a bare GPU machine needs: this commit, wheels of what is missing there, a script.

    python benchmarks/gpu_bundle.py [--images ARCHIVE] [--out gpu-bundle.tar]

The machine has Python 3.12, torch 2.11 or 2.12, numpy, Pillow, and no network; docs/gpu.md.
"""

import argparse
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

PACKAGES = ("pydantic>=2.10", "tomli-w>=1.1", "rich>=13.9", "pytest>=9,<10", "pytest-timeout>=2.4")
PACKAGES += ("hypothesis>=6.100",)
MOST_BYTES = 60 * 2**20
ROOT = Path(__file__).resolve().parent.parent
SCRIPT = """#!/usr/bin/env bash
# Tests, then figures, into the folder $1; seven minutes at most.
set -uo pipefail
cd "$(dirname "$0")"
out=$(mkdir -p "$1" && cd "$1" && pwd)
python3 -m pip install --quiet --no-deps --target packages wheels/*.whl
export PYTHONPATH="$PWD/packages:$PWD/dsaccel"
cd dsaccel
timeout 90 python3 -m pytest -m gpu {tests} 2>&1 | tee "$out/tests.txt"
timeout 310 python3 benchmarks/gpu.py --seconds 300 --out-dir "$out" 2>&1 | tee "$out/figures.txt"
"""
TESTS = "tests/test_gpu.py tests/test_memory.py"


def main() -> int:
    """Write the bundle; 1 if it is too large."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--images", type=Path, help="an archive of images to carry along")
    parser.add_argument("--out", type=Path, default=ROOT / "gpu-bundle.tar")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "bundle"
        _collect(bundle)
        with tarfile.open(options.out, "w") as archive:
            archive.add(bundle, "gpu-bundle")
            if options.images:
                archive.add(options.images, f"gpu-bundle/{options.images.name}")
    size = options.out.stat().st_size
    print(f"{options.out}: {size / 2**20:.1f} MiB")
    if size > MOST_BYTES:
        print(f"it must be at most {MOST_BYTES // 2**20} MiB: carry fewer images", file=sys.stderr)
    return int(size > MOST_BYTES)


def _collect(bundle: Path) -> None:
    bundle.mkdir()
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--python-version", "3.12"]
    wheels = ["--only-binary=:all:", "--dest", str(bundle / "wheels")]
    subprocess.run([*pip, *wheels, *PACKAGES], check=True)
    git = ["git", "-C", str(ROOT), "archive", "--prefix", "dsaccel/", "HEAD"]
    checkout = bundle / "dsaccel.tar"
    with checkout.open("wb") as file:
        subprocess.run(git, check=True, stdout=file)
    with tarfile.open(checkout) as archive:
        archive.extractall(bundle, filter="data")
    checkout.unlink()
    script = bundle / "run.sh"
    script.write_text(SCRIPT.format(tests=TESTS), encoding="utf-8")
    script.chmod(0o755)


if __name__ == "__main__":
    sys.exit(main())
