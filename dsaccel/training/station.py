"""A place where networks are trained: this process, a worker process, or a worker of a cluster.

What it is asked to do is a function of the station and one argument, which can be sent to another
machine. It may keep what the next such function is likely to need again.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from dsaccel.training.descent import Batches

if TYPE_CHECKING:
    from dsaccel.training.workbench import Bench


@dataclass(eq=False)
class Station:
    data: Batches
    """Batches on the device."""
    device: torch.device
    bench: "Bench[Any] | None" = None
    """Of the study; None: only parts of cohorts are trained here."""
    kept: dict[str, Any] = field(default_factory=dict)
    """By who keeps it."""
    is_wanted: Callable[[], bool] = lambda: True
    """Whether somebody still waits for what is done here: asked at each rung."""

    def leave_if_unwanted(self) -> None:
        """
        Raises:
            LookupError: if nobody waits any more.
        """
        if not self.is_wanted():
            raise LookupError("nobody waits for this job any more")
