"""A rung: what a schedule has read when every living network has come equally far."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any, Literal

from dsaccel.spec.hierarchy import Hierarchy

if TYPE_CHECKING:
    from dsaccel.spec.trie import Node

Exit = Literal["layer", "head", "ensemble"]
"""Where a network is read: at its output layer, at its last unit's own head, or at the last half of
its heads (see `num_in_ensemble`) by the mean of their probabilities. A unit that the output layer
trains has that as its own head."""
RankedBy = Literal["head", "output", "ensemble"]
"""What pruning ranks by: the deepest trained head, the output layer, or the ensemble so far."""
EXIT_OF: Mapping[RankedBy, Exit] = {"head": "head", "output": "layer", "ensemble": "ensemble"}


def num_in_ensemble(num_heads: int) -> int:
    """How many of a network's heads, the deepest ones, its ensemble is made of."""
    return -(-num_heads // 2)


@dataclass(frozen=True)
class Divergence:
    """A network's weights have become infinite or no numbers."""

    unit: int
    """The first one whose weights are not finite, 1-based; those above it learn nothing either."""
    num_units: int
    """Units of the network, the output layer counted."""
    step: int | None
    """The rung at which it was seen first, if it was seen at a rung."""


@dataclass(frozen=True)
class Point:
    """What a unit has reached after an epoch, in evaluation mode: a point of its curves."""

    head: str
    """The unit's name: `stem`, `s2.1 conv 2`, `output`."""
    epoch: int
    """1-based; of the unit itself under the sequential schedule."""
    learning_rate: float
    """Throughout this epoch."""
    train_accuracy: float
    """0..1, of some training images as they are: as many as there are validation images."""
    train_loss: float
    """The loss that the unit learns from, on the same images."""
    val_accuracy: float
    val_loss: float

    def values(self) -> tuple[str | float, ...]:
        """Plain, in the order of the fields."""
        return astuple(self)


@dataclass(frozen=True)
class Read:
    """What was read of a network: validation accuracies, 0..1."""

    heads: tuple[float, ...]
    """The accuracies of its trained heads in order of depth, an output layer's last."""
    exits: Mapping[Exit, float]
    """The accuracy of each exit that it has so far."""
    objective: float | None = None
    """The accuracy of the exit that the study reads; None: it is not trained yet."""
    points: tuple[Point, ...] = ()
    """The points of its curves since the rung before, if they are recorded."""

    @classmethod
    def of(cls, heads: Any, exits: Any, objective: Any, points: Any = ()) -> "Read":
        """A reading of plain values, as `astuple` gives them."""
        return cls(tuple(heads), exits, objective, tuple(Point(*values) for values in points))


@dataclass(frozen=True)
class Rung:
    step: int
    """How far (Optuna's `step`, 1-based): epochs if `simultaneous`, stages if `sequential`."""
    read: dict[Hierarchy, Read]
    """What was read of each living network; one without a trained head is left out."""

    @classmethod
    def of(cls, step: int, texts: Mapping[str, Any], known: Iterable[Hierarchy]) -> "Rung":
        """A rung of plain values, as `values` gives them.

        Args:
            step: of the rung.
            texts: what was read, by a hierarchy's text.
            known: all hierarchies.
        """
        return cls(step, {h: Read.of(*texts[str(h)]) for h in known if str(h) in texts})

    def values(self) -> tuple[int, dict[str, Any]]:
        """Plain."""
        return self.step, {
            str(h): (
                read.heads,
                read.exits,
                read.objective,
                tuple(point.values() for point in read.points),
            )
            for h, read in self.read.items()
        }

    @property
    def accuracies(self) -> dict[Hierarchy, tuple[float, ...]]:
        """The accuracies of each network's trained heads."""
        return {hierarchy: read.heads for hierarchy, read in self.read.items()}

    def objective(self, hierarchy: Hierarchy) -> float:
        """The accuracy of the exit that the study reads: at the last rung, the objective."""
        objective = self.read[hierarchy].objective
        if objective is None:
            raise ValueError(f"the exit of {hierarchy} is not trained yet at step {self.step}")
        return objective

    def deepest_head(self, hierarchy: Hierarchy) -> float:
        """The accuracy of the last trained unit's own head."""
        return self.read[hierarchy].exits["head"]

    def ranked(self, hierarchy: Hierarchy, by: RankedBy) -> float:
        """What pruning ranks by, as the study asks."""
        return self.read[hierarchy].exits[EXIT_OF[by]]


@dataclass(frozen=True)
class Epoch:
    """An epoch between two rungs has passed, and its curves can be recorded."""

    number: int
    """1-based."""
    learned: Mapping["Node", Collection[int]]
    """The nodes of which units (0-based) have learned, and these."""


@dataclass(frozen=True)
class Safe:
    """A place between two rungs at which learners can be saved, to go on from there."""

    epoch: int = 1
    """The epoch of the units that learn, 1-based."""
    batches: int = 0
    """The batches of this epoch that they have learned from."""

    def behind(self, epoch: int) -> int:
        """The batches of an epoch that have been learned from."""
        return self.batches if epoch == self.epoch else 0


BEGINNING = Safe()
"""Where the way to a rung begins."""
