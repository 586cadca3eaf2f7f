"""The search itself: propose a cohort, train it to its next rung, retire who loses there, go on.

It stands once: `engine.py` has cohorts trained and keeps a study, `analysis/replay.py` reads them
off a table and keeps notes.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Protocol, TypeVar

from dsaccel.config.study import StudyConfig
from dsaccel.errors import ConfigError
from dsaccel.parts import part_of
from dsaccel.schedules import Schedule
from dsaccel.search.proposals import next_cohort
from dsaccel.search.pruners import Judge, Race, find_pruner, rung_steps
from dsaccel.search.strategies import Strategy
from dsaccel.space.space import SearchSpace
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.plan import Plan
from dsaccel.study.record import CohortRecord
from dsaccel.study.trial_record import TrialRecord
from dsaccel.training.run import Run, Trainer

R = TypeVar("R", bound=Run)


class Known(Protocol):
    """What is known of a search."""

    @property
    def cohort(self) -> CohortRecord:
        """The last one."""
        ...

    @property
    def told(self) -> Sequence[TrialRecord]:
        """The trials of finished cohorts."""
        ...

    @property
    def wanted(self) -> Sequence[Hierarchy]:
        """What a user asks for beside all that is proposed."""
        ...


class Trials(Known, Protocol):
    """What is known of a search, and is told of it."""

    @property
    def failed(self) -> Mapping[Hierarchy, int]:
        """The networks of the cohort that failed, and the rung at which each is retired."""
        ...

    def report(self, step: int, values: Mapping[Hierarchy, float]) -> None:
        """Tell the accuracies that rank hierarchies at a rung."""
        ...

    def retire(self, run: Run, pruned: Collection[Hierarchy]) -> None:
        """Tell that hierarchies are pruned, and take them out of their run."""
        ...


class Agenda:
    """What a search trains next, and at which rungs it decides."""

    def __init__(self, config: StudyConfig, space: SearchSpace, known: Known) -> None:
        """
        Args:
            config: how to search and prune; budget and strategy are chosen.
            space: what is searched.
            known: what is known.
        """
        self._config, self._space, self._known = config, space, known
        num_stages = len(config.space.num_blocks)
        self.schedule: Schedule = part_of(config.training, "schedule")
        self.stops = rung_steps(config.pruning, config.training, num_stages)
        """The rungs at which networks may be retired."""
        self._strategy: Strategy = part_of(config.budget, "strategy")
        self.schedule = self._strategy.schedule(self.schedule)
        if self._strategy.decides:
            self.stops = tuple(range(1, self.schedule.num_steps(num_stages)))

    def next(self) -> CohortRecord:
        """The next cohort, perhaps empty; a cohort that was cut off comes again."""
        last, budget = self._known.cohort, self._config.budget
        if not last.is_finished:
            return last
        asked = next_cohort(
            self._space,
            [told.trial for told in self._known.told],
            cohort_size=budget.cohort_size or 1,
            n_trials=budget.n_trials,
            seed=self._config.seed,
            strategy=self._strategy,
            costs=budget.costs,
            wanted=self._known.wanted,
        )
        return last.next(asked)


class Loop(Agenda):
    """A search by its settings."""

    def __init__(
        self,
        config: StudyConfig,
        space: SearchSpace,
        plan: Callable[[Hierarchy], Plan],
        trials: Trials,
    ) -> None:
        """
        Args:
            config: as of an agenda.
            space: likewise.
            plan: the network of a hierarchy.
            trials: what is known, and is told of what is trained.
        """
        super().__init__(config, space, trials)
        self._plan, self._trials = plan, trials

    def train(self, asked: Sequence[Hierarchy], trainer: Trainer[R]) -> Iterator[R]:
        """Train a cohort; yields its run after each rung, at which it is decided who goes on."""
        told, by, failed = self._trials.told, self._config.ranked_by, self._trials.failed
        plans = {h: self._plan(h) for h in asked}
        run = trainer.start(plans, self._harvest(asked, told), self.schedule, self.stops)
        judge = self._judge(asked, told)
        for rung in run.rungs():
            values = {h: rung.ranked(h, by) for h in run.trie.asked if h in rung.accuracies}
            self._trials.report(rung.step, values)
            late = [h for h in run.trie.asked if failed.get(h) == rung.step]
            if pruned := [*self._losers(run, judge, values), *late]:
                self._trials.retire(run, pruned)
            yield run

    def _losers(self, run: Run, judge: Judge, values: Mapping[Hierarchy, float]) -> list[Hierarchy]:
        """Who stops at a rung: no reference; a deciding strategy ranks feasible ones alone."""
        if judge.sees_all:
            return judge.losers(run.step, values, run.prefixes())
        if run.step not in self.stops:
            return []
        references = self._space.references
        if self._strategy.decides:
            in_space = {h: v for h, v in values.items() if self._space.violation(h) is None}
            stopped = self._strategy.losers(run.step, in_space)
            return [h for h in stopped if h not in references]
        ranked = {h: v for h, v in values.items() if h not in references}
        return judge.losers(run.step, ranked, run.prefixes())

    def _judge(self, asked: Sequence[Hierarchy], told: Sequence[TrialRecord]) -> Judge:
        """The judge of a cohort."""
        race = Race(
            asked,
            [earlier.trial for earlier in told],
            self._space.distributions(),
            training=self._config.training,
            stops=self.stops,
            references=self._space.references,
        )
        return find_pruner(self._config.pruning).judge(race)

    def _harvest(
        self, asked: Sequence[Hierarchy], told: Sequence[TrialRecord]
    ) -> dict[Hierarchy, Plan]:
        """Networks that end on the way to these: fewer blocks in the last stage."""
        known = {self._space.identity(trial.hierarchy) for trial in told}
        plans: dict[Hierarchy, Plan] = {}
        for hierarchy in self._space.on_the_way(asked):
            if self._space.identity(hierarchy) in known:
                continue
            # one may end before its first loss: no network
            with suppress(ConfigError):
                plans[hierarchy] = self._plan(hierarchy)
        return plans
