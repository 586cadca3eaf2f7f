"""Whose an error is: that of networks which cannot be built or trained, or everybody's."""

import traceback
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from dsaccel.errors import CompilerError, ConfigError, UserError
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.training.device_memory import is_out_of_memory

LONGEST = 200
"""Characters of a reason."""


class TrainingError(UserError):
    """Networks cannot be built or trained; others may be."""

    exit_code = 3

    def __init__(self, hierarchies: tuple[Hierarchy, ...], why: str) -> None:
        super().__init__(hierarchies, why)
        self.hierarchies, self.why = hierarchies, why

    def __str__(self) -> str:
        return f"{', '.join(map(str, self.hierarchies))} must be trained, but failed: {self.why}"


@contextmanager
def blaming(
    whose: Callable[[Exception], Collection[Hierarchy]], device: torch.device
) -> Iterator[None]:
    """Name the networks whose an error in this block is.

    Args:
        whose: the networks; none, if it is everybody's.
        device: that trains them. What it lacks or suffers is no network's.

    Raises:
        TrainingError: with these networks.
    """
    try:
        yield
    except Exception as error:
        networks = whose(error)
        if not networks or _is_everybodys(error, device):
            raise
        raise TrainingError(tuple(sorted(networks)), _reason(error)) from error


def _is_everybodys(error: Exception, device: torch.device) -> bool:
    if isinstance(error, UserError):
        return not isinstance(error, ConfigError) or isinstance(error, CompilerError)
    is_systems = isinstance(error, OSError) or "CUDA error" in str(error)
    return is_systems or is_out_of_memory(error, device)


def _reason(error: Exception) -> str:
    line = " ".join(str(error).split())[:LONGEST]
    if isinstance(error, ConfigError):
        return line
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {line} ({Path(place.filename).name}, line {place.lineno})"
