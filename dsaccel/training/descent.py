"""Go down a trie with a batch, depth first: to train its units, and to read their heads."""

from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping
from typing import Protocol

import torch
from torch import Tensor

from dsaccel.nn.labels import Labels
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.trie import Node, Trie
from dsaccel.training.cuda_streams import ONE_LANE, Lanes
from dsaccel.training.learner import Learner


class Batches(Protocol):
    """What a schedule needs of the data."""

    def train_batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]: ...

    def val_batches(self) -> Iterator[tuple[Tensor, Tensor]]: ...


def drop_retired(trie: Trie, learners: MutableMapping[Node, Learner]) -> bool:
    """Free the learners of the nodes that are no longer in the trie; returns if there were any."""
    retired = set(learners) - set(trie.nodes())
    for node in retired:
        del learners[node]
    return bool(retired)


def evaluate(
    trie: Trie,
    learners: Mapping[Node, Learner],
    batches: Iterator[tuple[Tensor, Tensor]],
    trained: Collection[Node] | None = None,
) -> dict[Hierarchy, tuple[float, ...]]:
    """Accuracy (0..1) of all heads of each living network, the output layer's last.

    One descent reads all heads of all networks; the device is asked for figures once, at the end.
    Given the nodes that are trained so far, only their heads are read, and networks that have none
    are left out.
    """
    trained = set(trie.nodes()) if trained is None else trained
    for learner in learners.values():
        learner.start_evaluation()
    correct: dict[Node, Tensor] = {}
    num_images = 0
    for x, y in batches:
        _count_correct(trie.roots, learners, trained, x, y, correct)
        num_images += len(y)
    nodes = list(correct)
    counts = torch.cat([correct[node] for node in nodes]).tolist()
    accuracies: dict[Node, tuple[float, ...]] = {}
    for node in nodes:
        num_heads = len(correct[node])
        accuracies[node] = tuple(count / num_images for count in counts[:num_heads])
        counts = counts[num_heads:]
    of_all = {
        h: tuple(a for node in trie.path(h) for a in accuracies.get(node, ())) for h in trie.living
    }
    return {h: heads for h, heads in of_all.items() if heads}


def learning(
    roots: list[Node], learners: Mapping[Node, Learner], lanes: Lanes = ONE_LANE
) -> Callable[[Tensor, Tensor], None]:
    """A step on images and labels, to be taken for batch after batch."""
    labels = Labels(torch.empty(0))

    def step(x: Tensor, y: Tensor) -> None:
        labels.follow(y)
        # what is made of labels must be there before the lanes: the first step shows what it is
        train_batch(roots, learners, x, labels, lanes if labels else ONE_LANE)

    return step


def train_batch(
    roots: list[Node],
    learners: Mapping[Node, Learner],
    x: Tensor,
    y: Tensor | Labels,
    lanes: Lanes = ONE_LANE,
) -> None:
    """One batch, depth first. Features live until the last child has read them, no longer: memory
    grows with the branches that are open, not with depth.
    """
    labels = y if isinstance(y, Labels) else Labels(y)  # once for all units
    stack = [(node, x) for node in reversed(roots)]
    del x
    with lanes.step():
        while stack:
            node, features = stack.pop()
            features = learners[node].step(features, labels, lanes)
            stack += [(child, features) for child in reversed(node.children)]


def _is_right(logits_BK: Tensor, y_B: Tensor) -> Tensor:
    """Whether each image gets its class, (B,). A network that diverged says none: of what is not a
    number `argmax` is class 0, which may be the most frequent one.
    """
    return (logits_BK.argmax(dim=1) == y_B) & logits_BK.isfinite().all(dim=1)


def _count_correct(
    roots: list[Node],
    learners: Mapping[Node, Learner],
    trained: Collection[Node],
    x: Tensor,
    y: Tensor,
    correct: dict[Node, Tensor],
) -> None:
    """Add the number of right answers of each head to `correct`, down the trie."""
    stack = [(node, x) for node in reversed(roots) if node in trained]
    del x
    while stack:
        node, features = stack.pop()
        features, logits = learners[node].evaluate(features)
        right = torch.stack([_is_right(out, y).sum() for out in logits])
        correct[node] = correct[node] + right if node in correct else right
        stack += [(child, features) for child in reversed(node.children) if child in trained]
