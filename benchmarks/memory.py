"""How much memory layer-wise training takes, against back-propagation through the same network.

One training step each, measured (every allocation of a tensor) and estimated from the plan.

    python benchmarks/memory.py [--batch 128] [--width 1] [--device cpu] [--out FILE]

*Activations* are the peak less parameters, gradients and optimizer state. How many gradients there
are at the peak is not measured: under back-propagation those of all parameters are taken off, under
layer-wise training none, so that the ratio is a lower bound.
"""

import argparse
import importlib.metadata
import json
import platform
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console
from rich.table import Table

from dsaccel.config.study import NetworkConfig, TrainingConfig
from dsaccel.families import build_plan
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.plan import Plan
from dsaccel.spec.trie import Trie
from dsaccel.training.descent import train_batch
from dsaccel.training.learner import Learner
from dsaccel.training.memory import estimate
from dsaccel.training.meter import Machine, peak_bytes

Side = Literal["layer-wise", "global", "checkpointed"]
MIB = 2**20
RESULTS = Path(__file__).parent / "results"
CHANNELS, SIDE, NUM_CLASSES = 3, 32, 10
NETWORKS: dict[str, tuple[str, str, dict[str, Any], Literal["fp32", "bf16"], bool]] = {
    "resnet18": ("resnet18", "2-2-2-2", {"dropout": 0.3}, "fp32", True),
    "resnet18-bf16": ("resnet18", "2-2-2-2", {"dropout": 0.3}, "bf16", False),
    "resnet18-no-dropout": ("resnet18", "2-2-2-2", {}, "fp32", False),
    "resnet18-sim1": ("resnet18", "2-2-2-2", {"sim_kernel": 1}, "fp32", False),
    "vgg8b": ("vgg8b", "2-2-1-1", {"dropout": 0.2}, "fp32", False),
    "resnet50-sim1": ("resnet50", "3-4-6-3", {"dropout": 0.3, "sim_kernel": 1}, "fp32", False),
    "resnet50": ("resnet50", "3-4-6-3", {"dropout": 0.3}, "fp32", False),
}
"""Family, hierarchy, network settings, precision, and whether steps are timed on a CPU too."""


@dataclass(frozen=True)
class Row:
    """One network, trained one way; in MiB, per step of a batch."""

    family: str
    hierarchy: str
    settings: dict[str, Any]
    side: Side
    precision: str
    parameters_mib: float
    optimizer_mib: float
    peak_mib: float
    """Beside parameters and optimizer state."""
    activations_mib: float
    """The peak, less all gradients under back-propagation."""
    total_mib: float
    """Peak with parameters and optimizer state."""
    estimated_total_mib: float
    """Known before training."""
    step_s: float | None
    """Processor time (CUDA: time) of a step without the meter; None: not taken."""


class Measured:
    """A network ready to be stepped."""

    def __init__(
        self, plan: Plan, training: TrainingConfig, device: torch.device, side: int = SIDE
    ) -> None:
        self.device = device
        self.trie = Trie({plan.hierarchy: plan})
        self.learners = {
            node: Learner(node.segment, training, seed=1, device=device)
            for node in self.trie.nodes()
        }
        for learner in self.learners.values():
            learner.start_epoch(1)
        generator = torch.Generator().manual_seed(0)
        shape = (training.batch_size, CHANNELS, side, side)
        images = torch.randn(shape, generator=generator)
        self.x = images.to(device).contiguous(memory_format=torch.channels_last)
        self.y = torch.arange(training.batch_size, device=device) % NUM_CLASSES

    def step(self) -> None:
        train_batch(self.trie.roots, self.learners, self.x, self.y)

    def make_optimizer_state(self) -> None:
        """As a first step would, without its forward and backward pass: gradients of zero."""
        for learner in self.learners.values():
            for unit, adam in zip(learner.units, learner.optimizers, strict=True):
                for parameter in unit.parameters():
                    parameter.grad = torch.zeros_like(parameter)
                adam.step()
                adam.zero_grad(set_to_none=True)

    @property
    def parameter_bytes(self) -> int:
        units = [unit for learner in self.learners.values() for unit in learner.units]
        return sum(t.nbytes for unit in units for t in (*unit.parameters(), *unit.buffers()))

    @property
    def optimizer_bytes(self) -> int:
        adams = [adam for learner in self.learners.values() for adam in learner.optimizers]
        states = [state for adam in adams for state in adam.state.values()]
        return sum(value.nbytes for state in states for value in state.values())


def measure(
    family: str,
    hierarchy: str,
    settings: dict[str, Any],
    side: Side,
    training: TrainingConfig,
    *,
    width: float,
    device: torch.device,
    timed: bool,
) -> Row:
    plan = build_plan(
        family,
        Hierarchy.parse(hierarchy),
        NetworkConfig(width=width, **settings),
        channels=CHANNELS,
        side=SIDE,
        num_classes=NUM_CLASSES,
        mode="local" if side == "layer-wise" else "global",
    )
    training = training.model_copy(update={"recompute": side == "checkpointed"})
    network = Measured(plan, training, device)
    network.make_optimizer_state()
    step_s = _seconds(network.step, device) if timed else None
    peak = peak_bytes(network.step, device) + network.x.nbytes
    held = network.parameter_bytes + network.optimizer_bytes
    gradients = 0 if side == "layer-wise" else 4 * plan.num_parameters_training
    guess = estimate(network.trie, training, machine=Machine.of(device)).total_bytes
    return Row(
        family,
        hierarchy,
        settings,
        side,
        training.precision,
        network.parameter_bytes / MIB,
        network.optimizer_bytes / MIB,
        peak / MIB,
        (peak - gradients) / MIB,
        (held + peak) / MIB,
        guess / MIB,
        step_s,
    )


def _seconds(step: Callable[[], None], device: torch.device) -> float:
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        started = time.perf_counter()
        step()
        torch.cuda.synchronize(device)
        return time.perf_counter() - started
    started = time.process_time()
    step()
    return time.process_time() - started


def networks_table(rows: list[Row]) -> Table:
    table = Table(title="peak of one step, MiB")
    for name in ("network", "", "parameters", "Adam", "activations", "less", "total", "less"):
        table.add_column(name, justify="left" if name in ("network", "") else "right")
    table.add_column("estimate / measured", justify="right")
    table.add_column("step, s", justify="right")
    base: Row | None = None
    for row in rows:
        if row.side == "global":
            base = row
        assert base is not None
        settings = "".join(f" {key}={value}" for key, value in row.settings.items())
        guess = row.estimated_total_mib
        table.add_row(
            f"{row.family} {row.hierarchy}{settings} {row.precision}",
            row.side,
            f"{row.parameters_mib:.0f}",
            f"{row.optimizer_mib:.0f}",
            f"{row.activations_mib:.0f}",
            f"{base.activations_mib / row.activations_mib:.2f}x",
            f"{row.total_mib:.0f}",
            f"{base.total_mib / row.total_mib:.2f}x",
            f"{guess / row.total_mib:.3f}",
            "" if row.step_s is None else f"{row.step_s:.2f}",
        )
    return table


def depths_table(rows: list[Row], batch: int) -> Table:
    table = Table(title=f"activations by depth, MiB, batch {batch}")
    table.add_column("ResNet18")
    for side in ("layer-wise", "global"):
        table.add_column(side, justify="right")
    for row, other in zip(rows[::2], rows[1::2], strict=True):
        table.add_row(row.hierarchy, f"{row.activations_mib:.1f}", f"{other.activations_mib:.1f}")
    return table


def environment(device: torch.device) -> dict[str, Any]:
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    is_cuda = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if is_cuda else _processor(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": importlib.metadata.version("torch"),
        "commit": subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--depth-batch", type=int, default=16)
    parser.add_argument("--depths", type=int, nargs="*", default=[1, 2, 3, 4])
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=RESULTS / "memory.json")
    args = parser.parse_args()
    device = torch.device(args.device)
    torch.set_num_threads(1)
    rows: list[Row] = []
    depths: list[Row] = []

    def write() -> None:
        result = {
            "environment": environment(device),
            "batch": args.batch,
            "width": args.width,
            "networks": [asdict(row) for row in rows],
            "depth_batch": args.depth_batch,
            "depths": [asdict(row) for row in depths],
        }
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")

    training = TrainingConfig(batch_size=args.depth_batch)
    for hierarchy in (f"{n}-{n}-{n}-{n}" for n in args.depths):
        for side in ("layer-wise", "global"):
            network = ("resnet18", hierarchy, {}, side, training)
            depths.append(measure(*network, width=args.width, device=device, timed=False))
            write()
    for name in args.networks:
        family, hierarchy, settings, precision, timed = NETWORKS[name]
        training = TrainingConfig(batch_size=args.batch, precision=precision)
        timed = timed or device.type == "cuda"
        for side in ("global", "layer-wise", "checkpointed"):
            network = (family, hierarchy, settings, side, training)
            rows.append(measure(*network, width=args.width, device=device, timed=timed))
            write()
    console = Console(width=130)
    console.print(networks_table(rows))
    console.print(depths_table(depths, args.depth_batch))


if __name__ == "__main__":
    main()
