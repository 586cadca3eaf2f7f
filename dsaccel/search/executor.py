"""Train cohorts in this process: whole where they fit into memory, otherwise in parts.

What a cohort goes on from is kept beside the study; a run that is started begins there.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from dsaccel.schedules import Schedule
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.plan import Plan
from dsaccel.study.folder import StudyDir
from dsaccel.study.resume import study_fingerprint
from dsaccel.training.checkpoint import Checkpoints
from dsaccel.training.cohort import Cohort
from dsaccel.training.memory_limit import MemoryLimit
from dsaccel.training.workbench import Workbench


@dataclass(frozen=True)
class InProcess:
    """An executor for one cohort of a study."""

    bench: Workbench
    directory: StudyDir
    memory: MemoryLimit
    """What the cohort may take; less after it has run out of it."""

    def start(
        self,
        plans: Mapping[Hierarchy, Plan],
        harvest: Mapping[Hierarchy, Plan],
        schedule: Schedule,
        stops: Collection[int],
    ) -> Cohort:
        bench = self.bench
        cohort = self.memory.split_cohort(
            plans,
            bench.config.training,
            bench.data,
            seed=bench.config.seed,
            device=bench.device,
            harvest=harvest,
            schedule=schedule,
            curves={*plans, *harvest} if bench.config.runtime.curves else bench.space.references,
            split={"stops": stops, "folder": self.directory.parts},
        )
        fingerprint = study_fingerprint(bench.config, bench.data.fingerprint)
        Checkpoints(self.directory.checkpoint, fingerprint, cohort)
        return cohort
