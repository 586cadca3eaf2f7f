"""Memory against time where activations dominate: layer-wise training and the best checkpointing.

    python benchmarks/front.py [--hierarchy 4-4-4-4] [--side 96] [--width 0.25] [--batch 32]

One network of ResNet18, trained by back-propagation with each kind of checkpointing, and layer-wise
with several cuts, heads and losses, also recomputed. Everything is counted: weights, gradients,
Adam's averages, heads, buffers, activations. Steps are timed in turn, with one thread, and told as
medians.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from memory import MIB, RESULTS, Measured, environment
from rich.console import Console
from rich.table import Table

from dsaccel.config.study import NetworkConfig, TrainingConfig
from dsaccel.families import build_plan
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.training.meter import peak_bytes

K2 = ("none", "none", "stage", "none", "none")
K4 = ("stage", "stage", "stage", "none", "none")
KINDS = (False, "block", "stage", "nested")
HALF, QUARTER = (
    {"head": "tail", "head_options": {"ratio": 0.5}},
    {"head": "tail", "head_options": {"ratio": 0.25}},
)
ARMS: dict[str, dict[str, Any]] = {
    "conv predsim (the paper's)": {"loss": "predsim"},
    "conv pred": {"loss": "pred"},
    "block pred": {"granularity": "block", "loss": "pred"},
    "block gap": {"granularity": "block", "loss": "pred", "head": "gap"},
    "block tail 1/4": {"granularity": "block", "loss": "pred"} | QUARTER,
    "block tail 1/2": {"granularity": "block", "loss": "pred"} | HALF,
    "stage tail 1/4": {"granularity": "stage", "loss": "pred"} | QUARTER,
    "K4 tail 1/4": {"granularity": K4, "loss": "pred"} | QUARTER,
    "K2 tail 1/4": {"granularity": K2, "loss": "pred"} | QUARTER,
    "K2 tail 1/2": {"granularity": K2, "loss": "pred"} | HALF,
}


class Arm:
    """A network, trained one way."""

    def __init__(
        self, name: str, network: dict[str, Any], recompute: Any, args: argparse.Namespace
    ) -> None:
        self.name, self.recompute = name, recompute
        training = TrainingConfig(batch_size=args.batch, recompute=recompute)
        plan = build_plan(
            "resnet18",
            Hierarchy.parse(args.hierarchy),
            NetworkConfig(width=args.width, **network),
            channels=3,
            side=args.side,
            num_classes=10,
            mode="local" if network else "global",
        )
        self.network = Measured(plan, training, torch.device("cpu"), args.side)
        self.network.make_optimizer_state()
        held = self.network.parameter_bytes + self.network.optimizer_bytes
        self.bytes = peak_bytes(self.network.step, torch.device("cpu")) + held
        self.seconds: list[float] = []

    def step(self) -> None:
        started = time.process_time()
        self.network.step()
        self.seconds.append(time.process_time() - started)

    def row(self) -> dict[str, Any]:
        return {
            "arm": self.name,
            "recompute": self.recompute,
            "mib": self.bytes / MIB,
            "step_s": statistics.median(self.seconds),
            "n": len(self.seconds),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--hierarchy", default="4-4-4-4")
    parser.add_argument("--side", type=int, default=96)
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS / "front.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    arms = [Arm("back-propagation", {}, kind, args) for kind in KINDS]
    for name, network in ARMS.items():
        cuts = network.get("granularity", "conv")
        # a unit of one convolution or block has nothing to recompute beyond its own input
        kinds = (False,) if cuts == "conv" else KINDS[:2] if cuts == "block" else KINDS
        arms += [Arm(name, network, kind, args) for kind in kinds]
    for _ in range(args.rounds):
        for arm in arms:
            arm.step()
    rows = [arm.row() for arm in arms]
    best = min((row for row in rows if row["arm"] == "back-propagation"), key=lambda r: r["mib"])
    size = f"{args.hierarchy}, {args.side} px, width {args.width:g}, batch {args.batch}"
    table = Table(title=f"one step of ResNet18 {size}")
    for name in ("", "recomputed", "MiB", "of the best checkpointing", "step, s", "of its step"):
        table.add_column(name)
    for row in rows:
        ratios = row["mib"] / best["mib"], row["step_s"] / best["step_s"]
        row |= {"memory_ratio": ratios[0], "time_ratio": ratios[1]}
        table.add_row(
            *(row["arm"], str(row["recompute"] or "-"), f"{row['mib']:.0f}", f"{ratios[0]:.2f}x"),
            *(f"{row['step_s']:.2f}", f"{ratios[1]:.2f}x"),
        )
    asked = {name: getattr(args, name) for name in ("hierarchy", "side", "width", "batch")}
    found = {"environment": environment(torch.device("cpu")), **asked, "rows": rows}
    args.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
