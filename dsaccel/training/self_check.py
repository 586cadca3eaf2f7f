"""Whether steps of one network, recorded as a CUDA graph, give the bits of steps as they are.

Asked at the start of a run: nothing else tells what a driver and its libraries make of a recording.
"""

import logging
from collections.abc import Mapping

import torch
from torch import Tensor

from dsaccel.spec.trie import Node, Trie
from dsaccel.training.cuda_graphs import NUM_EAGER, RecordedStep, Recorder
from dsaccel.training.cuda_streams import ONE_LANE, Lanes
from dsaccel.training.descent import learning
from dsaccel.training.device_memory import is_out_of_memory, release_memory
from dsaccel.training.learner import Learner
from dsaccel.training.meter import tensors_in

log = logging.getLogger(__name__)


def may_record(
    trie: Trie,
    learners: Mapping[Node, Learner],
    recorder: Recorder,
    lanes: Lanes,
    batch: tuple[Tensor, Tensor],
) -> bool:
    """Whether a step may be recorded; says so if not.

    Args:
        trie: of which the first network is tried, on learners of its own.
        learners: of the trie; they are left as they are.
        recorder: records the trial.
        lanes: where units learn.
        batch: that is learned.
    """
    path = trie.path(trie.asked[0])
    device = learners[path[0]].device
    problem = None
    try:
        recorded = _learned(path, learners, recorder, lanes, batch)
        if recorded is None:
            return False
        plain = _learned(path, learners, None, ONE_LANE, batch)
        assert plain is not None
        pairs = list(zip(plain, recorded, strict=True))
        if different := sum(not torch.equal(a, b) for a, b in pairs):
            problem = f"it learned other numbers in {different} of {len(pairs)} tensors"
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error, device):
            raise
        problem = "no memory was left to try it"
    release_memory(device)
    if problem:
        log.warning("training goes on without a CUDA graph, more slowly: %s", problem)
    return problem is None


def _learned(
    path: list[Node],
    learners: Mapping[Node, Learner],
    recorder: Recorder | None,
    lanes: Lanes,
    batch: tuple[Tensor, Tensor],
) -> list[Tensor] | None:
    """The network after steps of which two are recorded; None: they cannot be."""
    own: dict[Node, Learner] = {}
    parent = None
    for old in path:
        node = Node(old.segment, parent, old.number)
        if parent is not None:
            parent.children.append(node)
        at, parent = learners[old], node
        own[node] = Learner(old.segment, at.training, seed=at.seed, device=at.device)
        own[node].start_epoch(1)
    run = step = learning([next(iter(own))], own, lanes)
    if recorder is not None:
        generators = [g for learner in own.values() for g in learner.generators.values()]
        run = RecordedStep(step, generators, recorder)
    for _ in range(NUM_EAGER + 2):
        run(*batch)
    if isinstance(run, RecordedStep) and not run.is_recorded:
        return None
    states = [learner.state_dict() for learner in own.values()]
    return [tensor.cpu() for tensor in tensors_in(states)]
