"""The rows of a stored study: one trial is one hierarchy, and every row is a real network."""

import logging
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from dsaccel.space.space import SearchSpace
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.plan import Plan
from dsaccel.spec.rung import RankedBy
from dsaccel.study.enqueued import begin_trial, enqueued, refuse, waiting
from dsaccel.study.folder import StudyDir
from dsaccel.study.harvest import Harvest, add_harvest, read_harvest
from dsaccel.study.heads import write_heads
from dsaccel.study.kept import Kept
from dsaccel.study.outage import Outbox
from dsaccel.study.record import CohortRecord, StudyRecord
from dsaccel.study.storage import storage_of
from dsaccel.study.trial_record import TrialRecord
from dsaccel.study.writing import begun, has_diverged, reached, write_cohort
from dsaccel.training.blame import TrainingError
from dsaccel.training.cohort import Cohort
from dsaccel.training.run import Run

log = logging.getLogger("dsaccel")

CONSTRAINT = "in the space"
FINITE = "its weights are finite"
"""What Optuna calls a trial's constraints: kept if at most 0. The latter is said of those alone
whose training diverged."""


class Ledger:
    """Opens, reports and tells the trials of a study, each exactly once."""

    def __init__(
        self,
        study: optuna.Study,
        directory: StudyDir,
        space: SearchSpace,
        plan: Callable[[Hierarchy], Plan],
        by: RankedBy = "head",
        costs: Callable[[Run, Hierarchy], dict[str, float]] = lambda run, hierarchy: {},
        kept: Kept | None = None,
    ) -> None:
        self.study = study
        self._directory = directory
        self._space = space
        self._plan = plan
        self._costs, self._kept = costs, kept
        self._by: RankedBy = by
        self._open: dict[Hierarchy, tuple[optuna.Trial, tuple[int, int]]] = {}
        """The open trials, each with its cohort and place in it."""
        self._closing: set[optuna.Trial] = set()
        self._reported: dict[Hierarchy, int] = {}
        """The last step reported of each open trial: a cohort may go back to an earlier one."""
        self._patience = storage_of(study).patience
        self._outbox = Outbox(self._patience)
        self.num_told = 0
        """Trials finished by this ledger: as long as it is equal, so are all results."""

    def record(self) -> StudyRecord:
        """The study as it stands."""
        self._outbox.flush()
        return StudyRecord.read(self.study, self._directory)

    @property
    def cohort(self) -> CohortRecord:
        """The last one."""
        return self.record().cohort

    @property
    def told(self) -> list[TrialRecord]:
        """The trials of finished cohorts."""
        return self.record().told

    @property
    def failed(self) -> dict[Hierarchy, int]:
        """The networks of the last cohort that failed for themselves, and the rung before that."""
        record = self.record()
        trials = (t for t in record.finished if t.why and t.cohort == record.cohort.number)
        return {trial.hierarchy: max(trial.by_step, default=0) for trial in trials}

    @property
    def has_enqueued(self) -> bool:
        """Whether a user has enqueued trials that are neither trained nor refused yet."""
        return any(self._enqueued())

    @property
    def wanted(self) -> list[Hierarchy]:
        """What a user has enqueued and can be trained."""
        return list(self._enqueued()[0])

    def _enqueued(self) -> tuple[dict[Hierarchy, FrozenTrial], list[tuple[FrozenTrial, str]]]:
        if not waiting(self.study):
            return {}, []
        # who failed may be asked for again: the cause may be mended
        trained = {self._space.identity(t.hierarchy) for t in self.record().trained if not t.why}
        return enqueued(self.study, self._space, trained)

    def begin(self, cohort: CohortRecord) -> None:
        """Name a cohort, and store a RUNNING trial for each of its hierarchies that is not told."""
        write_cohort(self.study, cohort)
        told = {t.hierarchy for t in self.record().finished if t.cohort == cohort.number}
        asked_by_user, _ = self._enqueued()
        for place, hierarchy in enumerate(cohort.asked):
            if hierarchy not in told:
                self._begin(hierarchy, cohort.number, place, asked_by_user.get(hierarchy))

    def _begin(
        self, hierarchy: Hierarchy, cohort: int, place: int, enqueued: FrozenTrial | None
    ) -> None:
        is_feasible = self._space.violation(hierarchy) is None
        attributes = begun(
            hierarchy,
            cohort,
            place,
            is_reference=hierarchy in self._space.references,
            is_feasible=is_feasible,
        )
        params, distributions = self._space.to_params(hierarchy), self._space.distributions()
        trial = begin_trial(self.study, params, distributions, attributes, enqueued)
        # so that Optuna's own `best_trial` is one that may be called the best
        trial.set_constraint(CONSTRAINT, 0.0 if is_feasible else 1.0)
        self._open[hierarchy] = trial, (cohort, place)
        self._reported.pop(hierarchy, None)

    def report(self, step: int, values: Mapping[Hierarchy, float]) -> None:
        """Store an intermediate value (step: epochs or stages, 1-based) of each open trial; what a
        storage that is away does not take is kept.
        """
        for h, value in values.items():
            if h in self._open and step > self._reported.get(h, 0):
                self._outbox.put(partial(self._open[h][0].report, value, step))
                self._reported[h] = step

    def retire(self, run: Run, pruned: Collection[Hierarchy]) -> None:
        """Tell that hierarchies are pruned, take them out of their run, and keep what was read on
        the way.
        """
        for hierarchy in pruned:
            self.tell(run, hierarchy, TrialState.PRUNED)
        read = {h: self._read_harvest(run, h) for h in _living_harvest(run)}
        run.retire(pruned)
        living = _living_harvest(run)
        if rows := [row for h, row in read.items() if h not in living]:
            add_harvest(self._directory.harvest, rows, ())

    def tell(self, run: Run, hierarchy: Hierarchy, state: TrialState) -> None:
        """Close a trial as COMPLETE or PRUNED; one told before a search was cut off stays."""
        if hierarchy not in self._open:
            return
        trial, order = self._open.pop(hierarchy)
        attributes = self._reached(run, hierarchy, order)
        value = None if state == TrialState.PRUNED else run.history[-1].objective(hierarchy)
        self._outbox.put(partial(self._close, trial, attributes, state, value))

    def fail(self, error: TrainingError) -> None:
        """Tell FAIL, with the reason, for networks that cannot be trained (on)."""
        unheard = [h for h in error.hierarchies if h in self._open]
        if not unheard:
            raise error
        log.warning(
            "%s; the study goes on without it; mend the cause, enqueue it, and it is trained again",
            error,
        )
        for hierarchy in unheard:
            trial, _ = self._open.pop(hierarchy)
            close = partial(self._close, trial, {"why": error.why}, TrialState.FAIL, None)
            self._outbox.put(close)

    def _close(
        self,
        trial: optuna.Trial,
        attributes: Mapping[str, Any],
        state: TrialState,
        value: float | None,
    ) -> None:
        """Once more if the storage went away meanwhile, which may have told the trial before."""
        if trial in self._closing and self.study.trials[trial.number].state.is_finished():
            return
        self._closing.add(trial)
        for key, attribute in attributes.items():
            trial.set_user_attr(key, attribute)
        if has_diverged(attributes):
            trial.set_constraint(FINITE, 1.0)
        self.study.tell(trial, value, state)
        self.num_told += 1

    def finish(self, record: CohortRecord, run: Cohort | None) -> None:
        """Write all that a cohort has come to, and last of all that this is done: a search that is
        cut off before does it again, and what was written is the same.

        Args:
            record: the cohort.
            run: of it; None: no network of it could be trained.
        """
        if run is None:
            write_cohort(self.study, record.finished(0, 0))
            return
        for hierarchy in run.trie.asked:
            self.tell(run, hierarchy, TrialState.COMPLETE)
        living = _living_harvest(run)
        inside = [h for h in living if self._space.violation(h) is None]
        told = {trial.hierarchy for trial in self.record().finished}
        for place, hierarchy in enumerate(inside, len(record.asked)):
            if hierarchy not in told:
                self._add_harvested(run, hierarchy, record.number, place)
        rows = [self._read_harvest(run, h) for h in living if h not in inside]
        trials = {trial.name for trial in self.record().finished}
        add_harvest(self._directory.harvest, rows, trials)
        if self._kept is not None:
            self._kept.update(run, self.record())
        write_cohort(self.study, record.finished(run.blocks_trained, run.trie.blocks_separate))

    def _add_harvested(self, run: Run, hierarchy: Hierarchy, number: int, place: int) -> None:
        """Store a network that was read off the trie without having been asked for."""
        self.num_told += 1
        attributes = begun(hierarchy, number, place, is_harvested=True)
        attributes |= self._reached(run, hierarchy, (number, place))
        self.study.add_trial(
            optuna.create_trial(
                value=run.history[-1].objective(hierarchy),
                params=self._space.to_params(hierarchy),
                distributions=dict(self._space.distributions()),
                user_attrs=attributes,
                constraints={CONSTRAINT: 0.0} | ({FINITE: 1.0} if has_diverged(attributes) else {}),
                intermediate_values={
                    rung.step: rung.ranked(hierarchy, self._by)
                    for rung in run.history
                    if hierarchy in rung.accuracies
                },
            )
        )

    def fail_unfinished(self) -> None:
        """Tell FAIL for every trial that nobody trains any more, or that cannot be trained."""
        self._open.clear()
        self._outbox.clear()
        for trial, why in self._enqueued()[1]:
            refuse(self.study, trial, why)
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self.study.tell(trial.number, state=TrialState.FAIL)

    def hurry(self) -> None:
        """Wait no more for a storage that is away, and forget what it lacks: the process ends."""
        self._patience.end()
        self._outbox.clear()

    def _reached(self, run: Run, hierarchy: Hierarchy, order: tuple[int, int]) -> dict[str, Any]:
        """A trial's attributes when it ends, its file written."""
        heads = write_heads(self._directory.heads, order, run.reads(hierarchy))
        costs = self._costs(run, hierarchy)
        return reached(run, hierarchy, self._plan(hierarchy)) | heads | costs

    def _read_harvest(self, run: Run, hierarchy: Hierarchy) -> Harvest:
        """A harvested network as far as it is trained, and why it is not in the study."""
        violation = self._space.violation(hierarchy)
        return read_harvest(run, hierarchy, self._plan(hierarchy), violation)


def _living_harvest(run: Run) -> list[Hierarchy]:
    living = set(run.trie.living)
    return [h for h in run.harvested if h in living]
