"""A rung: what a schedule has read when every living network has come equally far."""

from dataclasses import dataclass
from typing import Literal

from dsaccel.spec.hierarchy import Hierarchy

RankedBy = Literal["head", "output"]
"""What pruning ranks by: the deepest trained local head, or the output layer."""


@dataclass(frozen=True)
class Divergence:
    """A network's weights have become infinite or no numbers."""

    unit: int
    """The first one whose weights are not finite, 1-based; those above it learn nothing either."""
    num_units: int
    """Of the network, the output layer counted."""
    step: int | None
    """The rung at which it was seen first, if it was seen at a rung."""


@dataclass(frozen=True)
class Rung:
    step: int
    """How far (Optuna's `step`, 1-based): passes over the training images under `simultaneous`,
    stages trained under `sequential`."""
    accuracies: dict[Hierarchy, tuple[float, ...]]
    """Validation accuracy (0..1) of each living network's trained heads in order of depth, the
    output layer's last. A network none of whose heads is trained yet is not in it."""
    has_output: bool = True
    """Whether the output layers are trained (all along) and read; if not, heads are local ones."""

    def deepest_head(self, hierarchy: Hierarchy) -> float:
        """The deepest trained local head's accuracy; globally trained networks have only the
        output layer's.
        """
        heads = self.accuracies[hierarchy]
        return heads[-2:][0] if self.has_output else heads[-1]

    def ranked(self, hierarchy: Hierarchy, by: RankedBy) -> float:
        """What pruning ranks by, as the study asks."""
        return self.output(hierarchy) if by == "output" else self.deepest_head(hierarchy)

    def output(self, hierarchy: Hierarchy) -> float:
        """The output layer's accuracy: at the last rung, the objective."""
        if not self.has_output:
            raise ValueError(
                f"the output layer of {hierarchy} is not trained yet at step {self.step}"
            )
        return self.accuracies[hierarchy][-1]


@dataclass(frozen=True)
class Safe:
    """A place between two rungs where learners can be saved, and trained on from the rung before:
    what is trained already is not trained again.
    """
