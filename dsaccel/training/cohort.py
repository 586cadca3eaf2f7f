"""Networks trained together: a trie, a learner for each of its nodes, and what they have reached.

A cohort can be saved at any rung and goes on from there bit for bit.
"""

import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import astuple
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import torch

from dsaccel.config.study import TrainingConfig
from dsaccel.parts import part_of
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.plan import Plan
from dsaccel.spec.rung import Divergence, Read, Rung
from dsaccel.spec.trie import Node, Trie
from dsaccel.training.descent import Batches, drop_retired
from dsaccel.training.learner import Learner

if TYPE_CHECKING:
    from dsaccel.schedules import Schedule


class Cohort:
    """The networks of `plans`; those of `harvest` are read on the way where possible."""

    def __init__(
        self,
        plans: Mapping[Hierarchy, Plan],
        training: TrainingConfig,
        data: Batches,
        *,
        seed: int,
        device: torch.device,
        harvest: Mapping[Hierarchy, Plan] | None = None,
        schedule: "Schedule | None" = None,
    ) -> None:
        """
        Args:
            plans: the networks that are asked for.
            training: epochs, learning rate, schedule.
            data: batches on the device.
            seed: of all random numbers.
            device: where the learners are.
            harvest: networks that are read on the way where possible.
            schedule: in place of that of `training`.
        """
        self.training = training
        self.schedule: Schedule = schedule or part_of(training, "schedule")
        self.data = data
        self.device = device
        self.trie = Trie(plans)
        self.harvested = [
            h for h, plan in (harvest or {}).items() if self.trie.add_harvest(h, plan)
        ]
        self.num_steps = self.schedule.num_steps(self.trie.num_stages)
        """The last rung, which is not reached if all networks are retired before."""
        self.seed = seed
        self.learners = self._make_learners()
        self._blocks_learned = Fraction(0)
        """Summed over rungs; see `blocks_trained`."""
        self.history: list[Rung] = []
        """The rungs so far, oldest first."""
        self.time_s: dict[Hierarchy, float] = dict.fromkeys(self.trie.living, 0.0)
        """Each network's share of the training time: a node's time, which is taken to be in
        proportion to its FLOPs, is shared equally by the networks that pass through it."""

    @property
    def step(self) -> int:
        """The rung behind us: epochs, or stages if the schedule is sequential."""
        return self.history[-1].step if self.history else 0

    @property
    def at_rest(self) -> bool:
        """Whether what was yielded last is all that was trained: it can be saved or left off."""
        return True

    @property
    def in_memory(self) -> list[Hierarchy]:
        """The networks that were asked for and are held to be trained."""
        return self.trie.asked

    def rungs(self) -> Generator[Rung]:
        """Train on to the last rung; networks may be retired between two rungs, even all."""
        started = time.perf_counter()
        for rung in self._train():
            shares = self._learned(rung.step)
            self._share_time(time.perf_counter() - started, shares)
            self._count_blocks(shares)
            self.history.append(rung)
            yield rung
            started = time.perf_counter()

    @property
    def blocks_trained(self) -> float:
        """Blocks (stem counted) that have learned, each as far as it has: one that was retired
        after a quarter of its epochs counts a quarter, and one of two units of which one has
        learned counts a half.
        """
        blocks = self._blocks_learned
        return int(blocks) if blocks.denominator == 1 else float(blocks)

    def reads(self, hierarchy: Hierarchy) -> list[Read]:
        """What was read of a network, rung by rung."""
        return [rung.read[hierarchy] for rung in self.history if hierarchy in rung.read]

    def head_accuracies(self, hierarchy: Hierarchy) -> list[list[float]]:
        """A network's accuracies (0..1): rungs x heads in order of depth, an output layer's last.

        Ragged if the schedule is sequential: a rung has the heads trained so far.
        """
        return [list(read.heads) for read in self.reads(hierarchy)]

    def prefixes(self) -> dict[Hierarchy, int]:
        """The number of each network's last node that is trained so far: equal for those who share
        all that is.
        """
        trained: dict[Hierarchy, int] = {}
        for h in self.trie.living:
            path = self.trie.path(h)
            numbers = [n.number for n in path if self.schedule.trained(n, self.step) > 0]
            trained[h] = numbers[-1] if numbers else -1
        return trained

    def epochs_trained(self, hierarchy: Hierarchy) -> int:
        """Epochs that a network has learned for; if sequential, the sum over its units."""
        return self.schedule.epochs_trained(self.trie.path(hierarchy), self.step)

    def diverged(self, hierarchy: Hierarchy) -> Divergence | None:
        """Where the training of a network has left the finite numbers, if it has."""
        states = [unit for node in self.trie.path(hierarchy) for unit in self._unit_states(node)]
        for unit, state in enumerate(states, 1):
            if not all(tensor.isfinite().all() for tensor in state.values()):
                return Divergence(unit, len(states), self._lost_at(hierarchy, unit))
        return None

    def _lost_at(self, hierarchy: Hierarchy, unit: int) -> int | None:
        """The rung from which on a unit has told no image right; None: it was not read."""
        step = None
        for rung in self.history:
            heads = rung.accuracies.get(hierarchy, ())
            if len(heads) >= unit:
                step = None if heads[unit - 1] > 0 else step or rung.step
        return step

    def _unit_states(self, node: Node) -> list[dict[str, torch.Tensor]]:
        return [unit.state_dict() for unit in self.learners[node].units]

    def state_dict(self) -> dict[str, Any]:
        """All that a cohort of the same networks goes on from; plain numbers and tensors."""
        return {
            "living": [str(h) for h in self.trie.living],
            "history": [
                (rung.step, {str(h): astuple(read) for h, read in rung.read.items()})
                for rung in self.history
            ],
            "time_s": {str(h): time_s for h, time_s in self.time_s.items()},
            "blocks_learned": str(self._blocks_learned),
            "learners": {
                node.number: self.learners[node].state_dict()
                for node in self.trie.nodes()
                if node in self.learners
            },
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where a cohort of the same networks was saved."""
        of_text = {str(h): h for h in self.trie.living}
        self.trie.retire(set(self.trie.asked) - {of_text[text] for text in state["living"]})
        self.history = [
            Rung(step, {of_text[text]: Read(*values) for text, values in read.items()})
            for step, read in state["history"]
        ]
        self.time_s = {of_text[text]: time_s for text, time_s in state["time_s"].items()}
        self._blocks_learned = Fraction(state["blocks_learned"])
        drop_retired(self.trie, self.learners)
        for node, learner in self.learners.items():
            learner.load_state_dict(state["learners"][node.number])

    def _make_learners(self) -> dict[Node, Learner]:
        return {
            node: Learner(node.segment, self.training, seed=self.seed, device=self.device)
            for node in self.trie.nodes()
        }

    def _train(self) -> Iterator[Rung]:
        return self.schedule.rungs(self.trie, self.learners, self.data, start=self.step)

    def _learned(self, step: int) -> dict[Node, Fraction]:
        """How much of each node's training happened from the rung behind us to this one."""
        shares = {
            node: self.schedule.trained(node, step) - self.schedule.trained(node, self.step)
            for node in self.trie.nodes()
        }
        return {node: share for node, share in shares.items() if share}

    def _count_blocks(self, shares: Mapping[Node, Fraction]) -> None:
        self._blocks_learned += sum(node.num_blocks * share for node, share in shares.items())

    def _share_time(self, seconds: float, shares: Mapping[Node, Fraction]) -> None:
        flops = {node: float(node.segment.flops * share) for node, share in shares.items()}
        # none, where no unit ends in a stage
        per_flop = seconds / (sum(flops.values()) or 1)
        for node in shares:
            for h in node.asked:
                self.time_s[h] += per_flop * flops[node] / len(node.asked)
