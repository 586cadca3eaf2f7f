"""Executors: where the networks of a study are trained, a file each.

An executor brings workers. None of them decides anything, and the results are the same with every
one. The settings of `[runtime]` that an executor has too are its options.
"""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsaccel.config.section import Section

if TYPE_CHECKING:
    from dsaccel.training.team import Team
    from dsaccel.training.workbench import Bench


class Executor(Section, ABC):
    """A kind of executor; its fields are its options."""

    @abstractmethod
    def team(self, bench: "Bench[Any]", folder: Path) -> "AbstractContextManager[Team]":
        """Workers that train for a bench until the end of the block.

        Args:
            bench: of the driver, which its workers open too.
            folder: as of `folder`.

        Raises:
            ConfigError: settings that cannot be used.
            WorkerError: if a worker cannot be reached, or would come to other results.
        """

    def folder(self, own: Path) -> Path:
        """Where learners are written so that all workers see them: the study's own, or another."""
        return own
