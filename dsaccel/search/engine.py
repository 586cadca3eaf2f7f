"""Search: propose a cohort, train it as one trie, prune at rungs, tell Optuna, go on.

A search is an iterator of `Progress`, one a rung. What it knows is in the study: a search that was
cut off is continued by running it again, and proposes and reaches what it would have anyway.
"""

import shutil
import time
from collections.abc import Generator, Hashable, Iterator
from contextlib import suppress

from optuna import Study
from optuna.trial import TrialState

from dsaccel.errors import ConfigError
from dsaccel.search.baselines import Baselines
from dsaccel.search.beam import beam_losers
from dsaccel.search.optuna_pruners import OptunaJudge
from dsaccel.search.progress import Progress, Standing
from dsaccel.search.proposals import next_cohort
from dsaccel.search.pruners import losers, rung_steps
from dsaccel.spec.costs import COSTS
from dsaccel.spec.hierarchy import Hierarchy, format_hierarchy, parse_hierarchy
from dsaccel.spec.plan import Plan
from dsaccel.study.folder import StudyDir, training_lock
from dsaccel.study.harvest import Harvest, add_harvest, read_harvest
from dsaccel.study.resume import study_fingerprint
from dsaccel.study.storage import storage_errors
from dsaccel.study.trials import Ledger
from dsaccel.training.allocations import training_peak_bytes
from dsaccel.training.checkpoint import checkpoint_key, load_checkpoint, save_checkpoint
from dsaccel.training.cohort import Cohort
from dsaccel.training.memory_limit import MemoryLimit
from dsaccel.training.runtime import running
from dsaccel.training.workbench import Workbench

CHECKPOINT_INTERVAL_S = 60.0
CHECKPOINT_S = 0.6
"""A checkpoint that takes longer is made less often: in one part of a hundred of the time."""


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
        if config.budget.strategy == "beam":
            self._prune_at = tuple(range(1, num_stages))
        self._cost = COSTS[config.budget.against] if config.budget.against else None
        self.ledger = Ledger(study, self.space, self.plan, config.pruning.by, self._measured_costs)
        self.baselines = Baselines(study, bench)
        self.started = time.perf_counter()
        self._standing = Standing(self.ledger, config.budget.n_trials)

    @property
    def num_trained(self) -> int:
        """Distinct networks trained to their end or pruned; harvested ones do not count."""
        return len(self.space.distinct(map(parse_hierarchy, self.ledger.trained())))

    @property
    def is_exhausted(self) -> bool:
        """Whether every feasible network is trained, harvested ones too."""
        feasible = self.space.feasible()
        if feasible is None:
            return False
        return self._known() >= {self.space.identity(h) for h in feasible}

    @property
    def meets_no_more(self) -> bool:
        """Whether there are trials left, but all that is drawn of a space too large to list is
        outside the measured bounds or trained.
        """
        has_room = self.num_trained < self.config.budget.n_trials
        return has_room and self.space.size is None and not self._next_cohort()

    @property
    def is_finished(self) -> bool:
        """Whether there is nothing left to train."""
        return not self._next_cohort() and self.baselines.due() is None

    def run(self) -> Generator[Progress]:
        """Train until the budget is spent, the time is up, or no more hierarchies are met.

        What runs when the iterator is closed or interrupted is told FAIL, and trained again by the
        next search.

        Raises:
            StorageError: if the storage fails, or another process trains in the study.
            NoMemoryError: if one network alone needs more memory than there is.
        """
        runtime = self.config.runtime
        with storage_errors(self.url), training_lock(self.directory), running(runtime):
            self.ledger.fail_unfinished()
            try:
                while names := self._next_cohort():
                    yield from self._train_cohort(names)
                    if self._time_is_up():
                        return
                if winner := self.baselines.due():
                    baseline = self.baselines.train_winner(winner, self.bench.memory_limit())
                    yield from self._show(baseline)
            finally:
                self._add_time()
                self.ledger.fail_unfinished()

    # ------------------------------------------------------------------ cohorts

    def _next_cohort(self) -> list[str]:
        """The hierarchies to train next; the same ones again after a cohort that was cut off."""
        trained = self.ledger.trained()
        unfinished = self.study.user_attrs.get("cohort", [])
        if not set(unfinished) <= trained.keys():
            return unfinished
        cohort = next_cohort(
            self.space,
            self.study.get_trials(deepcopy=False),
            cohort_size=self.config.budget.cohort_size or 1,
            n_trials=self.config.budget.n_trials,
            seed=self.config.seed,
            strategy=self.config.budget.strategy or "tpe",
            cost=self._cost,
        )
        return [format_hierarchy(hierarchy) for hierarchy in cohort]

    def _train_cohort(self, names: list[str]) -> Iterator[Progress]:
        """Train a cohort, in smaller parts if the memory does not suffice after all."""
        self.study.set_user_attr("cohort", names)
        finished = self.ledger.finished().keys()
        for name in names:
            if name not in finished:
                self.ledger.open(name)
        known = self._known()
        memory = self.bench.memory_limit()
        memory.check(
            {name: self.plan(parse_hierarchy(name)) for name in names}, self.config.training
        )
        try:
            yield from memory.retry(lambda: self._train_attempt(names, known, memory))
        finally:
            shutil.rmtree(self.directory.parts, ignore_errors=True)

    def _known(self) -> set[Hashable]:
        """What is trained, by `SearchSpace.identity`; harvested networks too."""
        return {self.space.identity(parse_hierarchy(name)) for name in self.ledger.finished()}

    def _train_attempt(
        self, names: list[str], known: set[Hashable], memory: MemoryLimit
    ) -> Generator[Progress]:
        done_before = len(self.ledger.trained().keys() - set(names))
        cohort = self._make_cohort(names, known, memory)
        key = checkpoint_key(study_fingerprint(self.config, self.data.fingerprint), cohort)
        load_checkpoint(self.directory.checkpoint, key, cohort)
        by, judge = self.config.pruning.by, self._judge(names)
        for rung in cohort.history:
            values = {name: rung.ranked(name, by) for name in rung.accuracies}
            self.ledger.report(rung.step, values)
            if judge is not None:
                judge.losers(rung.step, values)
        saved, pause_s = time.perf_counter(), CHECKPOINT_INTERVAL_S
        for rung in cohort.rungs():
            asked = [name for name in cohort.trie.asked if name in rung.accuracies]
            values = {name: rung.ranked(name, by) for name in asked}
            self.ledger.report(rung.step, values)
            if judge is not None:
                self._retire(cohort, judge.losers(rung.step, values))
            elif rung.step in self._prune_at:
                self._retire(cohort, self._losers(cohort, rung.step, values))
            if rung.step == cohort.num_steps or not cohort.trie.asked:
                if self.config.budget.against == "gap":
                    for name in cohort.trie.asked:
                        yield from self._show(self.baselines.train(name, self.bench.memory_limit()))
                self._finish(cohort)
            elif cohort.at_rest and (self._time_is_up() or time.perf_counter() - saved > pause_s):
                started = time.perf_counter()
                save_checkpoint(self.directory.checkpoint, key, cohort)
                saved = time.perf_counter()
                pause_s = CHECKPOINT_INTERVAL_S * max(1.0, (saved - started) / CHECKPOINT_S)
            done = done_before + len(names) * rung.step / cohort.num_steps
            yield self._standing.after("search", cohort, done)
            if cohort.at_rest and self._time_is_up():
                return

    def _judge(self, names: list[str]) -> OptunaJudge | None:
        """Where one of Optuna's pruners decides on a cohort."""
        if not self.config.pruning.is_optunas:
            return None
        finished = sorted(self.ledger.finished().values(), key=lambda trial: trial.number)
        return OptunaJudge(
            self.config.pruning,
            [trial for trial in finished if trial.user_attrs["hierarchy"] not in names],
            names,
            self.space.distributions(),
            training=self.config.training,
            prune_at=self._prune_at,
            references=self.config.references,
        )

    def _losers(self, cohort: Cohort, step: int, values: dict[str, float]) -> list[str]:
        """References are never pruned; a beam holds them if they are feasible."""
        if self.config.budget.strategy == "beam":
            feasible = [n for n in values if self.space.violation(parse_hierarchy(n)) is None]
            in_space = {name: values[name] for name in feasible}
            stopped = beam_losers(in_space, step, self.config.budget.beam_width)
            return [name for name in stopped if name not in self.config.references]
        ranked = {n: v for n, v in values.items() if n not in self.config.references}
        return losers(ranked, self.config.pruning, cohort.prefixes())

    def _retire(self, cohort: Cohort, pruned: list[str]) -> None:
        """Take the losers of a rung out of the cohort, and keep what was read on the way."""
        for name in pruned:
            self.ledger.tell(cohort, name, TrialState.PRUNED)
        read = [self._read_harvest(cohort, name) for name in self._living_harvest(cohort)]
        cohort.trie.retire(set(pruned))
        living = self._living_harvest(cohort)
        self._write_harvest([row for row in read if row.hierarchy not in living])

    def _make_cohort(self, names: list[str], known: set[Hashable], memory: MemoryLimit) -> Cohort:
        hierarchies = [parse_hierarchy(name) for name in names]
        return memory.split_cohort(
            {name: self.plan(h) for name, h in zip(names, hierarchies, strict=True)},
            self.config.training,
            self.data,
            seed=self.config.seed,
            device=self.device,
            harvest=self._harvest(hierarchies, known),
            looks_ahead=self.config.budget.strategy == "beam",
            split={"stops": self._prune_at, "folder": self.directory.parts},
        )

    def _harvest(self, hierarchies: list[Hierarchy], known: set[Hashable]) -> dict[str, Plan]:
        """Networks that end on the way to these: fewer blocks in the last stage."""
        plans: dict[str, Plan] = {}
        for hierarchy in self.space.on_the_way(hierarchies):
            if self.space.identity(hierarchy) in known:
                continue
            # one may end before its first loss: no network
            with suppress(ConfigError):
                plans[format_hierarchy(hierarchy)] = self.plan(hierarchy)
        return plans

    def _finish(self, cohort: Cohort) -> None:
        """Tell the cohort's results, and those that were read on the way."""
        for name in cohort.trie.asked:
            self.ledger.tell(cohort, name, TrialState.COMPLETE)
        outside: list[Harvest] = []
        for name in self._living_harvest(cohort):
            if self.space.violation(parse_hierarchy(name)) is not None:
                outside.append(self._read_harvest(cohort, name))
            else:
                self.ledger.add_harvested(cohort, name)
        self._write_harvest(outside)
        blocks = {
            "blocks_trained": cohort.blocks_trained,
            "blocks_separate": cohort.trie.blocks_separate,
        }
        for key, num in blocks.items():
            self.study.set_user_attr(key, self.study.user_attrs.get(key, 0) + num)
        self.directory.checkpoint.unlink(missing_ok=True)

    # ------------------------------------------------------------------ harvest

    def _living_harvest(self, cohort: Cohort) -> list[str]:
        living = set(cohort.trie.names)
        return [name for name in cohort.harvested if name in living]

    def _read_harvest(self, cohort: Cohort, name: str) -> Harvest:
        """A harvested network as far as it is trained, and why it is not in the study."""
        hierarchy = parse_hierarchy(name)
        return read_harvest(cohort, name, self.plan(hierarchy), self.space.violation(hierarchy))

    def _write_harvest(self, rows: list[Harvest]) -> None:
        add_harvest(self.directory.harvest, rows, self.ledger.finished().keys())

    # ------------------------------------------------------------------ beside the cohorts

    def _show(self, training: Iterator[Cohort]) -> Iterator[Progress]:
        """The progress of a baseline."""
        for cohort in training:
            yield self._standing.after("baseline", cohort, self.num_trained)

    def _measured_costs(self, cohort: Cohort, name: str) -> dict[str, float]:
        """What a trial costs, where the study weighs it and it has to be measured."""
        against = self.config.budget.against
        if against == "memory":
            plan = self.plan(parse_hierarchy(name))
            peak = training_peak_bytes(plan, cohort.training, self.data, device=self.device)
            return {COSTS[against].attribute: peak}
        reached = self.baselines.reached(name)
        if against == "gap" and reached:
            gap = reached["val_accuracy"] - cohort.history[-1].output(name)
            return {COSTS[against].attribute: gap}
        return {}

    def _time_is_up(self) -> bool:
        timeout_s = self.config.budget.timeout_s
        return timeout_s is not None and time.perf_counter() - self.started > timeout_s

    def _add_time(self) -> None:
        now = time.perf_counter()
        total = self.study.user_attrs.get("time_s", 0.0) + now - self.started
        self.study.set_user_attr("time_s", total)
        self.started = now
