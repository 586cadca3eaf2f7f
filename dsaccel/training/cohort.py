"""A run in this process: a trie, and a learner for each of its nodes.

A cohort can be saved at any rung and goes on from there bit for bit.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import astuple
from typing import TYPE_CHECKING, Any

import torch

from dsaccel.config.study import TrainingConfig
from dsaccel.parts import part_of
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.plan import Plan
from dsaccel.spec.rung import BEGINNING, Divergence, Epoch, Rung, Safe
from dsaccel.spec.trie import Node
from dsaccel.training.blame import blaming
from dsaccel.training.curves import Recorder
from dsaccel.training.descent import Batches
from dsaccel.training.learner import Learner
from dsaccel.training.learner_files import LearnerFiles
from dsaccel.training.run import Run

if TYPE_CHECKING:
    from dsaccel.schedules import Schedule


class Cohort(Run):
    """Networks whose learners are all in memory."""

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
        curves: Collection[Hierarchy] = (),
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
            curves: the networks whose curves are recorded.
        """
        super().__init__(plans, schedule or part_of(training, "schedule"), harvest)
        self.training, self.data = training, data
        self.seed, self.device = seed, device
        self.curves = curves
        recorded = {h: plan for h, plan in {**(harvest or {}), **plans}.items() if h in curves}
        self._recorder = Recorder(self.trie, recorded, data) if recorded else None
        self._within = BEGINNING
        """What the learners have behind them since the last rung."""
        self._learners: dict[Node, Learner] | None = None
        self._states: Mapping[int, Any] = {}
        """Learners' states by node number, in files that are mapped into memory."""

    @property
    def learners(self) -> dict[Node, Learner]:
        """The learner of each living node, made when it is first asked for."""
        if self._learners is None:
            self._learners = {node: self._make_learner(node) for node in self.trie.nodes()}
        return self._learners

    @property
    def in_memory(self) -> list[Hierarchy]:
        """The networks that were asked for and are held to be trained."""
        return self.trie.asked

    def states(self, hierarchy: Hierarchy) -> list[dict[str, torch.Tensor]]:
        return [unit for node in self.trie.path(hierarchy) for unit in self._unit_states(node)]

    def diverged(self, hierarchy: Hierarchy) -> Divergence | None:
        if lost := super().diverged(hierarchy):
            return lost
        finite = [unit for node in self.trie.path(hierarchy) for unit in self._finite(node)]
        if all(finite):
            return None
        unit = finite.index(False) + 1
        return Divergence(unit, len(finite), self._lost_at(hierarchy, unit))

    def state_dict(self) -> dict[str, Any]:
        """All that a cohort of the same networks goes on from, in plain numbers and tensors."""
        states = {node.number: self._state(node) for node in self.trie.nodes()}
        points = {} if self._recorder is None else self._recorder.state_dict()
        own = {"learners": states, "blocks": str(self.blocks), "points": points}
        return super().state_dict() | own | {"within": astuple(self._within)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if "files" in state:  # a cohort in parts was saved
            states = LearnerFiles(state["files"])
            states.check()
        else:
            states = state["learners"]
        super().load_state_dict(state)
        if self._recorder is not None:
            self._recorder.load_state_dict(state.get("points", {}))
        self._states, self._learners = states, None
        self._within = Safe(*state.get("within", ()))

    def _train(self) -> Iterator[Rung | Safe]:
        if self.is_over:
            return
        with blaming(self._failed, self.device):
            yield from self._reached()

    def _reached(self) -> Iterator[Rung | Safe]:
        recorder, learners = self._recorder, self.learners
        steps = self.schedule.rungs(
            self.trie, learners, self.data, start=self.step, within=self._within
        )
        for reached in steps:
            if not isinstance(reached, Epoch):
                self._within = reached if isinstance(reached, Safe) else BEGINNING
            if recorder is None:
                if not isinstance(reached, Epoch):
                    yield reached
            elif isinstance(reached, Epoch):
                recorder.look(learners, reached.number, reached.learned)
            elif isinstance(reached, Rung):
                if self.schedule.step_name == "epoch":
                    every = {node: range(node.segment.num_units) for node in self.trie.nodes()}
                    recorder.look(learners, reached.step, every)
                yield recorder.hand_over(reached)
            else:
                yield reached

    def _failed(self, error: Exception) -> Collection[Hierarchy]:
        """The networks that pass through the learner in which an error arose."""
        learner = error.__dict__.pop("learner", None)
        learners = self._learners or {}
        return next((node.asked for node, own in learners.items() if own is learner), ())

    def _state(self, node: Node) -> dict[str, Any]:
        return self.learners[node].state_dict(within_epoch=self._within.batches > 0)

    def _make_learner(self, node: Node) -> Learner:
        with blaming(lambda _: node.asked, self.device):
            learner = Learner(node.segment, self.training, seed=self.seed, device=self.device)
        if self._states:
            learner.load_state_dict(self._states[node.number])
        return learner

    def _unit_states(self, node: Node) -> list[dict[str, torch.Tensor]]:
        if self._learners is None and self._states:
            return self._states.get(node.number, {"units": []})["units"]
        return [unit.state_dict() for unit in self.learners[node].units]

    def _finite(self, node: Node) -> Sequence[bool]:
        """Whether all numbers of a unit are finite, by unit."""
        return all_finite(self._unit_states(node))

    def _lost_at(self, hierarchy: Hierarchy, unit: int) -> int | None:
        """The rung from which on a unit has told no image right; None: it was not read."""
        step = None
        for rung in self.history:
            heads = rung.accuracies.get(hierarchy, ())
            if len(heads) >= unit:
                step = None if heads[unit - 1] > 0 else step or rung.step
        return step


def all_finite(units: Sequence[Mapping[str, torch.Tensor]]) -> tuple[bool, ...]:
    """Whether all numbers of a unit's state are finite, by unit."""
    return tuple(all(bool(t.isfinite().all()) for t in state.values()) for state in units)
