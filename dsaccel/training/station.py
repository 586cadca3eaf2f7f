"""A place where networks are trained: this process, a worker process, or a worker of a cluster.

What it is asked to do is a function of the station and one argument, which can be sent to another
machine. It may keep what the next such function is likely to need again.
"""

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
    """The bench of the study; None: only parts of cohorts are trained here."""
    kept: dict[str, Any] = field(default_factory=dict)
    """What is kept, by who keeps it."""
