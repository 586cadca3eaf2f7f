"""Deep supervision: all local losses are there, but no gradient is cut.

It tells what the losses do from what the cuts do. Lee et al., 2015.
"""

from dataclasses import replace

import torch
from torch import Tensor

from dsaccel.nn.labels import Labels
from dsaccel.nn.units import Features
from dsaccel.spec.plan import Plan, Segment
from dsaccel.spec.trie import Node
from dsaccel.training.cohort import Cohort
from dsaccel.training.cuda_streams import ONE_LANE, Lanes
from dsaccel.training.learner import Learner


def joined(plan: Plan) -> Plan:
    """A layer-wise network as one segment: nothing of it is shared with others."""
    rate = plan.segments[0].learning_rate
    return replace(plan, segments=(Segment(plan.blocks, plan.output, rate),))


class Supervised(Cohort):
    """Networks of joined plans."""

    def _make_learner(self, node: Node) -> Learner:
        learner = SupervisedLearner(node.segment, self.training, seed=self.seed, device=self.device)
        if self._states:
            learner.load_state_dict(self._states[node.number])
        return learner


class SupervisedLearner(Learner):
    """Each unit learns from its own loss and from those of all units above."""

    def step(self, x: Tensor, y_B: Tensor | Labels, lanes: Lanes = ONE_LANE) -> Tensor:
        labels = y_B if isinstance(y_B, Labels) else Labels(y_B)
        features = Features(x, None)
        pairs: list[tuple[Tensor, Tensor | None]] = []
        for unit in self.units:
            with self._autocast():
                h, passed_on, skip = unit(*features, self.generators)
                pairs += unit.gradients(h, labels, features.x)
            features = Features(passed_on, skip)
        ends, gradients = zip(*pairs, strict=True)
        torch.autograd.backward(ends, gradients)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return features.x.detach()
