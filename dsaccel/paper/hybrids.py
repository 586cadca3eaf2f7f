"""Hybrids: a prefix that was trained one way and is frozen, the rest trained anew either way.

With the rest under back-propagation this is a deep probe of the prefix: it tells what the layers
above can make of its features, where a linear probe tells what can be read off them at once. With
the rest layer-wise, behind a prefix of back-propagation, it tells whether the prefix is at fault.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dsaccel.config.study import TrainingConfig
from dsaccel.families import MODES, Mode
from dsaccel.nn.layers import LayerModule
from dsaccel.nn.units import Unit
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.plan import Plan
from dsaccel.training.cohort import Cohort
from dsaccel.training.descent import Batches


@dataclass(frozen=True)
class Hybrid:
    """The accuracy that was reached above a frozen prefix."""

    stage: int
    """The last one of the prefix, 1-based."""
    rest: Mode
    """How the stages above were trained."""
    accuracy: float
    """The output layer's accuracy after the last epoch, 0..1."""


class Above(Batches):
    """A frozen prefix's features of images, by running statistics and without dropout.

    Args:
        data: the images.
        layers: of the prefix, in evaluation mode.
    """

    def __init__(self, data: Batches, layers: Sequence[LayerModule]) -> None:
        self._data, self._layers = data, layers

    def train_batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        return self._passed_on(self._data.train_batches(epoch))

    def val_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self._passed_on(self._data.val_batches())

    def _passed_on(
        self, batches: Iterator[tuple[Tensor, Tensor]]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        for x, y in batches:
            skip = None
            with torch.no_grad():
                for layer in self._layers:
                    x, skip = layer(x, skip)
            yield x, y


def prefix(units: Sequence[Unit], stage: int) -> list[LayerModule]:
    """The layers of a network up to the end of a stage."""
    layers = (layer for unit in units for layer in unit.layers)
    modules = (layer for layer in layers if isinstance(layer, LayerModule))
    return [layer for layer in modules if layer.position.stage <= stage]


def rest_of(plan: Plan, stage: int) -> Plan:
    """The rest of a network after a stage."""
    cut = (
        replace(segment, blocks=tuple(block for block in segment.blocks if block.stage > stage))
        for segment in plan.segments
        if not segment.blocks or segment.blocks[-1].stage > stage
    )
    return replace(plan, segments=tuple(cut))


def train_hybrids(
    units: Sequence[Unit],
    plans: dict[Mode, Plan],
    training: TrainingConfig,
    data: Batches,
    *,
    seed: int,
    device: torch.device,
    keep: Callable[[Cohort, str], object] | None = None,
) -> Generator[tuple[int, tuple[Hierarchy, ...]], None, list[Hybrid]]:
    """Freeze a trained network after each stage but the last, and train what comes above anew, from
    its first weights and with the same settings, in both modes; yields each epoch and its name.

    Args:
        units: of the trained network, in evaluation mode.
        plans: of the same hierarchy in both modes.
        training: epochs, learning rate.
        data: its images.
        seed: of all random numbers.
        device: that trains.
        keep: has a cohort saved, under a name of its own, before it is trained.
    """
    hybrids: list[Hybrid] = []
    hierarchy = plans["local"].hierarchy
    for stage in range(1, hierarchy.num_stages):
        above = Above(data, prefix(units, stage))
        for mode in MODES:
            rest = {hierarchy: rest_of(plans[mode], stage)}
            cohort = Cohort(rest, training, above, seed=seed, device=device)
            if keep is not None:
                keep(cohort, f"{stage}-{mode}")
            for rung in cohort.rungs():
                yield rung.step, (hierarchy,)
            hybrids.append(Hybrid(stage, mode, cohort.history[-1].objective(hierarchy)))
    return hybrids
