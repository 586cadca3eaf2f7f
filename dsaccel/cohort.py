"""Networks trained together: a trie, a learner for each of its nodes, and what they have reached.

A cohort can be saved at any rung and goes on from there bit for bit.
"""

import time
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from dsaccel.config import TrainingConfig
from dsaccel.learner import Learner
from dsaccel.plan import Plan
from dsaccel.rung import Rung
from dsaccel.schedules import Batches, simultaneous
from dsaccel.trie import Node, Trie


class Cohort:
    """The networks of `plans` by name; those of `harvest` are read on the way where possible."""

    def __init__(
        self,
        plans: Mapping[str, Plan],
        training: TrainingConfig,
        data: Batches,
        *,
        seed: int,
        device: torch.device,
        harvest: Mapping[str, Plan] | None = None,
    ) -> None:
        self.training = training
        self.data = data
        self.trie = Trie(plans)
        self.harvested = [
            name for name, plan in (harvest or {}).items() if self.trie.add_harvest(name, plan)
        ]
        self.learners: dict[Node, Learner] = {
            node: Learner(node.segment, training, seed=seed, device=device)
            for node in self.trie.nodes()
        }
        self.history: list[Rung] = []
        """The rungs so far, oldest first."""
        self.time_s: dict[str, float] = dict.fromkeys(self.trie.names, 0.0)
        """Each network's share of the training time: a node's time, which is taken to be in
        proportion to its FLOPs, is shared equally by the networks that pass through it."""

    @property
    def epoch(self) -> int:
        """Epochs behind us."""
        return self.history[-1].epoch if self.history else 0

    def rungs(self) -> Iterator[Rung]:
        """Train on to the last epoch; networks may be retired between two rungs."""
        started = time.perf_counter()
        schedule = simultaneous(
            self.trie, self.learners, self.data, self.training.epochs, start=self.epoch
        )
        for rung in schedule:
            self._share_time(time.perf_counter() - started)
            self.history.append(rung)
            yield rung
            started = time.perf_counter()

    def head_accuracies(self, name: str) -> list[list[float]]:
        """A network's accuracies (0..1): epochs x heads in order of depth, the output's last."""
        return [list(rung.accuracies[name]) for rung in self.history if name in rung.accuracies]

    def state_dict(self) -> dict[str, Any]:
        """All that a cohort of the same networks goes on from; plain numbers and tensors."""
        return {
            "living": self.trie.names,
            "history": [(rung.epoch, rung.accuracies) for rung in self.history],
            "time_s": self.time_s,
            "learners": {
                node.number: self.learners[node].state_dict() for node in self.trie.nodes()
            },
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where a cohort of the same networks was saved."""
        self.trie.retire(set(self.trie.asked) - set(state["living"]))
        self.history = [Rung(epoch, accuracies) for epoch, accuracies in state["history"]]
        self.time_s = state["time_s"]
        for node in self.trie.nodes():
            self.learners[node].load_state_dict(state["learners"][node.number])

    def _share_time(self, seconds: float) -> None:
        nodes = list(self.trie.nodes())
        per_flop = seconds / sum(node.segment.flops for node in nodes)
        for node in nodes:
            for name in node.asked:
                self.time_s[name] += per_flop * node.segment.flops / len(node.asked)
