"""Make a cohort that fits: whole where it does, in parts where it does not."""

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from dsaccel.config import TrainingConfig
from dsaccel.errors import NoMemoryError
from dsaccel.networks.memory import estimate_plans
from dsaccel.networks.plan import Plan
from dsaccel.training.cohort import Cohort
from dsaccel.training.parts import SplitCohort
from dsaccel.training.runtime import free_memory_bytes

SHARE = 0.9
"""Of the free memory: what an estimate does not see (libraries, fragments) needs some too."""
MIB = 2**20


class MemoryLimit:
    """What the networks of a cohort may take together.

    Args:
        memory_mib: given by the user; None: a share of what the device has free now.
        device: that trains them.
        num_images: training images.
    """

    def __init__(self, memory_mib: int | None, device: torch.device, num_images: int) -> None:
        free = SHARE * free_memory_bytes(device) if memory_mib is None else memory_mib * MIB
        self.limit_bytes = int(free)
        self._device = device.type
        self._num_images = num_images
        self._plans: Mapping[str, Plan] = {}
        self._training = TrainingConfig()
        self._cohort: Callable[[], Cohort | None] = lambda: None

    def check(self, plans: Mapping[str, Plan], training: TrainingConfig) -> None:
        """Refuse networks of which one needs more than the limit on its own.

        Raises:
            NoMemoryError: naming it.
        """
        for name, plan in plans.items():
            needed = self._needed({name: plan}, training)
            if needed > self.limit_bytes:
                raise NoMemoryError(
                    f"memory must be at least {_mib(needed)} MiB to train {name}, but "
                    f"{_mib(self.limit_bytes)} MiB may be used; {_WAY_OUT}, or raise "
                    "runtime.memory_mib"
                )

    def make_cohort(
        self,
        plans: Mapping[str, Plan],
        training: TrainingConfig,
        *args: Any,
        split: Mapping[str, Any],
        **kwargs: Any,
    ) -> Cohort:
        """A cohort if it fits, otherwise one in parts that do; arguments as theirs, `split` those
        that only the latter has.
        """
        self._plans, self._training, self._cohort = plans, training, lambda: None

        def fits(names: Sequence[str]) -> bool:
            return self._needed({n: plans[n] for n in names}, training) <= self.limit_bytes

        if fits(list(plans)):
            cohort = Cohort(plans, training, *args, **kwargs)
        else:
            cohort = SplitCohort(plans, training, *args, **kwargs, fits=fits, **split)
        self._cohort = weakref.ref(cohort)
        return cohort

    def halve(self) -> None:
        """Allow half of what the networks that were trained last were estimated to need.

        Raises:
            NoMemoryError: if it was one network alone.
        """
        cohort = self._cohort()
        names = list(self._plans) if cohort is None else cohort.in_memory
        needed = self._needed({name: self._plans[name] for name in names}, self._training)
        if len(names) == 1:
            raise NoMemoryError(
                f"the device ran out of memory while it trained {names[0]} alone (estimated: "
                f"{_mib(needed)} MiB); {_WAY_OUT}"
            )
        self.limit_bytes = needed // 2

    def _needed(self, plans: Mapping[str, Plan], training: TrainingConfig) -> int:
        images, device = self._num_images, self._device
        return estimate_plans(plans, training, num_images=images, device=device).total_bytes


_WAY_OUT = "use a smaller training.batch_size or network.width, or network.sim_kernel = 1"


def _mib(num_bytes: int) -> int:
    return -(-num_bytes // MIB)
