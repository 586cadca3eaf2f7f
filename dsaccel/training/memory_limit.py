"""Train what fits: a cohort whole or in parts, and no network that does not fit alone.

The estimate decides beforehand; where an allocator fails all the same, half is tried. Several
processes may share a GPU: who finds too little for one network waits for the others a while.
"""

import logging
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch

from dsaccel.config.study import TrainingConfig
from dsaccel.errors import NoMemoryError
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.plan import Plan
from dsaccel.training.cohort import Cohort
from dsaccel.training.device_memory import (
    free_memory_bytes,
    is_out_of_memory,
    release_memory,
    total_memory_bytes,
)
from dsaccel.training.memory import estimate_plans, split_to_fit
from dsaccel.training.meter import Machine
from dsaccel.training.parts import SplitCohort
from dsaccel.training.team import Team

T = TypeVar("T")

SHARE = 0.9
"""The share of the free memory to use: libraries and fragments, which nobody counts, need some."""
MIB = 2**20
WAIT_S, ASK_S = 600.0, 5.0
"""How long to wait for memory that other processes hold, and how often to ask."""

log = logging.getLogger(__name__)


class MemoryLimit:
    """The memory that the networks of a cohort may take together.

    Args:
        memory_mib: given by the user; None: a share of what the device has free now.
        device: that trains them.
        num_images: training images.
        share: of that; workers of one machine share its memory.
    """

    def __init__(
        self, memory_mib: int | None, device: torch.device, num_images: int, share: float = 1.0
    ) -> None:
        self._memory_mib, self._share = memory_mib, share
        self._device = device
        self.limit_bytes = self._allowed()
        self._num_images = num_images
        self._plans: Mapping[Hierarchy, Plan] = {}
        self._training = TrainingConfig()
        self._cohort: Callable[[], Cohort | None] = lambda: None

    def check(self, plans: Mapping[Hierarchy, Plan], training: TrainingConfig) -> None:
        """Refuse networks of which one needs more than the limit on its own.

        Raises:
            NoMemoryError: naming it.
        """
        for hierarchy, plan in plans.items():
            needed = self._needed({hierarchy: plan}, training)
            if not self._wait_for(needed):
                trained = _described(hierarchy, plan)
                raise NoMemoryError(
                    f"memory must be at least {_mib(needed)} MiB to train {trained}, but "
                    f"{_mib(self.limit_bytes)} MiB may be used; {_WAY_OUT}, or raise "
                    "runtime.memory_mib"
                )

    def parts(
        self, plans: Mapping[Hierarchy, Plan], training: TrainingConfig
    ) -> list[tuple[Hierarchy, ...]]:
        """The hierarchies in runs that can be trained together, in their order."""
        return split_to_fit(
            list(plans), lambda hierarchies: self._fits(hierarchies, plans, training)
        )

    def cohort(
        self, plans: Mapping[Hierarchy, Plan], training: TrainingConfig, *args: Any, **kwargs: Any
    ) -> Cohort:
        """A cohort of networks that fit; arguments as its own."""
        self._begin(plans, training)
        return self._begun(Cohort(plans, training, *args, **kwargs))

    def split_cohort(
        self,
        plans: Mapping[Hierarchy, Plan],
        training: TrainingConfig,
        *args: Any,
        split: Mapping[str, Any],
        **kwargs: Any,
    ) -> Cohort:
        """A cohort if it fits and is trained in this process, otherwise one in parts that do;
        arguments as theirs, `split` those that only the latter has.
        """
        team: Team | None = split.get("team")
        is_here = team is None or team.is_here
        if is_here and self._fits(list(plans), plans, training):
            return self.cohort(plans, training, *args, **kwargs)

        def fits(hierarchies: Sequence[Hierarchy]) -> bool:
            return self._fits(hierarchies, plans, training)

        self._begin(plans, training)
        return self._begun(SplitCohort(plans, training, *args, **kwargs, fits=fits, **split))

    def retry(self, attempt: Callable[[], Iterator[T]]) -> Iterator[T]:
        """Yield what an attempt yields; begin another, in half the memory, when it runs out of it.

        Args:
            attempt: trains cohorts that were made here, from where they stand.

        Raises:
            NoMemoryError: if it was one network alone.
        """
        while True:
            try:
                yield from attempt()
                return
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error, self._device):
                    raise
                cohort = self._cohort()
                hierarchies = list(self._plans) if cohort is None else cohort.in_memory
                del cohort
            # not in the handler, whose traceback holds the learners
            release_memory(self._device)
            self._allow_less(hierarchies)

    def _allow_less(self, hierarchies: Sequence[Hierarchy]) -> None:
        """Half of what the networks that were trained last were estimated to need."""
        needed = self._needed({h: self._plans[h] for h in hierarchies}, self._training)
        if len(hierarchies) == 1:
            if self._is_taken(needed) and self._wait_for(needed):
                return
            trained = _described(hierarchies[0], self._plans[hierarchies[0]])
            raise NoMemoryError(
                f"the device ran out of memory while it trained {trained} alone (estimated: "
                f"{_mib(needed)} MiB); {_WAY_OUT}"
            )
        self.limit_bytes = needed // 2

    def _allowed(self) -> int:
        if self._memory_mib is not None:
            return int(self._share * self._memory_mib * MIB)
        return int(self._share * SHARE * free_memory_bytes(self._device))

    def _is_taken(self, needed: int) -> bool:
        """Whether a GPU has this much memory, but other processes hold it."""
        if self._memory_mib is not None or self._device.type != "cuda":
            return False
        return self._allowed() < needed <= SHARE * total_memory_bytes(self._device)

    def _wait_for(self, needed: int) -> bool:
        """Whether this much may be used, at once or when other processes have let go of it."""
        if self._is_taken(needed):
            log.warning("waiting for other processes to free memory of %s", self._device)
            until = time.monotonic() + WAIT_S
            while self._is_taken(needed) and time.monotonic() < until:
                time.sleep(ASK_S)
            self.limit_bytes = self._allowed()
        return needed <= self.limit_bytes

    def _begin(self, plans: Mapping[Hierarchy, Plan], training: TrainingConfig) -> None:
        self._plans, self._training, self._cohort = plans, training, lambda: None

    def _begun(self, cohort: Cohort) -> Cohort:
        self._cohort = weakref.ref(cohort)
        return cohort

    def _fits(
        self,
        hierarchies: Sequence[Hierarchy],
        plans: Mapping[Hierarchy, Plan],
        training: TrainingConfig,
    ) -> bool:
        return self._needed({h: plans[h] for h in hierarchies}, training) <= self.limit_bytes

    def _needed(self, plans: Mapping[Hierarchy, Plan], training: TrainingConfig) -> int:
        return estimate_plans(
            plans, training, num_images=self._num_images, machine=Machine.of(self._device)
        ).total_bytes


_WAY_OUT = "use a smaller training.batch_size or network.width, or network.sim_kernel = 1"


def _described(hierarchy: Hierarchy, plan: Plan) -> str:
    return f"{hierarchy}" if plan.num_local_losses else f"{hierarchy} by back-propagation"


def _mib(num_bytes: int) -> int:
    return -(-num_bytes // MIB)
