"""The recorder of curves: what each unit has reached after each epoch, on images that it learns
from and on others.

It looks at learners between two epochs, in evaluation mode, and draws no random number: no bit of
training depends on it. What it has seen goes on with the next rung.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor

from dsaccel.nn.labels import Labels
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.plan import Plan
from dsaccel.spec.rung import Point, Rung
from dsaccel.spec.trie import Node, Trie
from dsaccel.spec.unit_names import head_names
from dsaccel.training.descent import Batches, is_right
from dsaccel.training.learner import Learner


class Seen(Batches, Protocol):
    """Images of which some training images are there as they are, too."""

    def seen_batches(self) -> Iterator[tuple[Tensor, Tensor]]: ...


class Recorder:
    """Records some networks of a trie."""

    def __init__(self, trie: Trie, plans: Mapping[Hierarchy, Plan], data: Any) -> None:
        """
        Args:
            trie: what is trained.
            plans: the networks that are recorded.
            data: `Seen`.
        """
        self._trie, self._data = trie, data
        self._names = {hierarchy: head_names(plan) for hierarchy, plan in plans.items()}
        self._waiting: dict[Hierarchy, list[Point]] = {}
        """The points that no rung has taken along yet."""

    def look(
        self, learners: Mapping[Node, Learner], epoch: int, learned: Mapping[Node, Collection[int]]
    ) -> None:
        """Record an epoch (1-based) of the units (0-based) of some nodes, which have learned."""
        living = self._trie.living
        paths = {h: self._trie.path(h) for h in self._names if h in living}
        nodes = {node for path in paths.values() for node in path}
        if nodes.isdisjoint(learned):
            return
        needed = {above for node in nodes & set(learned) for above in _lineage(node)}
        for learner in learners.values():
            learner.start_evaluation()
        seen, val = (
            _figures(self._trie, learners, needed, batches)
            for batches in (self._data.seen_batches(), self._data.val_batches())
        )
        for hierarchy, path in paths.items():
            names = iter(self._names[hierarchy])
            for node in path:
                for unit, name in zip(range(node.segment.num_units), names, strict=False):
                    if unit in learned.get(node, ()):
                        learner = learners[node]
                        rate = learner.training.learning_rate_at(epoch, learner.learning_rate)
                        point = Point(name, epoch, rate, *seen[node][unit], *val[node][unit])
                        self._waiting.setdefault(hierarchy, []).append(point)

    def hand_over(self, rung: Rung) -> Rung:
        """The rung with what was recorded since the one before."""
        read = {
            h: replace(read, points=tuple(self._waiting.pop(h))) if h in self._waiting else read
            for h, read in rung.read.items()
        }
        return replace(rung, read=read)

    def state_dict(self) -> dict[str, Any]:
        """The points that no rung has taken along yet, as plain numbers."""
        return {str(h): [p.values() for p in points] for h, points in self._waiting.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        of_text = {str(hierarchy): hierarchy for hierarchy in self._names}
        self._waiting = {
            of_text[text]: [Point(*values) for values in points]
            for text, points in state.items()
            if text in of_text
        }


def _lineage(node: Node) -> Iterator[Node]:
    """A node and all below it."""
    above: Node | None = node
    while above is not None:
        yield above
        above = above.parent


def _figures(
    trie: Trie,
    learners: Mapping[Node, Learner],
    needed: Collection[Node],
    batches: Iterator[tuple[Tensor, Tensor]],
) -> dict[Node, list[list[float]]]:
    """Accuracy and loss of each unit of these nodes: means over all images."""
    sums: dict[Node, Tensor] = {}
    num_images = 0
    for x, y_B in batches:
        labels, stack = Labels(y_B, x), [(node, x) for node in trie.roots if node in needed]
        while stack:
            node, features = stack.pop()
            features, read = learners[node].losses(features, labels)
            figures = torch.stack(
                [
                    torch.stack([is_right(logits, y_B).sum(), len(y_B) * loss]).double()
                    for logits, loss in read
                ]
            )
            sums[node] = sums[node] + figures if node in sums else figures
            stack += [(child, features) for child in node.children if child in needed]
        num_images += len(y_B)
    return {node: (figures / num_images).tolist() for node, figures in sums.items()}
