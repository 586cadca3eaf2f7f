"""Networks trained together: a trie, a learner for each of its nodes, and what they have reached.

A cohort can be saved at any rung and goes on from there bit for bit.
"""

import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import astuple
from typing import Any

import torch

from dsaccel.config.study import TrainingConfig
from dsaccel.parts import part_of
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.plan import Plan
from dsaccel.spec.rung import Divergence, Read, Rung
from dsaccel.spec.trie import Node, Trie
from dsaccel.training.cuda_graphs import CudaGraphs
from dsaccel.training.cuda_streams import ONE_LANE, CudaLanes
from dsaccel.training.feature_cache import FeatureCache
from dsaccel.training.learner import Learner
from dsaccel.training.schedules import Batches, drop_retired, simultaneous
from dsaccel.training.sequential import sequential


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
        looks_ahead: bool = False,
    ) -> None:
        """
        Args:
            plans: the networks that are asked for.
            training: schedule, epochs, learning rate.
            data: batches on the device.
            seed: of all random numbers.
            device: where the learners are.
            harvest: networks that are read on the way where possible.
            looks_ahead: as in `sequential`.
        """
        self.training = training
        self._looks_ahead = looks_ahead
        self.data = data
        self.device = device
        self.trie = Trie(plans)
        self.harvested = [
            h for h, plan in (harvest or {}).items() if self.trie.add_harvest(h, plan)
        ]
        is_sequential = training.schedule == "sequential"
        self.num_steps = self.trie.num_stages if is_sequential else training.epochs
        """The last rung, which is not reached if all networks are retired before."""
        self.seed = seed
        self.learners = self._make_learners()
        self._blocks_learned = 0.0
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
        for rung in self._schedule():
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
        is_simultaneous = self.training.schedule == "simultaneous"
        blocks = self._blocks_learned / (self.training.epochs if is_simultaneous else 1)
        return int(blocks) if blocks.is_integer() else blocks

    def reads(self, hierarchy: Hierarchy) -> list[Read]:
        """What was read of a network, rung by rung."""
        return [rung.read[hierarchy] for rung in self.history if hierarchy in rung.read]

    def head_accuracies(self, hierarchy: Hierarchy) -> list[list[float]]:
        """A network's accuracies (0..1): rungs x heads in order of depth, an output layer's last.

        Ragged if the schedule is sequential: a rung has the heads trained so far.
        """
        return [list(read.heads) for read in self.reads(hierarchy)]

    def prefixes(self) -> dict[Hierarchy, int]:
        """The number of each network's last trained node: equal for those who share all that is
        trained so far. If the schedule is simultaneous, no two do.
        """
        is_sequential = self.training.schedule == "sequential"
        trained: dict[Hierarchy, int] = {}
        for h in self.trie.living:
            path = self.trie.path(h)
            numbers = [n.number for n in path if not is_sequential or n.stage <= self.step]
            trained[h] = numbers[-1] if numbers else -1
        return trained

    def epochs_trained(self, hierarchy: Hierarchy) -> int:
        """Epochs that a network has learned for; if sequential, the sum over its units."""
        if self.training.schedule == "simultaneous":
            return self.step
        num_units = sum(self._num_trained(node, self.step) for node in self.trie.path(hierarchy))
        return self.training.epochs * num_units

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
            "blocks_learned": self._blocks_learned,
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
        self._blocks_learned = state["blocks_learned"]
        drop_retired(self.trie, self.learners)
        for node, learner in self.learners.items():
            learner.load_state_dict(state["learners"][node.number])

    def _make_learners(self) -> dict[Node, Learner]:
        return {
            node: Learner(node.segment, self.training, seed=self.seed, device=self.device)
            for node in self.trie.nodes()
        }

    def _schedule(self) -> Iterator[Rung]:
        epochs, start = self.training.epochs, self.step
        if self.training.schedule == "simultaneous":
            recorder, lanes = None, ONE_LANE
            records = part_of(self.training, "optimizer").records
            if self.training.cuda_graph and self.device.type == "cuda" and records:
                recorder = CudaGraphs(self.device)
                if self.training.cuda_lanes > 1:
                    lanes = CudaLanes(self.device, self.training.cuda_lanes)
            return simultaneous(
                self.trie,
                self.learners,
                self.data,
                epochs,
                start=start,
                recorder=recorder,
                lanes=lanes,
            )
        cache = FeatureCache(
            self.device,
            device_bytes=self.training.feature_cache_mib * 2**20,
            host_bytes=self.training.feature_cache_host_mib * 2**20,
        )
        return sequential(
            self.trie,
            self.learners,
            self.data,
            epochs,
            cache=cache,
            start=start,
            looks_ahead=self._looks_ahead,
        )

    def _learned(self, step: int) -> dict[Node, float]:
        """The share of each node's units that learned from the rung behind us to this one."""
        nodes = list(self.trie.nodes())
        if self.training.schedule == "simultaneous":
            return dict.fromkeys(nodes, 1.0)
        shares = {}
        for node in nodes:
            num = self._num_trained(node, step) - self._num_trained(node, self.step)
            if num > 0:
                shares[node] = num / node.segment.num_units
        return shares

    def _num_trained(self, node: Node, step: int) -> int:
        """Units that have learned at a rung of a sequential schedule."""
        if node.stage <= step:
            return node.segment.num_units
        is_next = node.stage == step + 1 and (node.parent is None or node.parent.stage <= step)
        return int(self._looks_ahead and step > 0 and is_next)

    def _count_blocks(self, shares: Mapping[Node, float]) -> None:
        self._blocks_learned += sum(node.num_blocks * share for node, share in shares.items())

    def _share_time(self, seconds: float, shares: Mapping[Node, float]) -> None:
        flops = {node: node.segment.flops * share for node, share in shares.items()}
        # none, where no unit ends in a stage
        per_flop = seconds / (sum(flops.values()) or 1)
        for node in shares:
            for h in node.asked:
                self.time_s[h] += per_flop * flops[node] / len(node.asked)
