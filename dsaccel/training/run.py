"""Networks that are trained together, from rung to rung, and what they have reached.

How they come to their next rung is a subclass's business: in this process, in parts, or off a
table. A run that was cut off yields its saved rungs again before it trains on: who decides between
two rungs decides once more, and comes to the same.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Generator, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import astuple
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from dsaccel import stopping
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.plan import Plan
from dsaccel.spec.rung import Divergence, Read, Rung, Safe
from dsaccel.spec.trie import Node, Trie
from dsaccel.training.crew import Crew

if TYPE_CHECKING:
    from dsaccel.schedules import Schedule


class Keeper(Protocol):
    """Keeps what a run goes on from."""

    key: str
    """Equal for runs that learn the same."""

    def save(self, *, now: bool = False) -> None:
        """Save it if it is time; `now`: in any case."""
        ...


R = TypeVar("R", bound="Run", covariant=True)


class Trainer(Protocol[R]):
    """Who trains a cohort up to each of its stops, or knows what it comes to."""

    def start(
        self,
        plans: Mapping[Hierarchy, Plan],
        harvest: Mapping[Hierarchy, Plan],
        schedule: "Schedule",
        stops: Collection[int],
    ) -> R:
        """A run of these networks, from where it was cut off if it was.

        Args:
            plans: the networks that are asked for.
            harvest: networks that are read on the way where possible.
            schedule: in which order units learn.
            stops: the rungs after which networks may be retired.
        """
        ...


class Run(ABC):
    """The networks of `plans`; those of `harvest` are read on the way where possible."""

    keeper: Keeper | None = None
    crew: Crew | None = None
    """The crew that trains it in parts, if one does."""

    def __init__(
        self,
        plans: Mapping[Hierarchy, Plan],
        schedule: "Schedule",
        harvest: Mapping[Hierarchy, Plan] | None = None,
    ) -> None:
        self.schedule = schedule
        self.trie = Trie(plans)
        self.harvested = [
            h for h, plan in (harvest or {}).items() if self.trie.add_harvest(h, plan)
        ]
        self.num_steps = schedule.num_steps(self.trie.num_stages)
        """The last rung, which is not reached if all networks are retired before."""
        self.history: list[Rung] = []
        """The rungs so far, oldest first."""
        self.time_s: dict[Hierarchy, float] = dict.fromkeys(self.trie.living, 0.0)
        """Each network's share of the training time: a node's time, which is taken to be in
        proportion to its FLOPs, is shared equally by the networks that pass through it."""
        self.alone_s: dict[Hierarchy, float] = dict.fromkeys(self.trie.living, 0.0)
        """The time that training each alone would take one worker, estimated: the work of all times
        its share of the FLOPs."""
        self._seconds: list[tuple[float, float]] = []
        """The seconds of each rung, and those that one worker would have taken for it."""
        self._saved: list[tuple[Rung, tuple[float, float]]] = []
        """The rungs to yield again, with their seconds."""
        self._spent_s = 0.0
        """The time since the last rung, of a run that was cut off."""
        self._since: float | None = None
        """When the training since the last rung was begun."""
        self._start = 0
        """The rung at which this run took its networks over."""
        self._trained_step = 0
        """The rung to which all is trained already, though not all may be yielded yet."""
        self._retired_blocks = Fraction(0)
        self._lost: dict[Hierarchy, Divergence] = {}
        """The places where retired networks diverged; their weights are gone."""

    @property
    def step(self) -> int:
        """The rung behind us: epochs, or stages if the schedule is sequential."""
        return self.history[-1].step if self.history else 0

    @property
    def at_rest(self) -> bool:
        """Whether what was yielded last is all that was trained: it can be saved or left off."""
        return self.step >= self._trained_step

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to train."""
        return self.step == self.num_steps or not self.trie.asked

    def rungs(self) -> Generator[Rung]:
        """Train on to the last rung; networks may be retired between two rungs, even all."""
        for rung, seconds in self._saved[len(self.history) :]:
            self._arrive(rung, seconds)
            yield rung
        with nullcontext() if self.keeper is None else stopping.waiting():
            yield from self._new_rungs()

    def retire(self, hierarchies: Collection[Hierarchy]) -> None:
        """Take networks out between two rungs; what no other needs is trained no further."""
        self._lost |= {h: lost for h in hierarchies if (lost := self.diverged(h))}
        nodes = set(self.trie.nodes())
        self.trie.retire(set(hierarchies))
        nodes -= set(self.trie.nodes())
        self._retired_blocks += sum(map(self._blocks_of, nodes))

    def save(self, *, now: bool = False) -> None:
        """Save all that it goes on from, if somebody keeps it and it can be saved here.

        Args:
            now: whether it is time in any case.
        """
        if self.keeper is not None and self.at_rest and not self.is_over:
            self.keeper.save(now=now)

    @property
    def blocks(self) -> Fraction:
        """Blocks (stem counted) that have learned, each as far as it has: one that was retired
        after a quarter of its epochs counts a quarter, and one of two units of which one has
        learned counts a half.
        """
        return self._retired_blocks + sum(map(self._blocks_of, self.trie.nodes()))

    @property
    def blocks_trained(self) -> float:
        """`blocks` as a plain number."""
        return int(self.blocks) if self.blocks.denominator == 1 else float(self.blocks)

    def reads(self, hierarchy: Hierarchy) -> list[Read]:
        """The readings of a network, rung by rung."""
        return [rung.read[hierarchy] for rung in self.history if hierarchy in rung.read]

    def head_accuracies(self, hierarchy: Hierarchy) -> list[list[float]]:
        """A network's accuracies (0..1): rungs x heads in order of depth, an output layer's last.

        Ragged if the schedule is sequential: a rung has the heads trained so far.
        """
        return [list(read.heads) for read in self.reads(hierarchy)]

    def prefixes(self) -> dict[Hierarchy, int]:
        """The number of each network's last trained node: equal for those that share all so far."""
        begun = {node for node in self.trie.nodes() if self.schedule.trained(node, self.step) > 0}
        trained: dict[Hierarchy, int] = {}
        for h in self.trie.living:
            numbers = [node.number for node in self.trie.path(h) if node in begun]
            trained[h] = numbers[-1] if numbers else -1
        return trained

    def epochs_trained(self, hierarchy: Hierarchy) -> int:
        """Epochs that a network has learned for; if sequential, the sum over its units."""
        return self.schedule.epochs_trained(self.trie.path(hierarchy), self.step)

    def diverged(self, hierarchy: Hierarchy) -> Divergence | None:
        """The place where the training of a network has left the finite numbers, if it has."""
        return self._lost.get(hierarchy)

    def state_dict(self) -> dict[str, Any]:
        """The state from which a run of the same networks goes on, as plain numbers."""
        return {
            "history": [
                (*rung.values(), *seconds)
                for rung, seconds in zip(self.history, self._seconds, strict=True)
            ],
            "spent": self._rung_s,
            "lost": {str(h): astuple(divergence) for h, divergence in self._lost.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where a run of the same networks was saved, before any rung."""
        of_text = {str(h): h for h in self.trie.living}
        for step, texts, seconds, *of_one in state["history"]:
            rung = Rung.of(step, texts, self.trie.living)
            # of an earlier version, which did not know what one worker would have taken
            self._saved.append((rung, (seconds, *(of_one or [seconds]))))
        self._trained_step = self._saved[-1][0].step if self._saved else 0
        self._spent_s = state.get("spent", 0.0)
        self._lost = {of_text[text]: Divergence(*lost) for text, lost in state["lost"].items()}

    @abstractmethod
    def _train(self) -> Iterator[Rung | Safe]:
        """Train on from the rung behind us; between two rungs there may be places to save at."""

    def _new_rungs(self) -> Iterator[Rung]:
        """Rungs as they are reached; saves now and then, and at once before it is stopped."""
        self._since = time.perf_counter()
        for reached in self._train():
            if isinstance(reached, Rung):
                seconds = self._rung_s
                self._arrive(reached, (seconds, seconds * self._num_at_work))
                self._since, self._spent_s = None, 0.0
                try:
                    yield reached
                except GeneratorExit:  # whoever asks for rungs has had enough
                    self.save()
                    raise
                self._since = time.perf_counter()
            self.save(now=stopping.is_wished())
            stopping.leave()

    @property
    def _rung_s(self) -> float:
        """The seconds since the last rung."""
        return self._spent_s + (0.0 if self._since is None else time.perf_counter() - self._since)

    @property
    def _num_at_work(self) -> float:
        """Workers that were at work on the average, but for what they have trained twice."""
        if self.crew is None:
            return 1.0
        return len(self.crew.names) * (1 - self.crew.idle) / (1 + self.crew.twice)

    def _arrive(self, rung: Rung, seconds: tuple[float, float]) -> None:
        self._share_time(*seconds, rung.step)
        self._seconds.append(seconds)
        self.history.append(rung)

    def _blocks_of(self, node: Node) -> Fraction:
        """The blocks of a node that this run has trained."""
        trained = self.schedule.trained
        return node.num_blocks * (trained(node, self.step) - trained(node, self._start))

    def _share_time(self, seconds: float, of_one: float, step: int) -> None:
        """Share the time of the way to a rung, and what it would have taken one worker."""
        trained = self.schedule.trained
        flops = {
            node: float(node.segment.flops * (trained(node, step) - trained(node, self.step)))
            for node in self.trie.nodes()
        }
        total = sum(flops.values()) or 1.0  # none, where no unit ends in a stage
        for node, share in flops.items():
            for h in node.asked:
                self.time_s[h] += seconds * share / total / len(node.asked)
        for h in self.trie.living:
            self.alone_s[h] += of_one * sum(flops[node] for node in self.trie.path(h)) / total
