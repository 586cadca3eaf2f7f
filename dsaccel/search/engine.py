"""Search: propose a cohort, train it as one trie, prune at rungs, tell Optuna, go on.

A search is an iterator of `Progress`, one a rung. What it knows is in the study: a search that was
cut off is continued by running it again, and proposes and reaches what it would have anyway.
"""

import shutil
import time
from collections.abc import Generator, Hashable, Iterable, Iterator, Sequence
from contextlib import suppress

from optuna import Study
from optuna.trial import TrialState

from dsaccel.errors import ConfigError
from dsaccel.parts import part_of
from dsaccel.schedules import Schedule
from dsaccel.schedules.looking_ahead import ahead_of
from dsaccel.search.baselines import Baselines
from dsaccel.search.beam import beam_losers
from dsaccel.search.optuna_pruners import OptunaJudge
from dsaccel.search.progress import Progress, Standing
from dsaccel.search.proposals import next_cohort
from dsaccel.search.pruners import losers, rung_steps
from dsaccel.spec.costs import COSTS
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.plan import Plan
from dsaccel.study.folder import StudyDir
from dsaccel.study.harvest import Harvest, add_harvest, read_harvest
from dsaccel.study.record import CohortRecord
from dsaccel.study.resume import study_fingerprint
from dsaccel.study.storage import driving
from dsaccel.study.trial_record import TrialRecord
from dsaccel.study.trials import Ledger
from dsaccel.study.writing import add_time, write_cohort
from dsaccel.training.checkpoint import Checkpoints, remove_checkpoint
from dsaccel.training.cohort import Cohort
from dsaccel.training.device import running
from dsaccel.training.measured import training_peak_bytes
from dsaccel.training.memory_limit import MemoryLimit
from dsaccel.training.workbench import Workbench


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
        num_stages = len(config.space.num_blocks)
        self._prune_at = rung_steps(config.pruning, config.training, num_stages)
        self._schedule: Schedule = part_of(config.training, "schedule")
        if config.budget.strategy == "beam":
            self._prune_at = tuple(range(1, num_stages))
            self._schedule = ahead_of(self._schedule)
        self._cost = COSTS[config.budget.against] if config.budget.against else None
        self.ledger = Ledger(
            study, directory, self.space, self.plan, config.ranked_by, self._measured_costs
        )
        self.baselines = Baselines(study, bench)
        self.started = time.perf_counter()
        self._standing = Standing(self.ledger, config.budget.n_trials)

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
        finished = self._identities(self.ledger.record().finished)
        return finished >= {self.space.identity(h) for h in feasible}

    @property
    def meets_no_more(self) -> bool:
        """Whether there are trials left, but all that is drawn of a space too large to list is
        outside the measured bounds or trained.
        """
        has_room = self.num_trained < self.config.budget.n_trials
        return has_room and self.space.size is None and not self._next_cohort().asked

    @property
    def is_finished(self) -> bool:
        """Whether there is nothing left to train."""
        if self._next_cohort().asked or self.ledger.has_enqueued:
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
        with driving(self.study, self.directory), running(runtime):
            self.ledger.fail_unfinished()
            try:
                while (cohort := self._next_cohort()).asked:
                    yield from self._train_cohort(cohort)
                    if self._time_is_up():
                        return
                if winner := self.baselines.due():
                    baseline = self.baselines.train_winner(winner, self.bench.memory_limit())
                    yield from self._show(baseline)
            except BaseException:
                self.ledger.hurry()
                raise
            finally:
                self._add_time()
                self.ledger.fail_unfinished()

    # ------------------------------------------------------------------ cohorts

    def _next_cohort(self) -> CohortRecord:
        """What to train next, if anything; the same again after a cohort that was cut off."""
        record = self.ledger.record()
        if not record.cohort.is_finished:
            return record.cohort
        asked = next_cohort(
            self.space,
            [told.trial for told in record.told],
            cohort_size=self.config.budget.cohort_size or 1,
            n_trials=self.config.budget.n_trials,
            seed=self.config.seed,
            strategy=self.config.budget.strategy or "tpe",
            cost=self._cost,
            wanted=self.ledger.wanted,
        )
        return record.cohort.next(asked)

    def _train_cohort(self, record: CohortRecord) -> Iterator[Progress]:
        """Train a cohort, in smaller parts if the memory does not suffice after all."""
        self.ledger.begin(record)
        memory = self.bench.memory_limit()
        memory.check({h: self.plan(h) for h in record.asked}, self.config.training)
        try:
            yield from memory.retry(lambda: self._train_attempt(record, memory))
        finally:
            shutil.rmtree(self.directory.parts, ignore_errors=True)

    def _identities(self, trials: Iterable[TrialRecord]) -> set[Hashable]:
        """The networks of trials, by `SearchSpace.identity`."""
        return {self.space.identity(trial.hierarchy) for trial in trials}

    def _train_attempt(self, record: CohortRecord, memory: MemoryLimit) -> Generator[Progress]:
        told, hierarchies = self.ledger.record().told, list(record.asked)
        done_before = sum(not trial.is_harvested for trial in told)
        cohort = self._make_cohort(hierarchies, self._identities(told), memory)
        fingerprint = study_fingerprint(self.config, self.data.fingerprint)
        checkpoints = Checkpoints(self.directory.checkpoint, fingerprint, cohort)
        by, judge = self.config.ranked_by, self._judge(hierarchies, told)
        for rung in cohort.history:
            values = {h: rung.ranked(h, by) for h in rung.accuracies}
            self.ledger.report(rung.step, values)
            if judge is not None:
                judge.losers(rung.step, values)
        for rung in cohort.rungs():
            asked = [h for h in cohort.trie.asked if h in rung.accuracies]
            values = {h: rung.ranked(h, by) for h in asked}
            self.ledger.report(rung.step, values)
            if judge is not None:
                self._retire(cohort, judge.losers(rung.step, values))
            elif rung.step in self._prune_at:
                self._retire(cohort, self._losers(cohort, rung.step, values))
            if rung.step == cohort.num_steps or not cohort.trie.asked:
                if self.config.budget.against == "gap":
                    for name in cohort.trie.asked:
                        yield from self._show(self.baselines.train(name, self.bench.memory_limit()))
                self._finish(record, cohort)
            else:
                checkpoints.save(now=self._time_is_up())
            done = done_before + len(hierarchies) * rung.step / cohort.num_steps
            yield self._standing.after("search", cohort, done)
            if cohort.at_rest and self._time_is_up():
                return

    def _judge(
        self, hierarchies: list[Hierarchy], told: Sequence[TrialRecord]
    ) -> OptunaJudge | None:
        """Where one of Optuna's pruners decides on a cohort."""
        if not self.config.pruning.is_optunas:
            return None
        return OptunaJudge(
            self.config.pruning,
            [earlier.trial for earlier in told],
            hierarchies,
            self.space.distributions(),
            training=self.config.training,
            prune_at=self._prune_at,
            references=self.space.references,
        )

    def _losers(self, cohort: Cohort, step: int, values: dict[Hierarchy, float]) -> list[Hierarchy]:
        """References are never pruned; a beam holds them if they are feasible."""
        if self.config.budget.strategy == "beam":
            in_space = {h: v for h, v in values.items() if self.space.violation(h) is None}
            stopped = beam_losers(in_space, step, self.config.budget.beam_width)
            return [h for h in stopped if h not in self.space.references]
        ranked = {h: v for h, v in values.items() if h not in self.space.references}
        return losers(ranked, self.config.pruning, cohort.prefixes())

    def _retire(self, cohort: Cohort, pruned: list[Hierarchy]) -> None:
        """Take the losers of a rung out of the cohort, and keep what was read on the way."""
        for hierarchy in pruned:
            self.ledger.tell(cohort, hierarchy, TrialState.PRUNED)
        read = {h: self._read_harvest(cohort, h) for h in self._living_harvest(cohort)}
        cohort.trie.retire(set(pruned))
        living = self._living_harvest(cohort)
        if rows := [row for h, row in read.items() if h not in living]:
            add_harvest(self.directory.harvest, rows, ())

    def _make_cohort(
        self, hierarchies: list[Hierarchy], known: set[Hashable], memory: MemoryLimit
    ) -> Cohort:
        return memory.split_cohort(
            {h: self.plan(h) for h in hierarchies},
            self.config.training,
            self.data,
            seed=self.config.seed,
            device=self.device,
            harvest=self._harvest(hierarchies, known),
            schedule=self._schedule,
            split={"stops": self._prune_at, "folder": self.directory.parts},
        )

    def _harvest(self, hierarchies: list[Hierarchy], known: set[Hashable]) -> dict[Hierarchy, Plan]:
        """Networks that end on the way to these: fewer blocks in the last stage."""
        plans: dict[Hierarchy, Plan] = {}
        for hierarchy in self.space.on_the_way(hierarchies):
            if self.space.identity(hierarchy) in known:
                continue
            # one may end before its first loss: no network
            with suppress(ConfigError):
                plans[hierarchy] = self.plan(hierarchy)
        return plans

    def _finish(self, record: CohortRecord, cohort: Cohort) -> None:
        """Write all that a cohort has come to, and last of all that this is done: a search that is
        cut off before does it again, and what was written is the same.
        """
        living = self._living_harvest(cohort)
        inside = [h for h in living if self.space.violation(h) is None]
        self.ledger.finish(record, cohort, inside)
        self._write_harvest([self._read_harvest(cohort, h) for h in living if h not in inside])
        done = record.finished(cohort.blocks_trained, cohort.trie.blocks_separate)
        write_cohort(self.study, done)
        remove_checkpoint(self.directory.checkpoint)

    # ------------------------------------------------------------------ harvest

    def _living_harvest(self, cohort: Cohort) -> list[Hierarchy]:
        living = set(cohort.trie.living)
        return [h for h in cohort.harvested if h in living]

    def _read_harvest(self, cohort: Cohort, hierarchy: Hierarchy) -> Harvest:
        """A harvested network as far as it is trained, and why it is not in the study."""
        violation = self.space.violation(hierarchy)
        return read_harvest(cohort, hierarchy, self.plan(hierarchy), violation)

    def _write_harvest(self, rows: list[Harvest]) -> None:
        trials = {trial.name for trial in self.ledger.record().finished}
        add_harvest(self.directory.harvest, rows, trials)

    # ------------------------------------------------------------------ beside the cohorts

    def _show(self, training: Iterator[Cohort]) -> Iterator[Progress]:
        """The progress of a baseline."""
        for cohort in training:
            yield self._standing.after("baseline", cohort, self.num_trained)

    def _measured_costs(self, cohort: Cohort, hierarchy: Hierarchy) -> dict[str, float]:
        """What a trial costs, where the study weighs it and it has to be measured."""
        against = self.config.budget.against
        if against == "memory":
            plan = self.plan(hierarchy)
            peak = training_peak_bytes(plan, cohort.training, self.data, device=self.device)
            return {COSTS[against].attribute: peak}
        if against == "gap" and (reached := self.baselines.reached(hierarchy)):
            gap = reached.accuracy - cohort.history[-1].objective(hierarchy)
            return {COSTS[against].attribute: gap}
        return {}

    def _time_is_up(self) -> bool:
        timeout_s = self.config.budget.timeout_s
        return timeout_s is not None and time.perf_counter() - self.started > timeout_s

    def _add_time(self) -> None:
        now = time.perf_counter()
        add_time(self.study, now - self.started)
        self.started = now
