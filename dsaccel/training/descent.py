"""Go down a trie with a batch, depth first: to train its units, and to read their heads."""

from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from dsaccel.nn.labels import Labels
from dsaccel.nn.similarity import exact
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.rung import Exit, Read, num_in_ensemble
from dsaccel.spec.trie import Node, Trie
from dsaccel.training.cuda_streams import ONE_LANE, Lanes
from dsaccel.training.learner import Learner


class Batches(Protocol):
    """The batches that a schedule needs."""

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
    trained: Mapping[Node, int] | None = None,
) -> dict[Hierarchy, Read]:
    """The accuracies of all heads and exits of each living network.

    One descent reads all of all networks; the device is asked for figures once, at the end. Given
    how many units of each node are trained so far, only their heads are read, and networks that
    have none are left out.
    """
    if trained is None:
        trained = {node: node.segment.num_units for node in trie.nodes()}
    for learner in learners.values():
        learner.start_evaluation()
    correct: dict[Node, Tensor] = {}
    num_images = 0
    for x, y in batches:
        for node, right in _right(trie.roots, learners, trained, x, y):
            counts = right.sum(dim=1)
            correct[node] = correct[node] + counts if node in correct else counts
        num_images += len(y)
    counts = torch.cat(list(correct.values())).tolist()
    accuracies: dict[Node, list[float]] = {}
    for node, counted in correct.items():
        accuracies[node] = [count / num_images for count in counts[: len(counted)]]
        counts = counts[len(counted) :]
    read = {h: _read(trie, h, accuracies) for h in trie.living}
    return {h: found for h, found in read.items() if found is not None}


def right_images(
    trie: Trie, learners: Mapping[Node, Learner], batches: Iterator[tuple[Tensor, Tensor]]
) -> dict[Hierarchy, Tensor]:
    """Whether the exit of each living network gets each image right, (N,), on the CPU."""
    ends = {h: trie.path(h)[-1] for h in trie.living}
    trained = {node: node.segment.num_units for node in trie.nodes()}
    for learner in learners.values():
        learner.start_evaluation()
    by_end: dict[Node, list[Tensor]] = {end: [] for end in ends.values()}
    for x, y in batches:
        for node, right in _right(trie.roots, learners, trained, x, y):
            if node in by_end:
                place = {"layer": -2, "head": node.segment.num_read - 1, "ensemble": -1}[trie.exit]
                by_end[node].append(right[place].cpu())
    return {h: torch.cat(by_end[end]) for h, end in ends.items()}


def _read(
    trie: Trie, hierarchy: Hierarchy, accuracies: Mapping[Node, Sequence[float]]
) -> Read | None:
    """What was read of one network; each node's last value is that of the ensemble up to it."""
    whole = trie.path(hierarchy)
    path = [node for node in whole if node in accuracies]
    if not path:
        return None
    heads = [a for node in path for a in accuracies[node][:-1]]
    own = [a for node in path for a in accuracies[node][:-1][: node.segment.num_read]]
    exits: dict[Exit, float] = {"head": own[-1], "ensemble": accuracies[path[-1]][-1]}
    end = whole[-1]
    if end not in accuracies or len(accuracies[end]) <= end.segment.num_units:
        return Read(tuple(heads), exits)
    if end.segment.output is not None:
        exits["layer"] = heads[-1]
    return Read(tuple(heads), exits, exits[trie.exit])


def learning(
    roots: list[Node], learners: Mapping[Node, Learner], lanes: Lanes = ONE_LANE
) -> Callable[[Tensor, Tensor], None]:
    """A step on images and labels, to be taken for batch after batch."""
    labels = Labels(torch.empty(0))

    def step(x: Tensor, y: Tensor) -> None:
        labels.follow(y, x)
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
    """Train on a batch, depth first: features live only until the last child has read them."""
    labels = y if isinstance(y, Labels) else Labels(y, x)  # once for all units
    stack = [(node, x) for node in reversed(roots)]
    del x
    with lanes.step():
        while stack:
            node, features = stack.pop()
            features = learners[node].step(features, labels, lanes)
            stack += [(child, features) for child in reversed(node.children)]


def is_right(logits_BK: Tensor, y_B: Tensor) -> Tensor:
    """Whether each image gets its class, (B,); a network that diverged gets none right."""
    return (logits_BK.argmax(dim=1) == y_B) & logits_BK.isfinite().all(dim=1)


def _right(
    roots: list[Node],
    learners: Mapping[Node, Learner],
    trained: Mapping[Node, int],
    x: Tensor,
    y: Tensor,
) -> Iterator[tuple[Node, Tensor]]:
    """Whether each head of a node, and at last the ensemble up to it, gets each image right
    (heads + 1, B), down the trie.
    """
    stack = [(node, x, ()) for node in reversed(roots) if node in trained]
    del x
    while stack:
        node, features, below = stack.pop()
        features, logits = learners[node].evaluate(features)
        logits = logits[: trained[node]]
        own = [exact(out).softmax(dim=1) for out in logits[: node.segment.num_read]]
        heads: tuple[Tensor, ...] = (*below, *own)
        ensemble = torch.stack(heads[-num_in_ensemble(len(heads)) :]).mean(dim=0)
        yield node, torch.stack([is_right(out, y) for out in (*logits, ensemble)])
        stack += [(child, features, heads) for child in reversed(node.children) if child in trained]
