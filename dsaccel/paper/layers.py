"""The measured layers of the paper's networks, over seeds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from dsaccel.families import MODES, Mode
from dsaccel.paper.rows import Row
from dsaccel.paper.separability import Measured
from dsaccel.paper.train import Reproduction
from dsaccel.statistics import Paired, Summary, paired, summarise

What = Literal["probe", "scatter"]


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
        """How far layer-wise probes lead those of back-propagation at a layer, after the last
        epoch; paired by seed.
        """
        last = self.epochs[-1]
        local, glob = (
            {seed: found[last].probe[layer] for seed, found in self.measured[mode].items()}
            for mode in MODES
        )
        return paired(local, glob)

    @property
    def lost(self) -> int:
        """From which layer on the layer-wise probes stay behind; the number of layers if they lead
        at the last one.
        """
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
