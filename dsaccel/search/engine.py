"""Search: propose a cohort, train it as one trie, prune at rungs, tell Optuna, go on.

A search is an iterator of `Progress`, one a rung. What it knows is in the study: a search that was
cut off is continued by running it again, and proposes and reaches what it would have anyway.
"""

import logging
import time
from collections.abc import Generator, Iterator, Sequence

from optuna import Study

from dsaccel.executors import Executor
from dsaccel.parts import part_of
from dsaccel.search.baselines import Baselines
from dsaccel.search.loop import Loop
from dsaccel.search.measuring import measured_costs
from dsaccel.search.progress import Later, Progress, Standing
from dsaccel.search.trainer import TeamTrainer
from dsaccel.search.workload import Workload
from dsaccel.spec.costs import COSTS
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.study.folder import StudyDir
from dsaccel.study.kept import Kept
from dsaccel.study.record import CohortRecord, StudyRecord
from dsaccel.study.storage import driving
from dsaccel.study.trials import Ledger
from dsaccel.study.writing import add_time, write_crew
from dsaccel.training.blame import TrainingError, blaming
from dsaccel.training.checkpoint import remove_checkpoint
from dsaccel.training.device import running
from dsaccel.training.learner_files import remove_learners
from dsaccel.training.run import Run
from dsaccel.training.workbench import Workbench

log = logging.getLogger("dsaccel")


class Search:
    """One study, from wherever it stands to its budget."""

    def __init__(self, bench: Workbench, directory: StudyDir, study: Study) -> None:
        """
        Args:
            bench: data, networks and space, with the resolved settings.
            directory: where the study's files lie.
            study: has been begun with these settings; see `open_search`.
        """
        self.bench, self.directory, self.study = bench, directory, study
        self.config = config = bench.config
        self.data, self.device = bench.data, bench.device
        self.plan, self.space = bench.plan, bench.space
        self.url = directory.storage_url(config)
        kept, by = Kept(directory, bench), config.ranked_by
        costs = self._measured_costs
        self.ledger = Ledger(study, directory, self.space, self.plan, by, costs, kept)
        self.loop = Loop(config, self.space, self.plan, self.ledger)
        self.baselines = Baselines(study, bench, directory.heads, kept)
        self.started = time.perf_counter()
        self._standing = Standing(self.ledger, config.budget.n_trials, self._later)

    @property
    def num_trained(self) -> int:
        """Distinct networks trained to their end or pruned; harvested ones do not count."""
        return len(self.space.distinct(t.hierarchy for t in self.ledger.record().trained))

    @property
    def is_exhausted(self) -> bool:
        """Whether every feasible network is trained, harvested ones too."""
        feasible = self.space.feasible()
        if feasible is None:
            return False
        finished = {self.space.identity(t.hierarchy) for t in self.ledger.record().finished}
        return finished >= {self.space.identity(h) for h in feasible}

    @property
    def meets_no_more(self) -> bool:
        """Whether trials are left, but no hierarchy that is drawn is both feasible and new."""
        has_room = self.num_trained < self.config.budget.n_trials
        return has_room and self.space.size is None and not self.loop.next().asked

    @property
    def is_finished(self) -> bool:
        """Whether there is nothing left to train."""
        if self.loop.next().asked or self.ledger.has_enqueued:
            return False
        return self.baselines.due() is None

    def run(self) -> Generator[Progress]:
        """Train until the budget is spent, the time is up, or no more hierarchies are met.

        What runs when the iterator is closed or interrupted is told FAIL, and trained again by the
        next search.

        Raises:
            StorageError: if the storage fails, or another process trains in the study.
            NoMemoryError: if one network alone needs more memory than there is.
        """
        runtime = self.config.runtime
        executor: Executor = part_of(runtime, "executor", runtime.chosen_executor)
        self._folder = executor.folder(self.directory.parts)
        with (
            driving(self.study, self.directory),
            running(runtime),
            executor.team(self.bench, self._folder) as self._team,
        ):
            self.ledger.fail_unfinished()
            try:
                while (cohort := self.loop.next()).asked:
                    yield from self._train_cohort(cohort)
                    if self._time_is_up():
                        return
                if winner := self.baselines.due():
                    yield from self._show(self.baselines.train_winner(winner, self._trainer()))
                    remove_learners(self._folder)
            except BaseException:
                self.ledger.hurry()
                raise
            finally:
                self._add_time()
                self.ledger.fail_unfinished()

    # ------------------------------------------------------------------ cohorts

    def _train_cohort(self, record: CohortRecord) -> Iterator[Progress]:
        """Train a cohort. Who fails twice is left out: once may have been the machine's fault."""
        self.ledger.begin(record)
        failed_before: set[Hierarchy] = set()
        while asked := self._still_asked(record):
            try:
                yield from self._train_together(record, asked)
                return
            except TrainingError as error:
                if failed_before.issuperset(error.hierarchies):
                    self.ledger.fail(error)
                else:
                    log.warning("%s: it is tried once more", error)
                    failed_before.update(error.hierarchies)
        self.ledger.finish(record, None)

    def _still_asked(self, record: CohortRecord) -> list[Hierarchy]:
        """The networks of a cohort that have not failed before their first rung."""
        failed = self.ledger.failed
        return [h for h in record.asked if failed.get(h) != 0]

    def _train_together(
        self, record: CohortRecord, asked: Sequence[Hierarchy]
    ) -> Iterator[Progress]:
        """Train networks of a cohort, in smaller parts if the memory does not suffice after all."""
        trainer = self._trainer()
        for hierarchy in asked:
            with blaming(lambda _, h=hierarchy: (h,), self.device):
                trainer.memory.check({hierarchy: self.plan(hierarchy)}, self.config.training)
        yield from trainer.memory.retry(lambda: self._train_attempt(record, asked, trainer))

    def _train_attempt(
        self, record: CohortRecord, asked: Sequence[Hierarchy], trainer: TeamTrainer
    ) -> Generator[Progress]:
        done_before = sum(not trial.is_harvested for trial in self.ledger.told)
        for run in self.loop.train(asked, trainer):
            if run.is_over:
                if "gap" in (self.config.budget.against or ()):
                    for together in self._at_once(run.trie.asked):
                        training = self.baselines.train(together, self._trainer())
                        yield from self._show(training)
                self.ledger.finish(record, run)
                if run.crew is not None:
                    write_crew(self.study, run.crew)
                remove_checkpoint(self.directory.checkpoint)
                remove_learners(self._folder)
            done = done_before + len(record.asked) * run.step / run.num_steps
            total = max(self.config.budget.n_trials, done_before + len(record.asked))
            yield self._standing.after("search", run, done, total)
            if run.at_rest and self._time_is_up():
                run.save(now=True)
                return

    def _trainer(self) -> TeamTrainer:
        """The trainer from now on."""
        memory = self.bench.memory_limit(self._team.share)
        return TeamTrainer(self.bench, self.directory, memory, self._team, self._folder)

    def _at_once(self, hierarchies: Sequence[Hierarchy]) -> list[Sequence[Hierarchy]]:
        """Baselines that are trained together: several workers share them out among themselves."""
        return [[h] for h in hierarchies] if self._team.is_here else [hierarchies]

    # ------------------------------------------------------------------ beside the cohorts

    def _show(self, training: Iterator[Run]) -> Iterator[Progress]:
        """The progress of a baseline."""
        for run in training:
            yield self._standing.after("baseline", run, run.step, run.num_steps)

    def _later(self, record: StudyRecord) -> Later:
        """The work after the search, and after the baseline."""
        return Workload.of(self.bench, record).later

    def _measured_costs(self, run: Run, hierarchy: Hierarchy) -> dict[str, float]:
        """The measured costs of a trial, where the study weighs some."""
        names = self.config.budget.against or ()
        costs = measured_costs(names, self.plan(hierarchy), self.config.training, self.bench)
        if "gap" in names and (reached := self.baselines.reached(hierarchy)):
            gap = reached.accuracy - run.history[-1].objective(hierarchy)
            costs[COSTS["gap"].attribute] = gap
        return costs

    def _time_is_up(self) -> bool:
        timeout_s = self.config.budget.timeout_s
        return timeout_s is not None and time.perf_counter() - self.started > timeout_s

    def _add_time(self) -> None:
        now = time.perf_counter()
        add_time(self.study, now - self.started)
        self.started = now
