"""Have cohorts trained by a team: whole where they fit into this process, otherwise in parts.

What a cohort goes on from is kept beside the study; a run that is started begins there.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from dsaccel.config.study import TrainingConfig
from dsaccel.schedules import Schedule
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.plan import Plan
from dsaccel.study.folder import StudyDir
from dsaccel.study.resume import study_fingerprint
from dsaccel.training.checkpoint import Checkpoints
from dsaccel.training.cohort import Cohort
from dsaccel.training.memory_limit import MemoryLimit
from dsaccel.training.team import Team
from dsaccel.training.workbench import Workbench


@dataclass(frozen=True)
class TeamTrainer:
    """Trains networks of a study, as many at the same time as its memory takes."""

    bench: Workbench
    directory: StudyDir
    memory: MemoryLimit
    """The memory of a worker; less after it has run out of it."""
    team: Team
    folder: Path
    """The folder of the parts."""

    def start(
        self,
        plans: Mapping[Hierarchy, Plan],
        harvest: Mapping[Hierarchy, Plan],
        schedule: Schedule,
        stops: Collection[int],
    ) -> Cohort:
        config = self.bench.config
        curves = {*plans, *harvest} if config.runtime.curves else self.bench.space.references
        cohort = self.cohort(plans, config.training, harvest, schedule, stops, curves)
        self.keep(cohort, self.directory.checkpoint)
        return cohort

    def keep(self, cohort: Cohort, checkpoint: Path) -> None:
        """Have a cohort go on from a checkpoint, and save itself there."""
        images = self.bench.data.fingerprint
        Checkpoints(checkpoint, study_fingerprint(self.bench.config, images), cohort)

    def cohort(
        self,
        plans: Mapping[Hierarchy, Plan],
        training: TrainingConfig,
        harvest: Mapping[Hierarchy, Plan] | None = None,
        schedule: Schedule | None = None,
        stops: Collection[int] = (),
        curves: Collection[Hierarchy] = (),
    ) -> Cohort:
        """Networks that begin anew; see `keep`."""
        bench = self.bench
        return self.memory.split_cohort(
            plans,
            training,
            bench.data,
            seed=bench.config.seed,
            device=bench.device,
            harvest=harvest,
            schedule=schedule,
            curves=curves,
            split={"stops": stops, "folder": self.folder, "team": self.team},
        )
