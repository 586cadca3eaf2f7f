"""What is left to train of a study, in FLOPs of full trainings: before it trains, and beside it."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dsaccel.config.study import StudyConfig
from dsaccel.search.loop import Agenda
from dsaccel.search.progress import Later
from dsaccel.search.pruners import Pruner, find_pruner
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.trie import Trie
from dsaccel.study.record import CohortRecord, StudyRecord
from dsaccel.study.trial_record import TrialRecord
from dsaccel.training.workbench import Workbench

NUM_CONTROLS = 3
"""The controls of a confirmation, beside finalists and references."""


class Seen(NamedTuple):
    """What is known of a study that is only looked at."""

    cohort: CohortRecord
    told: Sequence[TrialRecord]
    wanted: Sequence[Hierarchy] = ()


@dataclass(frozen=True)
class Workload:
    """Forward FLOPs of an image through all that trains; what is pruned counts in part."""

    asked: tuple[Hierarchy, ...]
    """The next cohort."""
    num_left: int
    """Hierarchies left to train."""
    search: float
    baseline: float
    confirmation: float

    @property
    def total(self) -> float:
        return self.search + self.baseline + self.confirmation

    @property
    def later(self) -> Later:
        """What follows the search, and what follows the baseline."""
        one = self.search / max(1, self.num_left)
        return {
            "search": (self.baseline + self.confirmation) / one if one else 0.0,
            "baseline": self.confirmation / self.baseline if self.baseline else 0.0,
        }

    @classmethod
    def of(cls, bench: Workbench, record: StudyRecord) -> "Workload":
        """The workload of a study as it stands.

        All cohorts are taken to cost what the next one does, and a pruner to stop anyone; where one
        of Optuna's decides, nobody is taken to be stopped.
        """
        config, plan = bench.config, bench.plan
        agenda = Agenda(config, bench.space, Seen(record.cohort, record.told))
        asked = agenda.next().asked
        trained = len(bench.space.distinct(t.hierarchy for t in record.trained))
        num_left = max(len(asked), config.budget.n_trials - trained) if asked else 0
        if bench.space.size is not None:
            num_left = min(num_left, bench.space.size + len(bench.space.references))
        known = [*asked, *bench.space.references, *(t.hierarchy for t in record.trained)]
        alone = [sum(segment.flops for segment in plan(h).segments) for h in known[:100]]
        mean = sum(alone) / max(1, len(alone))
        cohort = _cohort_flops(agenda, bench, asked) if asked else 0.0
        return cls(
            asked=tuple(asked),
            num_left=num_left,
            search=cohort * num_left / max(1, len(asked)),
            baseline=mean if config.budget.baseline and record.baseline is None else 0.0,
            confirmation=mean * _num_confirmed(config),
        )


def _cohort_flops(agenda: Agenda, bench: Workbench, asked: Sequence[Hierarchy]) -> float:
    """The FLOPs of a cohort whose losers at each rung are drawn."""
    config, schedule = bench.config, agenda.schedule
    pruner, drawn, last = find_pruner(config.pruning), random.Random(0), 0
    values = {h: drawn.random() for h in asked if h not in bench.space.references}
    trie, flops = Trie({h: bench.plan(h) for h in asked}), 0.0
    for step in (*agenda.stops, schedule.num_steps(trie.num_stages)):
        flops += sum(
            float(
                node.segment.flops * (schedule.trained(node, step) - schedule.trained(node, last))
            )
            for node in trie.nodes()
        )
        last, living = step, {h: v for h, v in values.items() if h in trie.living}
        if step in agenda.stops and living and isinstance(pruner, Pruner):
            prefixes = {h: schedule.prefix(h, step) for h in living}
            trie.retire(set(pruner.losers(step, living, prefixes)))
    return flops


def _num_confirmed(config: StudyConfig) -> int:
    """Trainings of a confirmation that follows by itself."""
    confirm = config.confirm
    if not confirm.enabled:
        return 0
    known = confirm.top + max(1, len(config.references))
    layer_wise = known + NUM_CONTROLS * confirm.controls
    globally = known + ("gap" in (config.budget.against or ()))
    return confirm.num_seeds * (layer_wise + globally) + (confirm.tuning_trials or 1)
