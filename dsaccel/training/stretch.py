"""The way of the parts of a cohort from one rung to another: all of them arrive at the same."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from dsaccel.errors import WorkerError
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.rung import Read
from dsaccel.training.learner_files import PartFile
from dsaccel.training.part import PartResult, PartTask


@dataclass
class Stretch:
    """The way of all parts to one rung."""

    stop: int
    merged: dict[int, dict[Hierarchy, Read]] = field(default_factory=dict)
    """The readings at each rung on the way."""
    arrived: list[tuple[PartTask, PartResult]] = field(default_factory=list)

    def behind_after(
        self, task: PartTask, result: PartResult
    ) -> Iterator[tuple[PartTask, PartResult]]:
        """Take what a part has come to; returns the parts that have to go on: one none of whose
        heads is trained at a stop goes on to its next rung.

        Raises:
            WorkerError: if two have read different figures of one network.
        """
        for rung in result.rungs:
            known = self.merged.setdefault(rung.step, {})
            for h, read in rung.read.items():
                if known.setdefault(h, read).heads != read.heads:
                    raise WorkerError(
                        f"workers must read the same of {h}, but at step {rung.step} two differ: "
                        f"{known[h].heads} and {read.heads}; one of their devices errs, or is "
                        "another model"
                    )
        self.arrived.append((replace(task, stop=result.step), result))
        self.stop = max(self.stop, result.step)
        for each in [each for each in self.arrived if each[0].stop < self.stop]:
            self.arrived.remove(each)
            yield each

    def files(self) -> dict[int, PartFile]:
        return {number: file for _, result in self.arrived for number, file in result.files.items()}

    def finite(self) -> dict[int, tuple[bool, ...]]:
        return {
            number: each for _, result in self.arrived for number, each in result.finite.items()
        }
