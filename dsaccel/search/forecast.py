"""Forecast a study's time and memory: three steps are timed, and the rest is counted."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from dsaccel.config.study import StudyConfig
from dsaccel.data.source import DataSource
from dsaccel.search.setup import look_into
from dsaccel.search.workload import Workload
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.study.folder import StudyDir
from dsaccel.study.record import StudyRecord
from dsaccel.text import about
from dsaccel.training.device import running, worker_devices
from dsaccel.training.measured import NUM_TIMED, step_seconds
from dsaccel.training.memory import estimate_plans
from dsaccel.training.workbench import Workbench

VALIDATION = 1 / 3
"""The time to look at images, as a share of training on as many."""


@dataclass(frozen=True)
class Forecast:
    """The time and the memory of the rest of a study."""

    workload: Workload
    num_feasible: int | None
    """Hierarchies of the space; None: too many to list."""
    strategy: str
    search_s: float
    baseline_s: float
    confirmation_s: float
    pace: float
    """Seconds of a training step by the FLOPs of one image."""
    bench: Workbench

    @property
    def total_s(self) -> float:
        return self.search_s + self.baseline_s + self.confirmation_s

    @classmethod
    def of(cls, bench: Workbench, record: StudyRecord, pace: float | None = None) -> "Forecast":
        """Forecast a study as it stands; trains three steps of a network unless `pace` is known."""
        workload, config, data = Workload.of(bench, record), bench.config, bench.data
        one = (*workload.asked, *bench.space.references, *_any(bench))[0]
        if pace is None:
            pace = seconds_per_flop(bench, one) if workload.total else 0.0
        epochs = config.training.epochs
        looked = 1 + VALIDATION * data.num_val / max(1, data.num_steps * data.batch_size)
        per_flop = pace * data.num_steps * epochs * looked / len(worker_devices(config.runtime))
        return cls(
            workload,
            bench.space.size,
            str(config.budget.strategy),
            workload.search * per_flop,
            workload.baseline * per_flop,
            workload.confirmation * per_flop,
            pace,
            bench,
        )

    @cached_property
    def cohort_bytes(self) -> int:
        """Estimated memory of the next cohort, if it is trained at once."""
        return self._bytes(self.workload.asked)

    @cached_property
    def network_bytes(self) -> int:
        """The estimated memory of the cohort's largest network alone, by FLOPs."""
        largest = sorted(self.workload.asked, key=lambda h: self.bench.plan(h).flops)[-1:]
        return self._bytes(largest)

    def _bytes(self, hierarchies: Sequence[Hierarchy]) -> int:
        plans = {h: self.bench.plan(h) for h in hierarchies}
        training, num = self.bench.config.training, self.bench.data.num_train
        return estimate_plans(plans, training, num_images=num).total_bytes if plans else 0

    def sentence(self) -> str:
        """One line, before it trains."""
        if not self.total_s:
            return "nothing is left to train"
        parts = {"baseline": self.baseline_s, "confirmation": self.confirmation_s}
        more = "".join(f" + {name} {about(s)}" for name, s in parts.items() if s)
        return (
            f"{self.workload.num_left} hierarchies to train, about {about(self.search_s)}{more} by "
            f"{NUM_TIMED} timed steps"
        )

    def summary(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "num_left": self.workload.num_left,
            "num_feasible": self.num_feasible,
            "strategy": self.strategy,
            "next_cohort": list(map(str, self.workload.asked)),
            "search_s": self.search_s,
            "baseline_s": self.baseline_s,
            "confirmation_s": self.confirmation_s,
            "cohort_bytes": self.cohort_bytes,
            "network_bytes": self.network_bytes,
        }


def forecast(
    config: StudyConfig,
    directory: StudyDir,
    *,
    download: bool = False,
    source: DataSource | None = None,
) -> Forecast:
    """Forecast a study that is begun or not; nothing is written.

    Raises:
        ConfigError: as `open_search`.
        MismatchError: likewise.
        StorageError: likewise, but another process may train in the study.
    """
    return Forecast.of(*look_into(config, directory, download=download, source=source))


def seconds_per_flop(bench: Workbench, hierarchy: Hierarchy) -> float:
    """The seconds of a training step by the FLOPs of a forward pass of one image."""
    plan, config = bench.plan(hierarchy), bench.config
    with running(config.runtime):
        seconds = step_seconds(plan, config.training, bench.data, device=bench.device)
    return seconds / sum(segment.flops for segment in plan.segments)


def _any(bench: Workbench) -> Iterator[Hierarchy]:
    yield Hierarchy(tuple(low for low, _ in bench.config.space.num_blocks))
