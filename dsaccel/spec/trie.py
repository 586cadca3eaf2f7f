"""Networks merged where they train identically: every shared prefix is one node.

Two nodes are merged if and only if their segments and all segments before them are equal. A node
lives as long as a network that was asked for lives below it; the ends of networks that nobody
asked for (to be harvested) live as long as the node they end on.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.plan import Plan, Segment
from dsaccel.spec.rung import Exit


@dataclass(eq=False)
class Node:
    """One segment, trained once for all networks that share it and everything before it."""

    segment: Segment
    parent: "Node | None"
    number: int
    """Counts the nodes of a trie in the order they were made: its name in a checkpoint."""
    children: list["Node"] = field(default_factory=list)
    asked: set[Hierarchy] = field(default_factory=set)
    """The living networks that pass through here."""
    harvested: set[Hierarchy] = field(default_factory=set)
    """The networks that end here without having been asked for."""

    @property
    def num_blocks(self) -> int:
        """Blocks that a hierarchy counts, and the stem; the fully connected units are neither."""
        return sum(block.layers[0].kind == "conv" for block in self.segment.blocks)

    @property
    def stage(self) -> int:
        """The stage in which the segment ends: the stem is in the first, fc units in the last."""
        stages = [block.stage for block in self.segment.blocks if block.layers[0].kind == "conv"]
        if stages:
            return max(1, stages[-1])
        assert self.parent is not None
        return self.parent.stage


class Trie:
    """A cohort's networks, by hierarchy, with their shared prefixes merged."""

    def __init__(self, plans: Mapping[Hierarchy, Plan]) -> None:
        exits: list[Exit] = [plan.exit for plan in plans.values()]
        self.exit: Exit = exits[0] if exits else "layer"
        """The exit where all of them are read."""
        self.roots: list[Node] = []
        self._ends: dict[Hierarchy, Node] = {}
        self._num_nodes = 0
        self.blocks_trained = 0
        """Blocks (stem counted) in distinct nodes, over the trie's whole life."""
        self.blocks_separate = 0
        """Blocks that training each asked network on its own would have needed."""
        for hierarchy, plan in plans.items():
            self._add(hierarchy, plan)

    @property
    def asked(self) -> list[Hierarchy]:
        """The living networks that were asked for, in the order they were given."""
        return [hierarchy for hierarchy, node in self._ends.items() if hierarchy in node.asked]

    @property
    def living(self) -> list[Hierarchy]:
        """All living networks."""
        return list(self._ends)

    @property
    def num_stages(self) -> int:
        """The stages of the living networks, which all have as many."""
        return max((node.stage for node in self.nodes()), default=0)

    def nodes(self) -> Iterator[Node]:
        """The living nodes, depth first, a parent before its children."""
        stack = self.roots[::-1]
        while stack:
            node = stack.pop()
            yield node
            stack += node.children[::-1]

    def path(self, hierarchy: Hierarchy) -> list[Node]:
        """A network's nodes from the first segment to the last."""
        path: list[Node] = []
        node: Node | None = self._ends[hierarchy]
        while node is not None:
            path.append(node)
            node = node.parent
        return path[::-1]

    def add_harvest(self, hierarchy: Hierarchy, plan: Plan) -> bool:
        """Read one more network off the trie, if all of it but an output layer is there anyway."""
        *prefix, last = plan.segments
        is_end = last.output is None
        found = self._find([*prefix, last] if is_end else prefix)
        if found is None or hierarchy in self._ends or (last.blocks and not is_end):
            return False
        node = found if is_end else self._child(found, last)
        node.harvested.add(hierarchy)
        self._ends[hierarchy] = node
        return True

    def retire(self, hierarchies: set[Hierarchy]) -> None:
        """Take networks out; what no living network needs goes with them."""
        for hierarchy in hierarchies:
            for node in self.path(hierarchy):
                node.asked.discard(hierarchy)
        self.roots = _alive(self.roots)
        living = set(self.nodes())
        # two hierarchies may stand for one network: settings that say the same in other words
        self._ends = {
            hierarchy: node
            for hierarchy, node in self._ends.items()
            if node in living and hierarchy in node.asked | node.harvested
        }

    def _add(self, hierarchy: Hierarchy, plan: Plan) -> None:
        node: Node | None = None
        for segment in plan.segments:
            node = self._child(node, segment)
            node.asked.add(hierarchy)
            self.blocks_separate += node.num_blocks
        assert node is not None
        self._ends[hierarchy] = node

    def _child(self, parent: Node | None, segment: Segment) -> Node:
        """The node of a segment after `parent`, made if it is not there."""
        siblings = self.roots if parent is None else parent.children
        for node in siblings:
            if node.segment == segment:
                return node
        node = Node(segment, parent, self._num_nodes)
        self._num_nodes += 1
        self.blocks_trained += node.num_blocks
        siblings.append(node)
        return node

    def _find(self, segments: list[Segment]) -> Node | None:
        node: Node | None = None
        for segment in segments:
            siblings = self.roots if node is None else node.children
            node = next((child for child in siblings if child.segment == segment), None)
            if node is None:
                return None
        return node


def _alive(nodes: list[Node]) -> list[Node]:
    """The nodes that a living network needs, their children pruned likewise."""
    living = []
    for node in nodes:
        is_output = not node.segment.blocks
        needed_by_harvest = is_output and node.harvested and node.parent and node.parent.asked
        if node.asked or needed_by_harvest:
            node.children = _alive(node.children)
            living.append(node)
    return living
