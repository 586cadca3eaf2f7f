"""Does this code compute what an earlier commit computed? Both run here, compared bit by bit.

    python benchmarks/compare.py [--only tpe confirm] [--full] [--keep FOLDER] [--json FILE]
    python benchmarks/compare.py --step [--rounds 15] [--batch-size 32]

Each side is a checkout in processes of its own (`sides.py`). The exit code is 1 if anything
differs. Block counts may: their meaning has changed. With `--step` a training step of both is
timed instead, and the exit code is 1 if the new one takes more than 3 % longer (processor time).
"""

import argparse
import hashlib
import json
import resource
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import measure
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file
from sides import Facts, Side, flatten, read_study, read_table

ROOT = Path(__file__).parent.parent
BASE = "40dfe5e"
SLOWEST = 1.03
"""The longest that a step may take, in units of the base's."""
SHOWN = 5
"""Differences of a part that are shown."""
DOCUMENTS = ("best.toml", "printed")
"""New facts may join these: old keys alone are compared."""
BLOCKS = {"blocks", "blocks_share", "blocks_trained", "blocks_separate"}

SEARCHES = {
    "digits": "--set budget.baseline=true",
    "tpe": "--space digits --strategy tpe --n-trials 16 --cohort-size 4",
    "sequential": "--schedule sequential --epochs 2",
    "beam": "--schedule sequential --epochs 2 --strategy beam --set budget.beam_width=2",
    "parts": "--set runtime.memory_mib=9",
    "settings": "--space settings.toml --strategy tpe --n-trials 14 --cohort-size 3",
    "optuna": "--strategy random --n-trials 8 --cohort-size 4 --pruning MedianPruner"
    " --set 'pruning.options={n_startup_trials=2}'",
    "against": "--strategy nsga2 --against gap --n-trials 8 --cohort-size 2 --pruning none",
}
"""Parts that are one search, by the options beside the small ones."""
RESUMED = "--set pruning.grace_epochs=1 --set pruning.reduction_factor=3"
"""Pruned after epochs 1 and 3, and killed after 2."""
TRAINED = (
    "1-1-2 --family resnet18 --set network.beta=0.9 --set network.decoder_size=64",
    "1-1-1 --family resnet50 --mode global --dropout 0.1",
    "1-1-1-1 --family vgg8b --loss pred --precision bf16",
    "1-1-1-1-1 --family vgg --loss mse --granularity stage",
    "2-1-1 --family resnet34 --loss sim --schedule sequential --set network.first_loss=2",
)
REPLAYED = {
    "cifar10-resnet18": (
        "none",
        "halving --grace-epochs 3",
        "halving --grace-epochs 3 --prune-by output",
        "MedianPruner",
    ),
    "cifar10-resnet18-sequential": ("none --strategy beam", "none", "halving", "MedianPruner"),
}
"""By landscape, who goes on."""
ENDS = (".low", ".high")
"""Of intervals, which may be made in another way."""


def searched(options: str) -> Callable[[Side], Facts]:
    return lambda side: side.search(options) | read_study(side)


def digits(side: Side) -> Facts:
    """The shipped study or a small one, and a config of another hierarchy than its best."""
    if side.full:
        facts = side.dsaccel("search digits --study-name s --threads 1")
    else:
        facts = side.search(SEARCHES["digits"])
    side.run("-m", "dsaccel", "export", "s", "--hierarchy", "1-1-3", "-o", "other.toml")
    other = tomllib.loads((side.folder / "other.toml").read_text(encoding="utf-8"))
    return facts | read_study(side) | flatten(other, "best.toml.other")


def resumed(side: Side) -> Facts:
    """Stopped by its time limit after an epoch, then killed after another, then finished."""
    side.search(f"{RESUMED} --timeout 0.01")
    side.kill_search(RESUMED, step=2)
    return side.search(RESUMED) | read_study(side)


def landscape(side: Side) -> Facts:
    side.search("--pruning none")
    side.run("-m", "dsaccel", "landscape", "s", "-o", "landscape.csv")
    return read_table(side.folder / "landscape.csv", ["hierarchy", "epoch", "head"])


def confirm(side: Side) -> Facts:
    side.search("--pruning none --strategy random --n-trials 4")
    return side.dsaccel("confirm s --top 2 --seeds 2 --tuning-trials 2")


def train(side: Side) -> Facts:
    """Networks of several families and losses, with a hash of each of their tensors."""
    facts: Facts = {}
    small = "--data digits --train-images 96 --epochs 2 --batch-size 32 --width 0.125 --threads 1"
    for number, network in enumerate(TRAINED, 1):
        printed = side.dsaccel(f"train {network} {small} -o {number}.safetensors")
        facts |= {f"{key} of {network}": text for key, text in printed.items()}
        for name, tensor in load_file(side.folder / f"{number}.safetensors").items():
            digest = hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()
            facts[f"weights of {network}: {name}"] = f"{tensor.dtype} {digest[:16]}"
    return facts


def replay(side: Side) -> Facts:
    """48 replays and a beam's, three seeds each: what is found, on the shipped landscapes."""
    facts: Facts = {}
    for name, policies in REPLAYED.items():
        file = side.checkout / "studies/landscapes" / f"{name}.csv.gz"
        for policy in policies:
            printed = side.dsaccel(
                f"replay {file} --strategy tpe,random,exhaustive --pruning {policy} --seeds 3"
                " --n-trials 24 --cohort-size 4,9 --beam-width 1,2,4 --jobs 1"
            )
            means = {key: text for key, text in printed.items() if not key.endswith(ENDS)}
            facts |= {f"{key} of {name}, {policy}": text for key, text in means.items()}
    return facts


PARTS: dict[str, Callable[[Side], Facts]] = {name: searched(o) for name, o in SEARCHES.items()}
PARTS |= {f.__name__: f for f in (digits, resumed, landscape, confirm, train, replay)}


def compare(old: Facts, new: Facts) -> tuple[list[str], list[str]]:
    """The differences that count, and those of block counts."""
    counted, blocks = [], []
    for key in old | new:
        a, b = old.get(key, "missing"), new.get(key, "missing")
        is_added = key not in old and key.startswith(DOCUMENTS)
        if a == b or is_added:
            continue
        is_blocks = not BLOCKS.isdisjoint(key.replace(" ", ".").split("."))
        (blocks if is_blocks else counted).append(f"{key}: {a} -> {b}")
    return counted, blocks


def read_side(part: str, side: Side) -> tuple[Facts, float]:
    """What a part says of a side, and its processor seconds; a failure is equal to nothing."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    try:
        facts = PARTS[part](side) or {"nothing was read of": str(side.checkout)}
    except Exception as error:  # of whatever kind: the other parts go on
        facts = {f"failed: {side.checkout}": f"{type(error).__name__}: {error}"}
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return facts, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def kept(part: str, side: Side, folder: Path | None, commit: str) -> tuple[Facts, float]:
    """What a part says of the base, which is read once for all runs that keep it in a folder."""
    if folder is None:
        return read_side(part, side)
    sources = b"".join(Path(__file__).with_name(n).read_bytes() for n in ("compare.py", "sides.py"))
    digest = hashlib.sha256(sources + repr((commit, side.full)).encode()).hexdigest()
    file = folder / f"{part}-{digest[:16]}.json"
    if file.is_file():
        return json.loads(file.read_text(encoding="utf-8")), 0.0
    facts, seconds = read_side(part, side)
    if not any(key.startswith("failed") for key in facts):
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(facts), encoding="utf-8")
    return facts, seconds


def compare_parts(options: argparse.Namespace, old: Path, folder: Path) -> dict[str, Any]:
    """Run the parts one after another; a record of each."""
    records: dict[str, Any] = {}
    table = Table("part", title=f"{options.code} against {options.base}")
    for heading in ("values", "differ", "block counts differ", "old, cpu s", "new, cpu s"):
        table.add_column(heading, justify="right")
    for part in options.only or PARTS:
        sides = [
            Side(checkout, folder / name / part, full=options.full)
            for name, checkout in (("old", old), ("new", options.code))
        ]
        old_facts, old_s = kept(part, sides[0], options.keep, options.base)
        new_facts, new_s = read_side(part, sides[1])
        differences, blocks = compare(old_facts, new_facts)
        figures = (len(old_facts), len(differences), len(blocks))
        table.add_row(part, *map(str, figures), f"{old_s:.0f}", f"{new_s:.0f}")
        for line in [
            f"{part}: {len(differences)} of {len(old_facts)} differ",
            *differences[:SHOWN],
        ]:
            print(line, file=sys.stderr, flush=True)
        records[part] = {"num_values": len(old_facts), "differences": differences}
        records[part] |= {"block_counts": blocks, "old_cpu_s": old_s, "new_cpu_s": new_s}
    Console().print(table)
    return records


STEP = """
import sys, measure, step
def serve(sides, **_):
    (side,) = sides.values()
    for _ in sys.stdin:
        run = measure.time_once(side)
        print(run.wall_s, run.cpu_s, run.page_faults, flush=True)
    raise SystemExit
measure.interleave = serve
step.main()
"""
"""Each side's own `step.py`, whose step is timed whenever a line asks for it."""


def compare_steps(options: argparse.Namespace, old: Path, folder: Path) -> dict[str, Any]:
    """Time a step of both, round by round, each in a process that waits in between."""
    arguments = ["--network", options.network, "--batch-size", str(options.batch_size)]
    processes = {}
    for name, checkout in (("new", options.code), ("old", old)):
        side, path = Side(checkout, folder / name / "step"), str(checkout / "benchmarks")
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        processes[name] = side.start("-c", STEP, *arguments, path=path, **pipes)

    runs: measure.Runs = {"new": [], "old": []}
    for number in range(-1, options.rounds):  # the first round is not counted
        for name in list(runs)[:: 1 if number % 2 else -1]:
            run = ask(processes[name])
            if number >= 0:
                runs[name].append(run)
    for process in processes.values():
        process.communicate()
    Console().print(measure.table(f"A step of {options.network}", runs))
    ratio = measure.ratio(runs["new"], runs["old"], "cpu_s")
    print(f"new / old, processor time: {ratio}; at most {SLOWEST}")
    slower = [f"{ratio} times as long"] if ratio.ratio > SLOWEST else []
    return {"step": {"differences": slower, **measure.record(runs)}}


def ask(process: subprocess.Popen[str]) -> measure.Run:
    """Have one step timed."""
    assert process.stdin is not None
    assert process.stdout is not None
    print(file=process.stdin, flush=True)
    wall, cpu, faults = process.stdout.readline().split()
    return measure.Run(float(wall), float(cpu), int(faults))


def check_out(commit: str, folder: Path) -> Path:
    """The files of a commit."""
    archive = folder / "base.tar"
    git = ["git", "-C", str(ROOT), "archive", "--output", str(archive), commit]
    subprocess.run(git, check=True)
    with tarfile.open(archive) as files:
        files.extractall(folder / "base", filter="data")
    return folder / "base"


def main() -> int:
    options = parse()
    environment = measure.environment()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        old = check_out(options.base, folder)
        for number, checkout in enumerate((old, options.code)):
            side = Side(checkout, folder / f"imports {number}")
            place = side.run("-c", "import dsaccel; print(dsaccel.__file__)")
            if not Path(place).is_relative_to(checkout):
                sys.exit(f"{checkout} must run its own package, but imports {place}")
        records = (compare_steps if options.step else compare_parts)(options, old, folder)
    if options.json:
        record = {"base": options.base, "environment": environment, "parts": records}
        text = json.dumps(record, indent=1, default=vars)
        options.json.write_text(text + "\n", encoding="utf-8")
    return int(any(record["differences"] for record in records.values()))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--base", default=BASE, metavar="COMMIT", help="what it is compared with")
    parser.add_argument("--code", default=ROOT, type=Path, help="a checkout; default: this one")
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--full", action="store_true", help="the digits study as it is shipped")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the base's results here")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all differences")
    parser.add_argument("--step", action="store_true", help="time a training step instead")
    parser.add_argument("--network", default="resnet18")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    options.code = options.code.resolve()
    return options


if __name__ == "__main__":
    sys.exit(main())
