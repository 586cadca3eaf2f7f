"""What several workers give, measured and modelled.

    python benchmarks/workers.py model [--svg FILE]      4x(1..4) on 2 to 1,000 devices: a MODEL
    python benchmarks/workers.py overhead                of the driver, a rung, with 8 stub workers
    python benchmarks/workers.py search [--data FOLDER]  2 workers against one process, interleaved
    python benchmarks/workers.py killed [--data FOLDER]  each worker killed once, against none
    python benchmarks/workers.py confirm [--data FOLDER] 2 workers against one process

The last three need two idle cores. One thread a worker, 81 hierarchies of ResNet18 at width 1/8.
"""

import argparse
import itertools
import json
import math
import os
import pickle
import shutil
import signal
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

import dsaccel
from dsaccel.config.study import NetworkConfig, PruningConfig, TrainingConfig
from dsaccel.executors.local import ProcessWorker
from dsaccel.families import build_plan
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.rung import Read, Rung
from dsaccel.spec.trie import Node, Trie
from dsaccel.training.cut import balanced, costliest
from dsaccel.training.learner import Learner
from dsaccel.training.learner_files import write_learners
from dsaccel.training.part import PartResult
from dsaccel.training.parts import SplitCohort
from dsaccel.training.team import Team

RESULTS = Path(__file__).parent / "results"
LANDSCAPE = Path(__file__).parents[1] / "studies/landscapes/cifar10-resnet18.csv.gz"
DEVICES = (2, 4, 8, 16, 64, 1000)
BATCH, SIDE, TIMES = 32, 32, 3


def networks(most: int) -> dict[Hierarchy, Any]:
    blocks = itertools.product(range(1, most + 1), repeat=4)
    network, training = NetworkConfig(width=1 / 8), TrainingConfig(batch_size=BATCH)
    images: dict[str, Any] = {"channels": 3, "side": SIDE, "num_classes": 10}
    return {
        h: build_plan("resnet18", h, network, training, **images) for h in map(Hierarchy, blocks)
    }


# ---------------------------------------------------------------------- the model


def block_times(trie: Trie) -> dict[Node, float]:
    """The least seconds of a training step of each node, by its segment."""
    torch.set_num_threads(1)
    training, labels = TrainingConfig(batch_size=BATCH), torch.arange(BATCH) % 10
    measured: dict[Any, tuple[float, torch.Tensor]] = {}
    inputs: dict[Node, torch.Tensor] = {}
    times: dict[Node, float] = {}
    for node in trie.nodes():
        below = torch.randn(BATCH, 3, SIDE, SIDE) if node.parent is None else inputs[node.parent]
        if node.segment not in measured:
            learner = Learner(node.segment, training, seed=1, device=torch.device("cpu"))
            learner.start_epoch(1)
            seconds, features = [], below
            for _ in range(TIMES):
                started = time.process_time()
                features = learner.step(below, labels)
                seconds.append(time.process_time() - started)
            measured[node.segment] = min(seconds), features
        times[node], inputs[node] = measured[node.segment]
    return times


def model() -> dict[str, Any]:
    """Speed-up of an epoch, by parts and (on paper) if features were passed on."""
    plans = networks(4)
    trie = Trie(plans)
    times = block_times(trie)
    paths = {h: trie.path(h) for h in plans}
    total = sum(times.values())
    rows = []
    for num in DEVICES:
        cut = balanced(trie, sorted(plans), times, num)
        slowest = costliest(cut, paths, times)
        in_parts = sum(costliest([part], paths, times) for part in cut)
        passed_on = max(total / num, max(times.values()))
        rows.append(
            {
                "devices": num,
                "by parts": total / slowest,
                "work": in_parts / total,
                "features passed on": total / passed_on,
            }
        )
    longest = max(sum(times[node] for node in path) for path in paths.values())
    sharing = trie.blocks_separate / trie.blocks_trained
    by_four = next(row["by parts"] for row in rows if row["devices"] == 4)
    pruned, lost = pruning()
    factors = {"sharing": sharing, "pruning": pruned, "4 devices": by_four}
    return {
        "rows": rows,
        "bound": total / longest,
        "factors": factors,
        "product": math.prod(factors.values()),
        "accuracy lost by pruning": lost,
    }


def pruning() -> tuple[float, float]:
    """How many times fewer blocks pruning by halving trains, and the accuracy that it loses: means
    over the seeds of the shipped landscape of 81 hierarchies.
    """
    # here: each worker process imports this file first
    from dsaccel.analysis.landscape_files import read_landscape
    from dsaccel.analysis.replay import Oracle, Policy, Replay

    oracle = Oracle(read_landscape(LANDSCAPE))
    everything = len(oracle.landscape.networks)
    policy = Policy("exhaustive", everything, everything, PruningConfig())
    ends = [list(Replay(oracle, policy, seed).marks())[-1] for seed in oracle.seeds]
    blocks = statistics.mean(end.blocks for end in ends)
    return oracle.num_blocks / blocks, statistics.mean(end.regret for end in ends)


LINES = {"by parts": "#0072B2", "features passed on": "#E69F00"}


def draw(found: Mapping[str, Any], path: Path) -> None:
    """Devices and speed-up, both on logarithmic axes, as SVG."""
    width, height, edge = 560, 360, 50

    def at(devices: float, ratio: float) -> str:
        x = edge + (width - 2 * edge) * math.log(devices) / math.log(1000)
        y = height - edge - (height - 2 * edge) * math.log(ratio) / math.log(200)
        return f"{x:.1f},{y:.1f}"

    def text(place: str, words: str, color: str = "#1f2933") -> str:
        x, y = place.split(",")
        return f'<text x="{x}" y="{y}" fill="{color}">{words}</text>'

    parts = [text(f"{edge},24", "4x(1..4), an epoch: a MODEL from measured block times")]
    for devices in (1, *DEVICES):
        x = at(devices, 1).split(",")[0]
        parts.append(text(f"{x},{height - edge + 18}", f"{devices:,}"))
    for ratio in (1, 10, 100):
        y = at(1, ratio).split(",")[1]
        parts.append(f'<path d="M{edge},{y} H{width - edge}" stroke="#d5dbe1"/>')
        parts.append(text(f"8,{y}", f"{ratio}x"))
    parts.append(text(f"{width / 2},{height - 12}", "devices"))
    for name, color in LINES.items():
        places = [at(1, 1), *(at(row["devices"], row[name]) for row in found["rows"])]
        path_ = " L".join(places)
        parts.append(f'<path d="M{path_}" fill="none" stroke="{color}" stroke-width="2"/>')
        label = name if name == "by parts" else f"{name} (on paper)"
        parts.append(text(at(80, 12) if name == "by parts" else at(4, 60), label, color))
    factors = ", ".join(f"{name} {ratio:.1f}x" for name, ratio in found["factors"].items())
    whole = f"{factors}: together {found['product']:.0f}x"
    parts.append(text(f"{edge},44", whole))
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    style = 'font-family="sans-serif" font-size="13"'
    body = "\n".join(parts)
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>\n'
        f'<rect width="100%" height="100%" fill="white"/>\n{body}\n</svg>\n',
        encoding="utf-8",
    )


# ---------------------------------------------------------------------- the driver


class Stub:
    """Answers at once; what a driver sends and gets is pickled as for a process."""

    lost: tuple[type[BaseException], ...] = ()

    def __init__(self, name: str, file: tuple[str, str]) -> None:
        self.name, self.file = name, file

    def submit(self, function: Any, argument: Any) -> Future[Any]:
        pickle.dumps((function, argument))  # reading it is the worker's business
        task = argument
        heads = tuple(n / 20 for n in range(20))
        read = {
            h: Read(heads, {"head": 0.5, "layer": 0.5, "ensemble": 0.5}, 0.5) for h in task.plans
        }
        numbers = {number for path in task.numbers.values() for number in path}
        files = dict.fromkeys(numbers, self.file)
        result = PartResult((Rung(task.stop, read),), Fraction(1), 1e9, task.stop, files, {})
        done: Future[Any] = Future()
        done.set_result(pickle.loads(pickle.dumps(result)))
        return done

    def is_alive(self) -> bool:
        return True

    def renew(self) -> bool:
        return False

    def leave(self) -> None:
        pass

    stop = leave


def overhead(num_workers: int = 8, epochs: int = 20) -> dict[str, float]:
    """Processor seconds of the driver a rung: to cut, send, merge and save a checkpoint."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        file = write_learners(folder / "stub.pt", {})
        team = Team([Stub(f"stub {n}", file) for n in range(num_workers)])
        training = TrainingConfig(batch_size=BATCH, epochs=epochs)
        run = SplitCohort(
            networks(3),
            training,
            _NoImages(),
            seed=1,
            device=torch.device("cpu"),
            fits=lambda _: True,
            stops=range(epochs),
            folder=folder,
            team=team,
        )
        started, seconds = time.process_time(), []
        for _ in run.rungs():
            pickle.dumps(run.state_dict())
            seconds.append(time.process_time() - started)
            started = time.process_time()
    return {"first rung": seconds[0], "each rung": statistics.median(seconds[1:])}


class _NoImages:
    """What stubs train on."""

    def train_batches(self, epoch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        return iter(())

    def val_batches(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        return iter(())


# ---------------------------------------------------------------------- measured


def study(data: str, folder: Path, workers: int | None, args: argparse.Namespace) -> dsaccel.Study:
    most = args.blocks
    tables = {
        "space": {"family": "resnet18", "num_blocks": [[1, most]] * 4, "constraint": "none"},
        "data": {"name": data, "train_images": args.images},
        "network": {"width": 1 / 8},
        "training": {"epochs": args.epochs, "batch_size": 128},
        "pruning": {"kind": "none"},
        "budget": {"n_trials": most**4, "baseline": False},
        "runtime": {"device": "cpu", "threads": 1, "workers": workers},
    }
    return dsaccel.Study.open(tables, folder=folder)


def search(args: argparse.Namespace, *, killed: bool = False) -> dict[str, Any]:
    """Seconds of training and in all, in turn."""
    seconds: dict[str, list[float]] = {}
    workers: list[ProcessWorker] = []
    begin = ProcessWorker.__init__

    def noted(self: ProcessWorker, *given: Any) -> None:
        begin(self, *given)
        workers.append(self)

    ProcessWorker.__init__ = noted  # type: ignore[method-assign]
    sides = {"2 workers": 2, "one process": None}
    if killed:
        sides = {"2 workers, each killed once": 2, "2 workers": 2}
    with tempfile.TemporaryDirectory() as place:
        for turn, (name, num) in itertools.product(range(args.rounds), sides.items()):
            workers.clear()
            folder = Path(place) / f"run-{turn}-{list(sides).index(name)}"
            one = study(args.data, folder, num, args)
            _ = one.engine
            started = time.perf_counter()
            search = one.search()
            if "killed" in name:
                for number, after_s in enumerate(args.kill_after):
                    threading.Timer(after_s, lambda n=number: kill(workers[n])).start()
            for _ in search:
                pass
            seconds.setdefault(name, []).append(time.perf_counter() - started)
    return _ratio(seconds)


def kill(worker: ProcessWorker) -> None:
    """End a worker in the middle of what it does."""
    if worker.pid:
        os.kill(worker.pid, signal.SIGKILL)


def confirm(args: argparse.Namespace) -> dict[str, Any]:
    """Seconds of the confirmation of one search, in turn."""
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as place:
        searched = Path(place) / "searched"
        for _ in study(args.data, searched, None, args).search():
            pass
        for turn, (name, num) in itertools.product(
            range(args.rounds), {"2 workers": 2, "one process": None}.items()
        ):
            folder = Path(place) / f"run-{turn}-{num or 0}"
            shutil.copytree(searched, folder)
            one = study(args.data, folder, None, args)
            started = time.perf_counter()
            for _ in one.confirm(runtime={"workers": num}, top=2, num_seeds=4, tuning_trials=1):
                pass
            seconds.setdefault(name, []).append(time.perf_counter() - started)
    return _ratio(seconds)


def _ratio(seconds: Mapping[str, list[float]]) -> dict[str, Any]:
    (one, _), (other, _) = seconds.items()
    ratios = [b / a for a, b in zip(*seconds.values(), strict=True)]
    return {"seconds": seconds, f"{other} / {one}": statistics.median(ratios), "all": ratios}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("model", "overhead", "search", "killed", "confirm"))
    parser.add_argument("--data", default="digits")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--blocks", type=int, default=3, help="at most, a stage")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--kill-after",
        type=float,
        nargs=2,
        default=(40.0, 110.0),
        help="seconds after which the first and the second worker are killed",
    )
    parser.add_argument("--svg", type=Path)
    args = parser.parse_args()
    if args.what == "model":
        found = model()
        if args.svg:
            draw(found, args.svg)
    elif args.what == "overhead":
        found = overhead()
    elif args.what == "confirm":
        found = confirm(args)
    else:
        found = search(args, killed=args.what == "killed")
    print(json.dumps(found, indent=2))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"workers-{args.what}.json").write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
