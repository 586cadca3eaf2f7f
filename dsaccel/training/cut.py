"""Cut a cohort into parts of about equal cost, for several workers at the same time.

In lexicographic order neighbours share the longest prefixes, so parts are runs of neighbours. What
two parts share is trained in both: that is the price.
"""

from collections.abc import Mapping, Sequence

from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.trie import Node, Trie

ROUNDS = 30
"""The rounds of halving what the costliest part may cost."""

Cut = list[tuple[Hierarchy, ...]]


def balanced(
    trie: Trie, hierarchies: Sequence[Hierarchy], cost: Mapping[Node, float], num_parts: int
) -> Cut:
    """Runs of hierarchies, at most so many, of which the costliest costs the least.

    Args:
        trie: of all of them.
        hierarchies: in order.
        cost: of training each node.
        num_parts: to be trained at the same time.
    """
    if num_parts <= 1 or not hierarchies:
        return [tuple(hierarchies)] if hierarchies else []
    paths = {h: trie.path(h) for h in hierarchies}
    low = max(sum(cost[node] for node in path) for path in paths.values())
    high = max(low, sum(cost.values()))
    best = [tuple(hierarchies)]
    for _ in range(ROUNDS):
        middle = (low + high) / 2
        cut = _runs(hierarchies, paths, cost, middle)
        if len(cut) <= num_parts:
            best, high = cut, middle
        else:
            low = middle
    return best


def _runs(
    hierarchies: Sequence[Hierarchy],
    paths: Mapping[Hierarchy, Sequence[Node]],
    cost: Mapping[Node, float],
    at_most: float,
) -> Cut:
    """Runs, each as long as its cost allows."""
    cut: list[list[Hierarchy]] = []
    known: set[Node] = set()
    spent = 0.0
    for h in hierarchies:
        more = sum(cost[node] for node in paths[h] if node not in known)
        if not cut or spent + more > at_most:
            cut.append([])
            known, spent = set(), 0.0
            more = sum(cost[node] for node in paths[h])
        cut[-1].append(h)
        known.update(paths[h])
        spent += more
    return [tuple(run) for run in cut]


def costliest(
    cut: Cut, paths: Mapping[Hierarchy, Sequence[Node]], cost: Mapping[Node, float]
) -> float:
    """The cost of the costliest part."""
    nodes = ({node for h in part for node in paths[h]} for part in cut)
    return max((sum(cost[node] for node in each) for each in nodes), default=0.0)
