"""All that is to be known of a GPU, in one go of at most seven minutes and without a network.

    python benchmarks/gpu.py --reference CHECKOUT

Kernels are those that give the same bits each time, as `dsaccel` has them, unless it says so. Each
section is a process of its own with a time limit, and the figures are written after each. Measured
one after the other, exactness first: a trie against alone and recorded steps against steps as they
are, bit by bit; the peak of bf16 matrix products; ResNet18 2-2-2-2 under `predsim` on every
convolution, bf16, batch 128, a step and an epoch of 50,000 images of CIFAR's shape, against the
reference's own step and loop; the space of all 256 hierarchies 4x(1..4), some batches of it; and
peak memory layer-wise against back-propagation. Steps are measured as they are, recorded as one
CUDA graph (`training.cuda_graph`), and with units learning at the same time in it
(`training.cuda_lanes`). Two leads are decided for siblings and for one unit:
grouped convolutions and compilation. What does not fit into the time is "not reached"; without CUDA
nothing is measured, which is said, and the exit code is 0.

`--device cpu --tiny` is a rehearsal: all of it in small on a CPU, with nothing recorded and one
lane, to see that the script works. Its figures mean nothing and its file is none to keep. Images
are random; times do not depend on them.
"""

import argparse
import contextlib
import dataclasses
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import local_loss
import measure
import torch
from cohort import make_images, our_data, reference_loader
from flops import extrapolate, share_of_peak, training_flops, trie_flops
from guard import NOT_REACHED, Guard, Section, interleave, run_processes, run_section
from leads import compiled, lanes_on, recorder_on, siblings
from rich.console import Console
from rich.table import Table
from step import CHANNELS, NUM_CLASSES, SIDE, recipe
from torch import Tensor

from dsaccel.config.study import NetworkConfig, TrainingConfig
from dsaccel.data.batches import Data
from dsaccel.families import build_plan, find_family
from dsaccel.files import atomic_write
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.plan import Plan
from dsaccel.spec.trie import Node, Trie
from dsaccel.training.cuda_graphs import NUM_EAGER, RecordedStep, Step
from dsaccel.training.descent import learning
from dsaccel.training.device import repeat_bits
from dsaccel.training.learner import Learner

MIB = 2**20
STANDARD = {name: find_family(name).standard for name in ("resnet18", "resnet50")}
PRODUCTS = 10
"""Matrix products of a round."""
NEEDS_CUDA = {"status": "needs CUDA"}
EPOCH_TARGET_S, SPACE_TARGET_S = 1.2, 50.0
ENVIRONMENT = "environment"
"""The first process: nothing but it and the sections touches the device."""
STARTS_S = 15.0
"""Beyond a section's own time, before its process is killed: to import torch and to start CUDA."""
LANES = (1, 4, 16, 32)
"""How many units may learn at the same time in a recorded step."""


@dataclass(frozen=True)
class Size:
    """How large everything is."""

    width: float
    batch_size: int
    num_images: int
    matrix: int
    """Side of the largest matrices."""
    blocks: int
    """Most blocks of each of 4 stages of the space."""
    steps: int
    """Training steps of a round."""
    rounds: int
    """At most, if the time allows."""


FULL = Size(
    width=1.0, batch_size=128, num_images=50_000, matrix=16384, blocks=4, steps=10, rounds=40
)
TINY = Size(width=1 / 16, batch_size=8, num_images=32, matrix=256, blocks=2, steps=1, rounds=1)


class Bench:
    """The sections. What one measures for others is kept: the peak, which shares are taken of, and
    how many lanes were fastest.
    """

    def __init__(
        self, device: torch.device, size: Size, checkout: local_loss.Checkout | None
    ) -> None:
        self.device = device
        self.size = size
        self.checkout = checkout
        self.network = recipe("resnet18", size.width)
        self.training = TrainingConfig(batch_size=size.batch_size, precision="bf16")
        self.peak_flops: float | None = None
        self.lanes = 4

    @property
    def sections(self) -> dict[str, Section]:
        """In the order of their worth: what is last is what may not be reached."""
        return {
            "exactness": Section(self.exactness, least_s=10, most_s=50),
            "exactness, graph": Section(self.graph_exactness, least_s=10, most_s=30),
            "matmul": Section(self.matmul, least_s=5, most_s=15),
            "step": Section(self.step, least_s=15, most_s=40),
            "step, graph": Section(self.graph_step, least_s=15, most_s=40),
            "epoch": Section(self.epoch, least_s=15, most_s=40),
            "epoch, graph": Section(partial(self.epoch, recorded=True), least_s=15, most_s=30),
            "space": Section(self.space, least_s=30, most_s=80),
            "memory": Section(self.memory, least_s=10, most_s=40),
            "siblings": Section(self.siblings, least_s=10, most_s=20),
            "compile": Section(self.compile, least_s=20, most_s=80),
        }

    def recall(self, records: Mapping[str, Mapping[str, Any]]) -> None:
        """Take over what earlier sections have measured for later ones."""
        self.lanes = records.get("step, graph", {}).get("fastest_lanes", self.lanes)
        if (peak := records.get("matmul", {}).get("peak_tflop_per_s")) is not None:
            self.peak_flops = peak * 1e12

    def matmul(self, guard: Guard) -> dict[str, Any]:
        """The highest rate of square bf16 products, of three sizes."""
        rates: dict[str, float] = {}
        for side in (self.size.matrix // 4, self.size.matrix // 2, self.size.matrix):
            a, b = (torch.randn(side, side, device=self.device).bfloat16() for _ in range(2))
            multiply = self._timed(lambda a=a, b=b: [a @ b for _ in range(PRODUCTS)])
            runs = interleave({"": multiply}, guard.part(6), most=self.size.rounds)[""]
            rates[str(side)] = 2 * side**3 * PRODUCTS / measure.median(runs)
        self.peak_flops = max(rates.values())
        return {"flop_per_s": rates, "peak_tflop_per_s": self.peak_flops / 1e12}

    def step(self, guard: Guard) -> dict[str, Any]:
        """Steps of ResNet18 on one batch, ours and the reference's, interleaved."""
        x, y = self._batch()
        trie, learners = self._ready({STANDARD["resnet18"]: self._plan("resnet18")})
        num, step = self.size.steps, self._stepper(trie, learners)
        ours = self._timed(lambda: [step(x, y) for _ in range(num)])
        sides: dict[str, Callable[[], object]] = {"bf16": ours}
        trie, learners = self._ready({STANDARD["resnet18"]: self._plan("resnet18")})
        other = self._stepper(trie, learners)

        def any_bits() -> None:
            with deterministic(False):
                for _ in range(num):
                    other(x, y)

        sides["bf16, not deterministic"] = self._timed(any_bits)
        if self.checkout is not None:
            theirs = self._reference()
            batches = Batches([(x.contiguous(), y)] * num)  # it views maps as NCHW
            sides = {"reference": self._timed(lambda: theirs.train(batches)), **sides}
        runs = interleave(sides, guard, most=self.size.rounds, warm_up=2)
        seconds = measure.median(runs["bf16"]) / num
        return {
            "step_s": {name: measure.median(own) / num for name, own in runs.items()},
            "share_of_peak": self._share(trie_flops(trie), seconds),
            "faster_than_reference": measure.ratio(runs["reference"], runs["bf16"])
            if self.checkout
            else None,
            "not_deterministic_faster": measure.ratio(
                runs["bf16"], runs["bf16, not deterministic"]
            ),
            "runs": runs,
        }

    def graph_step(self, guard: Guard) -> dict[str, Any]:
        """The same, as it is and recorded, in several numbers of lanes."""
        x, y = self._batch()
        num, sides = self.size.steps, {}
        plans = {STANDARD["resnet18"]: self._plan("resnet18")}
        for lanes in (None, *LANES):
            trie, learners = self._ready(plans)
            step = self._stepper(trie, learners, lanes=lanes)
            name = "as it is" if lanes is None else f"lanes {lanes}"
            sides[name] = self._timed(lambda step=step: [step(x, y) for _ in range(num)])
        runs = interleave(sides, guard, most=self.size.rounds, warm_up=2)
        seconds = {name: measure.median(own) / num for name, own in runs.items()}
        self.lanes = min(LANES, key=lambda lanes: seconds[f"lanes {lanes}"])
        return {
            "step_s": seconds,
            "fastest_lanes": self.lanes,
            "share_of_peak": self._share(trie_flops(Trie(plans)), seconds[f"lanes {self.lanes}"]),
            "faster_than_as_it_is": {
                name: measure.ratio(runs["as it is"], own)
                for name, own in runs.items()
                if name != "as it is"
            },
            "runs": runs,
        }

    def epoch(self, guard: Guard, *, recorded: bool = False) -> dict[str, Any]:
        """A whole epoch with the data, and the reference's with its own loader, extrapolated."""
        data, (pixels, labels) = self._data()
        trie, learners = self._ready({STANDARD["resnet18"]: self._plan("resnet18")})
        step = self._stepper(trie, learners, lanes=self.lanes if recorded else None)

        def train() -> None:
            for x, y in data.train_batches(1):
                step(x, y)

        part = guard if recorded else guard.part(guard.left_s / 2)
        runs = interleave({"": self._timed(train)}, part, most=5)[""]
        seconds = measure.median(runs)
        record: dict[str, Any] = {
            "images": self.size.num_images,
            "lanes": self.lanes if recorded else None,
            "epoch_s": seconds,
            "target_s": EPOCH_TARGET_S,
            "share_of_peak": self._share(trie_flops(trie), seconds / data.num_steps),
        }
        if self.checkout is not None and not recorded:
            batches = min(40, data.num_steps)
            num = batches * self.size.batch_size
            loader = reference_loader(pixels[:num], labels[:num], self.size.batch_size)
            theirs = self._reference()
            own = interleave({"": self._timed(lambda: theirs.train(loader))}, guard, most=2)[""]
            slow = extrapolate(measure.median(own), batches=batches, epoch_batches=data.num_steps)
            record |= {
                "reference_epoch_s": slow,
                "reference_extrapolated_from_batches": batches,
                "faster_than_reference": slow / seconds,
            }
        return record

    def space(self, guard: Guard) -> dict[str, Any]:
        """Some batches of all hierarchies of 4x(1..n), each round on from the one before: as they
        are, then recorded.
        """
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        plans = {
            hierarchy: self._plan("resnet18", hierarchy)
            for hierarchy in map(
                Hierarchy, itertools.product(range(1, self.size.blocks + 1), repeat=4)
            )
        }
        data, _ = self._data()
        trie, learners = self._ready(plans)
        guard.check()
        batches = itertools.cycle(data.train_batches(1))
        flops = trie_flops(trie)
        ways: dict[str, Any] = {}
        for name, lanes, share in (("as it is", None, 0.3), ("recorded", self.lanes, 1)):
            step = self._stepper(trie, learners, lanes=lanes)
            one_batch = self._timed(lambda step=step: step(*next(batches)))
            warm_up = 2 if lanes is None else NUM_EAGER + 2
            part = guard.part(share * guard.left_s)
            runs = interleave({"": one_batch}, part, most=self.size.rounds, warm_up=warm_up)[""]
            seconds = measure.median(runs)
            ways[name] = {
                "lanes": lanes,
                "batches": len(runs),
                "batch_s": seconds,
                "epoch_s_extrapolated": extrapolate(
                    seconds, batches=1, epoch_batches=data.num_steps
                ),
                "share_of_peak": self._share(flops, seconds),
            }
        return {
            "hierarchies": len(plans),
            "blocks": trie.blocks_trained,
            "nodes": len(learners),
            **ways,
            "target_s": SPACE_TARGET_S,
            "training_gflop_per_image": flops / 1e9,
            "flop_ratio_of_sharing": sum(
                training_flops(segment) for plan in plans.values() for segment in plan.segments
            )
            / flops,
            "peak_allocated_mib": self._allocated_mib(),
        }

    def memory(self, guard: Guard) -> dict[str, Any]:
        """Peak of a step, layer-wise against back-propagation."""
        rows: dict[str, Any] = {}
        for family, kernel in (("resnet18", 3), ("resnet50", 3), ("resnet50", 1)):
            network = self.network.model_copy(update={"sim_kernel": kernel})
            for precision in ("fp32", "bf16"):
                name = f"{family} sim_kernel {kernel} {precision}"
                if guard.left_s <= 0:
                    rows[name] = NOT_REACHED
                    continue
                training = self.training.model_copy(update={"precision": precision})
                layerwise = self._peak(self._plan(family, network=network), training)
                plan = self._plan(family, mode="global", network=network)
                backprop = self._peak(plan, training)
                rows[name] = compare_peaks(layerwise, backprop)
        return {"peaks": rows}

    def graph_exactness(self, guard: Guard) -> dict[str, Any]:
        """Largest difference of any weight between recorded steps and steps as they are."""
        pair = (Hierarchy((1, 1, 1, 2)), Hierarchy((1, 1, 2, 1)))
        plans = {h: self._plan("resnet18", h) for h in pair}
        record: dict[str, Any] = {"steps": NUM_EAGER + 5}
        for precision in ("fp32", "bf16"):
            guard.check()
            training = self.training.model_copy(update={"precision": precision})
            with deterministic(True):
                plain, *recorded = (
                    self._trained(plans, training, steps=NUM_EAGER + 5, lanes=lanes)
                    for lanes in (None, 1, 16)
                )
            record[precision] = {
                f"lanes {lanes}": max(difference(plain[name], own[name]) for name in plans)
                for lanes, own in zip((1, 16), recorded, strict=True)
            }
        return record

    def siblings(self, guard: Guard) -> dict[str, Any]:
        """Convolutions of the last two stages: in turn, at the same time, or as one."""
        plan = self._plan("resnet18")
        layers = [plan.segments[-2].layers[-1], plan.segments[-4].layers[-1]]
        shapes = [(layer.out_channels, layer.side) for layer in layers]
        rounds, batch = min(20, self.size.rounds), self.size.batch_size
        return siblings(self.device, guard, batch_size=batch, shapes=shapes, rounds=rounds)

    def compile(self, guard: Guard) -> dict[str, Any]:
        """A unit of the third stage."""
        network = self.network.model_copy(update={"dropout": 0.0, "granularity": "block"})
        segment = self._plan("resnet18", network=network).segments[-4]
        one, other = (Learner(segment, self.training, seed=1, device=self.device) for _ in range(2))
        block = segment.blocks[0]
        _, y = self._batch()
        shape = (
            self.size.batch_size,
            block.in_channels,
            segment.layers[0].side,
            segment.layers[0].side,
        )
        x = torch.randn(shape, device=self.device).contiguous(memory_format=torch.channels_last)
        return compiled(one, other, x.bfloat16(), y, guard, rounds=min(20, self.size.rounds))

    def exactness(self, guard: Guard) -> dict[str, Any]:
        """Largest difference of any weight between networks in a trie and trained alone."""
        blocks = [(1, 1, 1, 2), (1, 1, 2, 1), (1, 2, 1, 1), (1, 1, 1, 1)]
        plans = {h: self._plan("resnet18", h) for h in map(Hierarchy, blocks)}
        names = list(plans)
        record: dict[str, Any] = {
            "hierarchies": " ".join(map(str, names)),
            "batches": self.size.steps,
        }
        for precision, wanted in itertools.product(("fp32", "bf16"), (True, False)):
            way = f"{precision} {'' if wanted else 'not '}deterministic"
            if guard.left_s <= 0:
                record[way] = NOT_REACHED
                continue
            training = self.training.model_copy(update={"precision": precision})
            with deterministic(wanted):
                together = self._trained(plans, training)
                alone = {n: self._trained({n: plans[n]}, training)[n] for n in names}
                again = self._trained({names[0]: plans[names[0]]}, training)[names[0]]
            record[way] = {
                "trie against alone": max(difference(together[n], alone[n]) for n in names),
                "alone against itself": difference(alone[names[0]], again),
            }
        return record

    # ------------------------------------------------------------------ parts

    def _plan(
        self,
        family: str,
        hierarchy: Hierarchy | None = None,
        mode: Literal["local", "global"] = "local",
        network: NetworkConfig | None = None,
    ) -> Plan:
        return build_plan(
            family,
            hierarchy or STANDARD[family],
            network or self.network,
            channels=CHANNELS,
            side=SIDE,
            num_classes=NUM_CLASSES,
            mode=mode,
        )

    def _ready(
        self, plans: dict[Hierarchy, Plan], training: TrainingConfig | None = None
    ) -> tuple[Trie, dict[Node, Learner]]:
        training = training or self.training
        trie = Trie(plans)
        learners = {
            node: Learner(node.segment, training, seed=1, device=self.device)
            for node in trie.nodes()
        }
        for learner in learners.values():
            learner.start_epoch(1)
        return trie, learners

    def _stepper(
        self, trie: Trie, learners: dict[Node, Learner], *, lanes: int | None = None
    ) -> Step:
        """A training step of all networks of a trie; recorded if a number of lanes is given."""
        used = lanes_on(self.device, lanes or 1)

        step = learning(trie.roots, learners, used)
        if lanes is None:
            return step
        generators = (g for learner in learners.values() for g in learner.generators.values())
        return RecordedStep(step, generators, recorder_on(self.device))

    def _batch(self) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(self.size.batch_size, CHANNELS, SIDE, SIDE, generator=generator)
        y = torch.randint(NUM_CLASSES, (self.size.batch_size,), generator=generator)
        x = x.to(self.device).contiguous(memory_format=torch.channels_last)
        return x, y.to(self.device)

    def _data(self) -> tuple[Data, tuple[Any, Any]]:
        """On the device; and the images that it is of."""
        images = make_images(self.size.num_images)
        data = our_data(*images, self.size.batch_size)
        fields = {f.name: getattr(data.val, f.name) for f in dataclasses.fields(data.val)}
        val = {n: v.to(self.device) for n, v in fields.items() if isinstance(v, Tensor)}
        return dataclasses.replace(
            data,
            train_pixels=data.train_pixels.to(self.device),
            train_labels=data.train_labels.to(self.device),
            val=dataclasses.replace(data.val, **val),
        ), images

    def _reference(self) -> local_loss.Trainer:
        assert self.checkout is not None
        shape = {"channels": CHANNELS, "side": SIDE, "num_classes": NUM_CLASSES}
        trainer = local_loss.Trainer(
            self.checkout, "resnet18", STANDARD["resnet18"].blocks, self.network, **shape
        )
        trainer.move_to(self.device)
        return trainer

    def _timed(self, run: Callable[[], object]) -> Callable[[], None]:
        """Until the device has done it."""

        def timed() -> None:
            run()
            self._synchronize()

        return timed

    def _synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _share(self, flops_an_image: float, seconds: float) -> float | None:
        """Of the measured peak, at which a batch was trained; None: no peak was measured."""
        if self.peak_flops is None:
            return None
        return share_of_peak(flops_an_image * self.size.batch_size, seconds, self.peak_flops)

    def _allocated_mib(self) -> float | None:
        if self.device.type != "cuda":
            return None
        return torch.cuda.max_memory_allocated(self.device) / MIB

    def _peak(self, plan: Plan, training: TrainingConfig) -> "Peak":
        trie, learners = self._ready({plan.hierarchy: plan}, training)
        x, y = self._batch()
        step = self._stepper(trie, learners)
        step(x, y)  # Adam's averages are made in the first step
        parameters = 4 * plan.num_parameters_training
        if self.device.type != "cuda":
            return Peak(parameters, None)
        self._synchronize()
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        step(x, y)
        self._synchronize()
        return Peak(parameters, torch.cuda.max_memory_allocated(self.device) - before)

    def _trained(
        self,
        plans: dict[Hierarchy, Plan],
        training: TrainingConfig,
        *,
        steps: int | None = None,
        lanes: int | None = None,
    ) -> dict[Hierarchy, list[Tensor]]:
        """All weights and statistics of each network after some batches."""
        trie, learners = self._ready(plans, training)
        step = self._stepper(trie, learners, lanes=lanes)
        x, y = self._batch()
        for shift in range(steps or self.size.steps):
            step(x.roll(shift, dims=0), y.roll(shift))
        return {
            name: [
                value.detach().clone()
                for node in trie.path(name)
                for unit in learners[node].units
                for value in unit.state_dict().values()
            ]
            for name in plans
        }


@dataclass(frozen=True)
class Peak:
    """Memory of one training step, in bytes."""

    parameters: int
    rise: int | None
    """The peak over what is held between two steps; None: only CUDA's allocator says."""


def compare_peaks(layerwise: Peak, backprop: Peak) -> dict[str, Any]:
    """How much less memory a layer-wise step takes than one of back-propagation.

    Activations: the rise, less all gradients under back-propagation, which are there at its peak;
    layer-wise none are taken off, so that the ratio is a lower bound. In all: with parameters and
    Adam's two averages.
    """
    if layerwise.rise is None or backprop.rise is None:
        return NEEDS_CUDA
    activations = layerwise.rise, backprop.rise - backprop.parameters
    in_all = layerwise.rise + 3 * layerwise.parameters, backprop.rise + 3 * backprop.parameters
    return {
        "layer-wise activations, MiB": activations[0] / MIB,
        "global activations, MiB": activations[1] / MIB,
        "activations, times less": activations[1] / activations[0],
        "layer-wise in all, MiB": in_all[0] / MIB,
        "global in all, MiB": in_all[1] / MIB,
        "in all, times less": in_all[1] / in_all[0],
    }


class Batches(list[tuple[Tensor, Tensor]]):
    """Batches as the reference's loop asks for them."""

    @property
    def dataset(self) -> range:
        """As long as the images are many."""
        return range(sum(len(y) for _, y in self))


def difference(a: list[Tensor], b: list[Tensor]) -> float:
    """The largest between any two numbers; 0 is bit for bit."""
    pairs = zip(a, b, strict=True)
    return max(float((one.double() - other.double()).abs().max()) for one, other in pairs)


@contextlib.contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Kernels that give the same bits each time, or whichever are fastest."""
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(wanted, warn_only=True)
    torch.backends.cudnn.benchmark = not wanted
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=True)
        torch.backends.cudnn.benchmark = before[1]


def gpu_environment(device: torch.device) -> dict[str, Any]:
    """Beside that of the process: which device, and how it computes."""
    record = measure.environment()
    if device.type != "cuda":
        return record
    found = torch.cuda.get_device_properties(device)
    return record | {
        "gpu": found.name,
        "gpu_memory_mib": found.total_memory // MIB,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "tf32_convolutions": torch.backends.cudnn.allow_tf32,
    }


def flat(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every figure of a record by its path; single runs are left to the file."""
    for key, value in record.items():
        if key == "runs":
            continue
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}, ")
        else:
            yield f"{prefix}{key}", f"{value:.4g}" if isinstance(value, float) else str(value)


def table(records: Mapping[str, Mapping[str, Any]], title: str) -> Table:
    """A row a figure."""
    result = Table(title=title)
    result.add_column("section")
    result.add_column("figure")
    result.add_column("", justify="right")
    for name, record in records.items():
        for number, (figure, value) in enumerate(flat(record)):
            result.add_row(name if number == 0 else "", figure, value)
    return result


def main() -> int:
    """Measure all sections, print a table, write the figures; 1 if a section failed."""
    options = parse()
    if options.device == "cuda" and not torch.cuda.is_available():
        print("no CUDA device: not measured")
        return 0
    is_rehearsal = options.tiny or options.device != "cuda"
    name = options.out or ("gpu-rehearsal" if is_rehearsal else "gpu")
    file = options.out_dir / f"{name}.json"
    if options.section:
        print(json.dumps(section(options, file), default=dataclasses.asdict))
        return 0
    options.out_dir.mkdir(parents=True, exist_ok=True)
    records: dict[str, dict[str, Any]] = {}
    sections = Bench(torch.device("cpu"), TINY, None).sections
    chosen = {n: s.most_s for n, s in sections.items() if not options.only or n in options.only}
    # in small each section ends by itself: on a busy machine a rehearsal, too, is to reach them all
    more_s = 600.0 if options.tiny else STARTS_S
    limits = {ENVIRONMENT: 60.0, **{n: most_s + more_s for n, most_s in chosen.items()}}

    def save(records: dict[str, dict[str, Any]]) -> None:
        last = list(records)[-1]
        print(f"{last}: {records[last]['status']}", file=sys.stderr, flush=True)
        others = {n: record for n, record in records.items() if n != ENVIRONMENT}
        head = {"rehearsal": is_rehearsal, **records[ENVIRONMENT], "sections": others}
        with atomic_write(file) as temporary:
            temporary.write_text(json.dumps(head, indent=2) + "\n", encoding="utf-8")

    def command(name: str) -> list[str]:
        return [sys.executable, *sys.argv, "--section", name]

    guard = Guard.lasting(1e6 if options.tiny else options.seconds)
    records = run_processes(limits, command, guard, save)
    del records[ENVIRONMENT]
    Console().print(
        table(records, "REHEARSAL: no figure means anything" if is_rehearsal else "GPU")
    )
    print(file)
    return int(any(record["status"].startswith("failed") for record in records.values()))


def section(options: argparse.Namespace, file: Path) -> dict[str, Any]:
    """One section, in this process, after those whose records are in the file."""
    repeat_bits()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    checkout = local_loss.read_checkout(options.reference) if options.reference else None
    size = TINY if options.tiny else FULL
    if options.section == ENVIRONMENT:
        return {
            "status": "measured",
            "size": dataclasses.asdict(size),
            "reference": checkout.record if checkout else None,
            "environment": gpu_environment(device),
        }
    bench = Bench(device, size, checkout)
    bench.recall(json.loads(file.read_text(encoding="utf-8"))["sections"])
    own = bench.sections[options.section]
    clock = (lambda: 0.0) if options.tiny else time.perf_counter
    return run_section(own, Guard.lasting(own.most_s, clock))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--reference", type=Path, help="a clone of anokland/local-loss")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--tiny", action="store_true", help="a rehearsal in small")
    parser.add_argument("--seconds", type=float, default=400, help="for all sections together")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out-dir", type=Path, default=measure.RESULTS, help="where figures go")
    parser.add_argument("--out", help="name of their file, without its ending")
    parser.add_argument("--only", nargs="+", help="sections")
    parser.add_argument("--section", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
