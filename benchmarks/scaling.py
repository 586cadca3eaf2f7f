"""How time and memory grow with the space, the images and the batch: a training step of a trie.

    python benchmarks/scaling.py --rounds 3

Three sweeps from one middle point, ResNet18 with `predsim` on every convolution: the space 4x(1..n)
of n^4 hierarchies, the side of the images, the batch. Time is processor time of a step, the median
over rounds that take all points in turn. Memory is the peak of a step with parameters and Adam's
averages: estimated from the plan, and for tries of few nodes measured by the record of all
allocations, which takes minutes for hundreds of nodes. The page
`docs/scaling.html` draws all of it on logarithmic axes.
"""

import argparse
import itertools
import math
from dataclasses import dataclass, replace
from pathlib import Path

import measure
import plotly.graph_objects as go
import torch
from flops import trie_flops
from plotly.subplots import make_subplots
from rich.console import Console
from step import CHANNELS, NUM_CLASSES, recipe

from dsaccel.config.study import TrainingConfig
from dsaccel.families import build_plan
from dsaccel.report.page import Section, write_page
from dsaccel.report.table import Table
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.trie import Trie
from dsaccel.training.descent import train_batch
from dsaccel.training.learner import Learner
from dsaccel.training.memory import estimate
from dsaccel.training.meter import Machine, peak_bytes

MIB = 2**20
DOCS = Path(__file__).parent.parent / "docs"
INK, BLUE, ORANGE = "#1f2933", "#0072B2", "#E69F00"


@dataclass(frozen=True)
class Point:
    """What is trained."""

    blocks: int
    """Most blocks of each of 4 stages."""
    side: int
    batch_size: int


@dataclass(frozen=True)
class Row:
    """What a step of it takes."""

    sweep: str
    point: Point
    hierarchies: int
    nodes: int
    gflop: float
    """Of a step."""
    step_s: float
    """Processor time."""
    peak_mib: float | None
    """With parameters and optimizer state; None: not measured."""
    estimated_mib: float

    @property
    def cells(self) -> tuple[str, ...]:
        """As a line of a table; the headings are `HEADINGS`."""
        point = self.point
        return (
            self.sweep,
            f"4x(1..{point.blocks})",
            str(point.side),
            str(point.batch_size),
            str(self.hierarchies),
            str(self.nodes),
            f"{1000 * self.step_s:.0f}",
            f"{1000 * self.step_s / self.nodes:.2f}",
            f"{1000 * self.step_s / self.hierarchies:.2f}",
            f"{self.gflop / self.step_s:.1f}",
            f"{self.estimated_mib:.1f}",
            "" if self.peak_mib is None else f"{self.peak_mib:.1f}",
            "" if self.peak_mib is None else f"{self.estimated_mib / self.peak_mib:.3f}",
        )


HEADINGS = (
    "sweep",
    "space",
    "side",
    "batch",
    "hierarchies",
    "nodes",
    "step, ms",
    "a node, ms",
    "a hierarchy, ms",
    "GFLOP/s",
    "estimate, MiB",
    "peak, MiB",
    "estimate / peak",
)


class Network:
    """A point ready to be stepped, its optimizers' state made."""

    def __init__(self, point: Point, width: float) -> None:
        plans = {
            hierarchy: build_plan(
                "resnet18",
                hierarchy,
                recipe("resnet18", width),
                channels=CHANNELS,
                side=point.side,
                num_classes=NUM_CLASSES,
            )
            for hierarchy in map(Hierarchy, itertools.product(range(1, point.blocks + 1), repeat=4))
        }
        self.point = point
        self.num_hierarchies = len(plans)
        self.trie = Trie(plans)
        training = TrainingConfig(batch_size=point.batch_size)
        self.estimate_bytes = estimate(
            self.trie, training, machine=Machine.of(torch.device("cpu"))
        ).total_bytes
        self.learners = {
            node: Learner(node.segment, training, seed=1, device=torch.device("cpu"))
            for node in self.trie.nodes()
        }
        for learner in self.learners.values():
            learner.start_epoch(1)
        x = torch.randn(point.batch_size, CHANNELS, point.side, point.side)
        self.x = x.contiguous(memory_format=torch.channels_last)
        self.y = torch.arange(point.batch_size) % NUM_CLASSES
        self.step()

    def step(self) -> None:
        train_batch(self.trie.roots, self.learners, self.x, self.y)

    def row(self, sweep: str, runs: list[measure.Run], most_nodes: int) -> Row:
        peak_mib = None
        if len(self.learners) <= most_nodes:
            rise = peak_bytes(self.step, torch.device("cpu")) + self.x.nbytes
            peak_mib = (rise + self.held_bytes) / MIB
        return Row(
            sweep=sweep,
            point=self.point,
            hierarchies=self.num_hierarchies,
            nodes=len(self.learners),
            gflop=trie_flops(self.trie) * self.point.batch_size / 1e9,
            step_s=measure.median(runs, "cpu_s"),
            peak_mib=peak_mib,
            estimated_mib=self.estimate_bytes / MIB,
        )

    @property
    def held_bytes(self) -> int:
        """Parameters, running statistics and Adam's averages."""
        learners = self.learners.values()
        units = [unit for learner in learners for unit in learner.units]
        adams = [adam for learner in learners for adam in learner.optimizers]
        states = [state for adam in adams for state in adam.state.values()]
        own = sum(value.nbytes for unit in units for value in unit.state_dict().values())
        return own + sum(value.nbytes for state in states for value in state.values())


def main() -> None:
    """Time all points, print a table, write the figures and the page."""
    options = parse()
    torch.set_num_threads(options.threads)
    environment = measure.environment()
    points = sweeps(Point(2, 16, 32), options.most_blocks)

    networks = {(sweep, point): Network(point, options.width) for sweep, point in points}
    names = {f"{sweep}: {point}": key for key in networks for sweep, point in [key]}
    sides = {name: networks[key].step for name, key in names.items()}
    runs = measure.interleave(sides, rounds=options.rounds, warm_up=1)
    rows = [
        networks[key].row(key[0], runs[name], options.memory_nodes) for name, key in names.items()
    ]

    console = Console(width=150)
    console.print(table(rows))
    growth = {sweep: slopes([row for row in rows if row.sweep == sweep]) for sweep in SWEEPS}
    for sweep, (time, memory) in growth.items():
        console.print(f"{sweep}: time grows as its power {time:.2f}, memory as {memory:.2f}")
    record = {
        "setting": {"network": "resnet18", "width": options.width},
        "environment": environment,
        "growth": growth,
        "rows": rows,
    }
    print(measure.write(options.out, record))
    page = options.page or DOCS / "scaling.html"
    about = f"A training step of ResNet18 at width {options.width:g}, {environment['cpu']}."
    sections = [
        Section(
            "Growth",
            "Processor time of a step, and the peak of its memory with parameters and Adam's "
            "averages. Both axes logarithmic.",
            figure=figure(rows),
            name="scaling",
        ),
        Section("Figures", "A row a point.", table=table(rows)),
    ]
    write_page(page, "Scaling", sections, about=about)
    print(page)


SWEEPS = {"nodes": "nodes of the space", "side": "side of the images", "batch": "batch size"}


def sweeps(middle: Point, most_blocks: int) -> list[tuple[str, Point]]:
    """All points, one thing varied at a time."""
    return [
        *(("nodes", replace(middle, blocks=n)) for n in range(1, most_blocks + 1)),
        *(("side", replace(middle, side=side)) for side in (8, 16, 32, 64)),
        *(("batch", replace(middle, batch_size=size)) for size in (16, 32, 64, 128)),
    ]


def varied(row: Row) -> int:
    """What a row's sweep varies."""
    return {"nodes": row.nodes, "side": row.point.side, "batch": row.point.batch_size}[row.sweep]


def slopes(rows: list[Row]) -> tuple[float, float]:
    """The powers of what is varied as which time and estimated memory grow, first row to last."""
    grown = _log_ratio(varied(rows[0]), varied(rows[-1]))
    first, last = rows[0], rows[-1]
    return (
        _log_ratio(first.step_s, last.step_s) / grown,
        _log_ratio(first.estimated_mib, last.estimated_mib) / grown,
    )


def table(rows: list[Row]) -> Table:
    """A row a point."""
    return Table(HEADINGS, [row.cells for row in rows], words=(0, 1))


def figure(rows: list[Row]) -> go.Figure:
    """Time above, memory below; a column a sweep, logarithmic."""
    result = make_subplots(
        rows=2, cols=3, shared_yaxes=True, vertical_spacing=0.14, horizontal_spacing=0.07
    )
    for column, (sweep, label) in enumerate(SWEEPS.items(), 1):
        own = [row for row in rows if row.sweep == sweep]
        x = [varied(row) for row in own]
        shown = column == 1
        lines = (
            (1, "time of a step", [1000 * row.step_s for row in own], BLUE, "solid"),
            (2, "peak, measured", [row.peak_mib for row in own], INK, "solid"),
            (2, "peak, estimated", [row.estimated_mib for row in own], ORANGE, "dot"),
        )
        for line, name, y, color, dash in lines:
            style = {"color": color, "dash": dash, "width": 2}
            trace = go.Scatter(
                x=x, y=y, name=name, mode="lines+markers", line=style, showlegend=shown
            )
            result.add_trace(trace, row=line, col=column)
        result.update_xaxes(type="log", tickvals=x, ticktext=[str(v) for v in x], col=column)
        result.update_xaxes(title_text=label, row=2, col=column)
    result.update_yaxes(type="log", dtick="D2", gridcolor="#e4e7eb")
    result.update_yaxes(title_text="step, ms", row=1, col=1)
    result.update_yaxes(title_text="peak, MiB", row=2, col=1)
    result.update_layout(
        template="simple_white",
        height=560,
        margin={"l": 60, "r": 20, "t": 40, "b": 60},
        legend={"orientation": "h", "y": 1.1},
        font={"color": INK},
    )
    return result


def _log_ratio(first: float, last: float) -> float:
    return math.log(last / first)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--width", type=float, default=1 / 8)
    parser.add_argument("--most-blocks", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory-nodes", type=int, default=50, help="most of a measured peak")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--page", type=Path, help="default: docs/scaling.html")
    parser.add_argument("--out", default="scaling")
    return parser.parse_args()


if __name__ == "__main__":
    main()
