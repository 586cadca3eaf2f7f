"""Schedules of training: in which order the units of a trie learn, a file each.

A schedule yields rungs and decides nothing: who retires is decided between two. It also says what
follows from the order: what a rung comes after, what is trained and can be read by then, and where
networks can be ranked.
"""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Iterator, MutableMapping
from fractions import Fraction
from typing import TYPE_CHECKING, ClassVar, Literal

from dsaccel.config.section import Section
from dsaccel.config.study import PruningConfig, TrainingConfig
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.rung import Epoch, RankedBy, Rung, Safe
from dsaccel.spec.trie import Node, Trie

if TYPE_CHECKING:
    from dsaccel.training.descent import Batches
    from dsaccel.training.learner import Learner

Asked = Literal["at rungs", "after every step", "never"]
"""When a pruner wants to decide."""


class Schedule(Section, ABC):
    """A kind of schedule; its fields are its options.

    An option that `[training]` has too is taken from there.
    """

    step_name: ClassVar[Literal["epoch", "stage"]]
    """The unit of training that a rung comes after."""
    all_at_once: ClassVar[bool]
    """Whether all units learn from the same batch; if not, each needs memory only in its turn."""
    ranked_by: ClassVar[tuple[RankedBy, ...]]
    """The accuracies that can be read of a network before the last rung."""

    epochs: int
    """Epochs of all units together, or of each."""

    @abstractmethod
    def num_steps(self, num_stages: int) -> int:
        """The last rung, at which networks are trained to their end."""

    @abstractmethod
    def trained(self, node: Node, step: int) -> Fraction:
        """The share of a node's training that is done at a rung, 0 to 1."""

    @abstractmethod
    def epochs_trained(self, nodes: Iterable[Node], step: int) -> int:
        """Epochs that a network of these nodes has learned for at a rung."""

    @abstractmethod
    def prefix(self, hierarchy: Hierarchy, step: int) -> Hashable:
        """Equal for hierarchies that are one network as far as it is trained at a rung."""

    @abstractmethod
    def stops(
        self, pruning: PruningConfig, training: TrainingConfig, num_stages: int, asked: Asked
    ) -> tuple[int, ...]:
        """The rungs at which a pruner that is to be asked so may decide, ascending, all before the
        last.

        Raises:
            ConfigError: if the settings of pruning do not go with this schedule.
        """

    @abstractmethod
    def rungs(
        self,
        trie: Trie,
        learners: "MutableMapping[Node, Learner]",
        data: "Batches",
        *,
        start: int,
        within: Safe,
    ) -> Iterator[Rung | Safe | Epoch]:
        """Train the networks of a trie, and yield a rung after each step, while one of them lives;
        between two rungs, `Safe` where learners may be saved, and `Epoch` where curves may be
        recorded, unless a step is an epoch.

        Args:
            trie: the networks; what retires between two rungs is trained no further.
            learners: one a node; those of retired nodes are dropped, which frees their memory.
            data: batches of images and labels on the learners' device.
            start: steps that the learners have behind them.
            within: what they have behind them since then: the last `Safe` that was yielded.
        """

    def has_output(self, step: int, num_stages: int) -> bool:
        """Whether the output layers are trained and read at a rung."""
        return "output" in self.ranked_by or step == self.num_steps(num_stages)
