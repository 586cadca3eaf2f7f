"""How long parts of a cohort take: by FLOPs and values at first, then by measured seconds."""

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from dsaccel.spec.trie import Node, Trie

if TYPE_CHECKING:
    from dsaccel.schedules import Schedule

STRIDE_S = 120.0
"""Parts are trained about this long before all catch up: the shorter, the more time goes into
writing learners and waiting; the longer, the more is lost to an interruption."""


class Pace:
    """The pace of a cohort."""

    def __init__(self, trie: Trie, schedule: "Schedule") -> None:
        self._trie, self._trained = trie, schedule.trained
        self._rates: dict[Node, float] = {}
        """Seconds by work, as far as they were measured."""
        self._slowest: tuple[int, float] | None = None
        """The rung that parts were trained from last, and the seconds a rung of the slowest one."""

    @property
    def stride(self) -> int:
        """Rungs that parts are trained before all catch up; the first one is measured."""
        if self._slowest is None:
            return 1
        return max(1, int(STRIDE_S / max(self._slowest[1], 1e-9)))

    def note(self, nodes: Collection[Node], start: int, stop: int, seconds: float) -> None:
        """Note how long it took to train these from a rung to another."""
        total = sum(self._work(nodes, start, stop).values()) or 1.0
        self._rates |= dict.fromkeys(nodes, seconds / total)
        pace_s = seconds / (stop - start)
        if self._slowest is not None and self._slowest[0] == start:
            pace_s = max(pace_s, self._slowest[1])
        self._slowest = start, pace_s

    def state_dict(self) -> dict[str, Any]:
        """What was measured, as plain numbers."""
        rates = {node.number: rate for node, rate in self._rates.items()}
        return {"rates": rates, "slowest": self._slowest}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take what was measured of the same cohort."""
        rates = state["rates"]
        self._rates = {n: rates[n.number] for n in self._trie.nodes() if n.number in rates}
        self._slowest = state["slowest"] and tuple(state["slowest"])

    def costs(self, start: int, stop: int) -> dict[Node, float]:
        """The cost of training each living node on: the seconds, as far as they were measured."""
        nodes = list(self._trie.nodes())
        rates = [self._rates[node] for node in nodes if node in self._rates]
        usual = sum(rates) / len(rates) if rates else 1.0
        work = self._work(nodes, start, stop)
        return {node: each * self._rates.get(node, usual) for node, each in work.items()}

    def _work(self, nodes: Collection[Node], start: int, stop: int) -> dict[Node, float]:
        trained = self._trained
        return {
            node: float(node.segment.work * (trained(node, stop) - trained(node, start)))
            for node in nodes
        }
