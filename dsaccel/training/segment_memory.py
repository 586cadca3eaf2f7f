"""What one segment holds while its units learn, counted on its own learner and hollow tensors."""

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from dsaccel.config.study import TrainingConfig
from dsaccel.nn.labels import Labels
from dsaccel.nn.placement import as_on_gpu
from dsaccel.nn.units import Features
from dsaccel.spec.blocks import Block, Layer
from dsaccel.spec.plan import Segment
from dsaccel.training.learner import Learner
from dsaccel.training.meter import Counter, HollowMeter, Machine
from dsaccel.training.repeats import Times, Watch, shorten, weigh

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Maps:
    """The input of a segment: a tensor's shape, batch first, and type."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def nbytes(self) -> int:
        return torch.Size(self.shape).numel() * self.dtype.itemsize

    def empty(self) -> Tensor:
        """Channels-last, as all maps are."""
        x = torch.empty(self.shape, dtype=self.dtype)
        return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


@dataclass(frozen=True)
class UnitMemory:
    """The memory that one unit holds, in bytes."""

    parameters: int
    """Weights and running statistics."""
    optimizer: int
    peak: int
    """While it learns: beside that and the segment's input."""
    features: int
    """The bytes of the features that it passes on."""
    skip: int
    """Passed on beside them: the input of the open block; 0 at the segment's end."""


@dataclass(frozen=True)
class SegmentMemory:
    units: tuple[UnitMemory, ...]
    passed_on: Maps

    @cached_property
    def peak(self) -> int:
        """The highest peak of its units."""
        return max(unit.peak for unit in self.units)


def count_segment(
    segment: Segment, maps: Maps, images: Maps, training: TrainingConfig, machine: Machine
) -> SegmentMemory:
    """Count the memory of a segment that learns from `maps` of a batch of images."""
    same = {"schedule": "simultaneous", "epochs": 1, "learning_rate": 1e-3}
    same["recompute"] = training.recompute
    same["compile"] = False  # nobody knows before what a compiler keeps
    alike = training.deciding.model_copy(update=same)
    reads_images = any("image" in head.loss.reads for head in segment.heads)
    seen = images if reads_images else None
    nameless = _nameless(segment, stages=training.recompute in ("stage", "nested"))
    return _count(nameless, maps, seen, alike, machine)  # pyright: ignore[reportArgumentType]


@lru_cache(maxsize=4096)
def _count(
    segment: Segment, maps: Maps, images: Maps | None, training: TrainingConfig, machine: Machine
) -> SegmentMemory:
    counter = Counter(machine)
    # where stages are computed again, a block more costs more the later it stands
    by_stage = training.recompute in ("stage", "nested")
    segment, times = (segment, {}) if by_stage else shorten(segment)
    with HollowMeter(counter), as_on_gpu(machine.device == "cuda"):
        features = Features(maps.empty(), None)
        y_B = torch.zeros(maps.shape[0], dtype=torch.long)
        labels = Labels(y_B, images and images.empty())
        learner = Learner(segment, training, seed=0, device=CPU)
        held = [_make_averages(learner, index, times) for index in range(len(learner.units))]
        learner.start_epoch(1)
        start = counter.level
        if learner.is_joined:
            return _count_joined(learner, counter, features.x, labels, held)
        units = []
        for unit, (optimizer, kept) in zip(learner.units, held, strict=True):
            above, watch = counter.level - start, Watch(unit, counter, times)
            features = learner.learn(features, labels)
            watch.end()
            weights = weigh(unit, times)
            tensors = (*unit.parameters(), *unit.buffers())
            parameters = sum(x.nbytes * weights[id(x)] for x in tensors)
            made = features.x.nbytes if len(unit.layers) else 0
            skip = 0 if features.skip is None or unit is learner.units[-1] else features.skip.nbytes
            units.append(UnitMemory(parameters, optimizer, above + watch.peak, made, skip))
            learner.freeze()
            start -= kept
        return SegmentMemory(tuple(units), Maps(tuple(features.x.shape), features.x.dtype))


def _count_joined(
    learner: Learner, counter: Counter, x: Tensor, labels: Labels, held: list[tuple[int, int]]
) -> SegmentMemory:
    """All units as one, for they learn at once."""
    start = counter.restart()
    passed_on = learner.step(x, labels)
    tensors = (t for unit in learner.units for t in (*unit.parameters(), *unit.buffers()))
    optimizer, peak = sum(size for size, _ in held), counter.peak - start
    unit = UnitMemory(sum(t.nbytes for t in tensors), optimizer, peak, passed_on.nbytes, 0)
    return SegmentMemory((unit,), Maps(tuple(passed_on.shape), passed_on.dtype))


def _make_averages(learner: Learner, index: int, times: Times) -> tuple[int, int]:
    """Have an optimizer make its state; returns its bytes, all and those that were made."""
    unit, optimizer = learner.units[index], learner.optimizers[index]
    for parameter in unit.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    weights = weigh(unit, times)
    kept = {
        parameter: sum(value.nbytes for value in state.values() if isinstance(value, Tensor))
        for parameter, state in optimizer.state.items()
    }
    return sum(num * weights[id(p)] for p, num in kept.items()), sum(kept.values())


def _nameless(segment: Segment, *, stages: bool) -> Segment:
    """Equal for segments that take the same memory, wherever they stand and however they learn;
    `stages`: whether it matters where one begins.
    """

    def layer(given: Layer) -> Layer:
        return replace(given, dropout=0.5 if given.dropout else 0.0)

    def block(given: Block, index: int) -> Block:
        stage = given.stage if stages else 1
        return replace(given, stage=stage, index=index, layers=tuple(map(layer, given.layers)))

    blocks = tuple(block(given, index) for index, given in enumerate(segment.blocks))
    return replace(segment, blocks=blocks, learning_rate=None)
