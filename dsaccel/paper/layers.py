"""The measured layers of the paper's networks, over seeds."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from dsaccel.families import MODES, Mode
from dsaccel.paper.effects import Effect, slope
from dsaccel.paper.rows import Row
from dsaccel.paper.separability import Measured
from dsaccel.paper.train import Reproduction
from dsaccel.statistics import Paired, Summary, paired, summarise

What = Literal["probe", "scatter", "rank"]


@dataclass(frozen=True)
class LayersOfRow:
    """One row in both modes; a layer has a value for each seed and measured epoch."""

    row: Row
    layers: tuple[str, ...]
    """Their names in order of depth."""
    epochs: tuple[int, ...]
    """The epochs after which layers are measured, in order."""
    measured: Mapping[Mode, Mapping[int, Mapping[int, Measured]]]
    """What was measured, by mode, seed and epoch."""

    def by_layer(self, mode: Mode, epoch: int, what: What) -> list[Summary]:
        """Mean and standard deviation over seeds, of each layer."""
        by_seed = [getattr(found[epoch], what) for found in self.measured[mode].values()]
        return [summarise(values) for values in zip(*by_seed, strict=True)]

    def difference(self, layer: int) -> Paired | None:
        """How far layer-wise probes lead at a layer after the last epoch, paired by seed."""
        last = self.epochs[-1]
        local, glob = (
            {seed: found[last].probe[layer] for seed, found in self.measured[mode].items()}
            for mode in MODES
        )
        return paired(local, glob)

    @property
    def lost(self) -> int:
        """The layer from which on layer-wise probes stay behind, or else the number of layers."""
        count = len(self.layers)
        for layer in reversed(range(len(self.layers))):
            difference = self.difference(layer)
            if difference is None or difference.mean >= 0:
                break
            count = layer
        return count


def layers_of(reproduction: Reproduction) -> list[LayersOfRow]:
    """All rows that are measured in both modes."""
    found: list[LayersOfRow] = []
    for row in reproduction.rows:
        measured: dict[Mode, dict[int, dict[int, Measured]]] = {
            mode: {seed: reproduction.measured(row, mode, seed) for seed in reproduction.seeds}
            for mode in MODES
        }
        epochs = tuple(reproduction.measured_epochs)
        if all(
            len(each) == len(epochs) for by_seed in measured.values() for each in by_seed.values()
        ):
            found.append(LayersOfRow(row, reproduction.layer_names(row), epochs, measured))
    return found


def shallow_effect(rows: Sequence[LayersOfRow]) -> Effect | None:
    """Whether back-propagation's lead at a layer grows with the shallow layers below it, among
    networks at the same depth (layers from the image); probes after the last epoch. None: no two
    networks of these rows differ so.

    Each seed gives the slope of the least squares line through the deviations from the mean of the
    depth.
    """
    if not rows:
        return None
    measured = [set(by_seed) for row in rows for by_seed in row.measured.values()]
    seeds = measured[0].intersection(*measured)
    by_seed: dict[int, float] = {}
    for seed in sorted(seeds):
        points: dict[int, list[tuple[int, float]]] = defaultdict(list)
        for row in rows:
            shallow = 0
            local, glob = (row.measured[mode][seed][row.epochs[-1]].probe for mode in MODES)
            for depth, name in enumerate(row.layers):
                shallow += _is_shallow(name, row.row.hierarchy.num_stages)
                points[depth].append((shallow, glob[depth] - local[depth]))
        deviations = [
            (x - fmean([x for x, _ in found]), y - fmean([y for _, y in found]))
            for found in points.values()
            for x, y in found
        ]
        found = slope([x for x, _ in deviations], [y for _, y in deviations])
        if found is not None:
            by_seed[seed] = found
    claim = "at matched depth each shallow layer below adds to the lead of back-propagation's probe"
    return Effect(claim, by_seed) if by_seed else None


@dataclass(frozen=True)
class HybridsOfRow:
    """One row, frozen after each stage but the last, and trained anew above it."""

    row: Row
    num_stages: int
    """The stages after which it was frozen, one at a time: 1, 2 and so on."""
    accuracies: Mapping[tuple[Mode, Mode], Mapping[int, Mapping[int, float]]]
    """(Mode of the prefix, mode of the rest) -> stage -> seed -> accuracy."""

    def summary(self, prefix: Mode, rest: Mode, stage: int) -> Summary:
        return summarise(list(self.accuracies[prefix, rest][stage].values()))

    def prefix_effect(self, rest: Mode, stage: int) -> Paired | None:
        """How far a layer-wise prefix leads one of back-propagation, beneath one kind of rest."""
        one, other = self.accuracies["local", rest], self.accuracies["global", rest]
        return paired(one[stage], other[stage])


def hybrids_of(reproduction: Reproduction) -> list[HybridsOfRow]:
    """All rows whose hybrids are trained in both modes from every seed."""
    found: list[HybridsOfRow] = []
    for row in reproduction.rows:
        accuracies: dict[tuple[Mode, Mode], dict[int, dict[int, float]]] = {
            (prefix, rest): defaultdict(dict) for prefix in MODES for rest in MODES
        }
        complete = True
        for prefix in MODES:
            for seed in reproduction.seeds:
                hybrids = reproduction.hybrids(row, prefix, seed)
                complete &= bool(hybrids)
                for hybrid in hybrids:
                    accuracies[prefix, hybrid.rest][hybrid.stage][seed] = hybrid.accuracy
        if complete:
            found.append(HybridsOfRow(row, row.hierarchy.num_stages - 1, accuracies))
    return found


def _is_shallow(layer: str, num_stages: int) -> bool:
    """Whether a layer (by name) is of the first half of the stages, or the stem."""
    if layer == "stem":
        return True
    place = layer.split(".")[0]
    return place.startswith("s") and int(place[1:]) <= num_stages // 2
