"""Replay a search on a landscape: the search's own loop, with a table in place of training.

So a replay makes the proposals and reads the values of a real search of the same settings. What it
costs is counted in blocks trained.
"""

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache

from optuna.trial import FrozenTrial, TrialState, create_trial

from dsaccel.analysis.landscape import Landscape
from dsaccel.config.study import BudgetConfig, PruningConfig
from dsaccel.errors import ConfigError
from dsaccel.parts import load_class, part_of
from dsaccel.schedules import Schedule
from dsaccel.search.loop import Loop
from dsaccel.search.pruners import find_pruner
from dsaccel.space.space import SearchSpace
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.plan import Plan, Segment
from dsaccel.spec.rung import RankedBy, Read, Rung
from dsaccel.spec.trie import Trie
from dsaccel.study.record import NO_COHORT, CohortRecord
from dsaccel.study.trial_record import TrialRecord
from dsaccel.training.run import Run


@dataclass(frozen=True)
class Policy:
    """The settings of a search that is replayed."""

    strategy: str
    cohort_size: int
    n_trials: int
    pruning: PruningConfig
    beam_width: int | None = None
    """The width of strategy `beam`, which takes the whole space and no pruning."""


@dataclass(frozen=True)
class Mark:
    """Where a replayed search stands after a cohort."""

    blocks: float
    """Blocks trained so far; one trained for half of the schedule counts a half."""
    regret: float
    """The best objective in the table minus the best found so far, in accuracy (0..1)."""
    num_trained: int


class Oracle:
    """A landscape made ready to answer: plans, once a hierarchy, and the table."""

    def __init__(self, landscape: Landscape) -> None:
        """
        Raises:
            ConfigError: if a feasible hierarchy or a reference is missing.
        """
        self.landscape = landscape
        self.space = landscape.space
        self.seeds = tuple(landscape.accuracies)
        self._segments: dict[Segment, Segment] = {}
        self.plan: Callable[[Hierarchy], Plan] = cache(self._plan)
        feasible = self.space.feasible() or []
        for seed in self.seeds:
            known = landscape.accuracies[seed]
            wanted = [*feasible, *self.space.references]
            missing = [str(h) for h in wanted if landscape.num_steps not in known.get(h, {})]
            if missing or not feasible:
                raise ConfigError(
                    "a landscape must hold every feasible hierarchy and reference to the last "
                    f"{landscape.config.training.step_name}, but seed {seed} lacks {len(missing)} "
                    f"({', '.join(missing[:3])}); write it again with: dsaccel landscape STUDY"
                )
        self.rungs = {
            ahead: {seed: _rungs(landscape, seed, looks_ahead=ahead) for seed in self.seeds}
            for ahead in {False, not landscape.schedule.all_at_once}
        }
        """The rungs of all networks by seed and step, as a beam reads them or not."""
        self.optimum = {seed: landscape.optimum(seed) for seed in self.seeds}
        self.num_blocks = Trie({h: self.plan(h) for h in feasible}).blocks_trained
        """Blocks of all feasible hierarchies in one trie."""

    def table_seed(self, seed: int) -> int:
        """The training seed that a search seed is replayed on: in turn, from the first."""
        return self.seeds[(seed - 1) % len(self.seeds)]

    def _plan(self, hierarchy: Hierarchy) -> Plan:
        """The plan, with equal segments made one object, which a trie compares far faster."""
        plan = self.landscape.plan(hierarchy)
        segments = tuple(self._segments.setdefault(s, s) for s in plan.segments)
        return replace(plan, segments=segments)


class Replay:
    """One search on a landscape."""

    def __init__(self, oracle: Oracle, policy: Policy, seed: int) -> None:
        """
        Raises:
            ConfigError: an unknown strategy, or too few trials.
        """
        strategy = load_class("strategy", policy.strategy)
        find_pruner(policy.pruning)
        landscape, space = oracle.landscape, oracle.space
        if strategy.decides and landscape.schedule.all_at_once:
            raise ConfigError(
                f"strategy {policy.strategy} builds on finished stages, so the landscape must be "
                "of a study with the sequential schedule, but it is "
                f"{landscape.config.training.schedule}; choose another landscape or strategy"
            )
        num_outside = sum(space.violation(h) is not None for h in space.references)
        if policy.n_trials <= num_outside or policy.cohort_size < 1:
            raise ConfigError(
                f"n_trials must be more than the {num_outside} references outside the constraint, "
                f"and cohort_size at least 1, but got {policy.n_trials} and {policy.cohort_size}"
            )
        self.oracle, self.policy = oracle, policy
        self._table_seed = oracle.table_seed(seed)
        self._table = Table(oracle.rungs[strategy.decides][self._table_seed])
        self.notes = Notes(space, policy.pruning.ranked_by(landscape.config.network.output))
        chosen = {name: getattr(policy, name) for name in ("strategy", "cohort_size", "n_trials")}
        if policy.beam_width is not None:
            chosen["beam_width"] = policy.beam_width
        budget = BudgetConfig().model_copy(update=chosen)
        searched = {"budget": budget, "pruning": policy.pruning, "seed": seed}
        config = landscape.config.model_copy(update=searched)
        config = part_of(budget, "strategy").prepared(config)
        self._loop = Loop(config, space, oracle.plan, self.notes)

    def marks(self) -> Iterator[Mark]:
        """Search on, a cohort at a time, until the budget is spent or the space is exhausted."""
        while (cohort := self._loop.next()).asked:
            *_, run = self._loop.train(cohort.asked, self._table)
            self.notes.finish(cohort, run)
            yield Mark(self.notes.cohort.blocks_trained, self._regret, self._num_trained)

    @property
    def trials(self) -> list[FrozenTrial]:
        """The trials as Optuna has them."""
        return [record.trial for record in self.notes.told]

    @property
    def _regret(self) -> float:
        networks = self.oracle.landscape.networks
        values = (trial.value for trial in self.notes.told if networks[trial.hierarchy].is_feasible)
        best = max((value for value in values if value is not None), default=math.nan)
        return self.oracle.optimum[self._table_seed] - best

    @property
    def _num_trained(self) -> int:
        return sum(not trial.is_harvested for trial in self.notes.told)


class Notes:
    """The trials of a replay, as a real search stores them but for what it does not read."""

    def __init__(self, space: SearchSpace, by: RankedBy) -> None:
        self._space = space
        self._by: RankedBy = by
        self._distributions = space.distributions()
        self.told: list[TrialRecord] = []
        self.wanted: list[Hierarchy] = []
        self.failed: dict[Hierarchy, int] = {}
        self.cohort: CohortRecord = NO_COHORT
        self._read: dict[Hierarchy, dict[int, float]] = {}
        """The accuracies that rank the cohort's hierarchies, by rung."""
        self._pruned: set[Hierarchy] = set()

    def report(self, step: int, values: Mapping[Hierarchy, float]) -> None:
        for h, value in values.items():
            self._read.setdefault(h, {})[step] = value

    def retire(self, run: Run, pruned: Collection[Hierarchy]) -> None:
        self._pruned |= set(pruned)
        run.retire(pruned)

    def finish(self, record: CohortRecord, run: Run) -> None:
        """Note what a cohort has come to."""
        last = run.history[-1]
        for h in record.asked:
            if h in self._pruned:
                self._tell(h, None, self._read[h])
            else:
                self._tell(h, last.objective(h), self._read[h])
        living = set(run.trie.living)
        for h in run.harvested:
            if h in living:
                read = {r.step: r.ranked(h, self._by) for r in run.history if h in r.accuracies}
                self._tell(h, last.objective(h), read, harvested=True)
        self._read, self._pruned = {}, set()
        self.cohort = record.finished(run.blocks_trained, run.trie.blocks_separate)

    def _tell(
        self,
        hierarchy: Hierarchy,
        value: float | None,
        read: dict[int, float],
        *,
        harvested: bool = False,
    ) -> None:
        """Note one trial; of one that was pruned, the value is the last that was read."""
        trial = create_trial(
            state=TrialState.PRUNED if value is None else TrialState.COMPLETE,
            value=read[max(read)] if value is None else value,
            params=self._space.to_params(hierarchy),
            distributions=self._distributions,
            user_attrs={"hierarchy": str(hierarchy)} | ({"harvested": True} if harvested else {}),
            intermediate_values=read,
        )
        trial.number = len(self.told)
        self.told.append(TrialRecord(trial))


@dataclass(frozen=True)
class Table:
    """An executor that trains nothing: all is known."""

    rungs: Mapping[int, Rung]

    def start(
        self,
        plans: Mapping[Hierarchy, Plan],
        harvest: Mapping[Hierarchy, Plan],
        schedule: Schedule,
        stops: Collection[int],
    ) -> "TableRun":
        known = self.rungs[max(self.rungs)].accuracies
        return TableRun(plans, schedule, {h: p for h, p in harvest.items() if h in known}, self)


class TableRun(Run):
    """Networks that are read off a table."""

    def __init__(
        self,
        plans: Mapping[Hierarchy, Plan],
        schedule: Schedule,
        harvest: Mapping[Hierarchy, Plan],
        table: Table,
    ) -> None:
        super().__init__(plans, schedule, harvest)
        self._table = table

    def _train(self) -> Iterator[Rung]:
        while not self.is_over:
            yield self._table.rungs[self.step + 1]

    def _share_time(self, seconds: float, of_one: float, step: int) -> None:
        """Nothing takes any."""


def _rungs(landscape: Landscape, seed: int, *, looks_ahead: bool) -> dict[int, Rung]:
    """The rungs of a seed. One that looks ahead also has the first head of the next stage."""
    table = landscape.accuracies[seed]
    rungs: dict[int, Rung] = {}
    for step in range(1, landscape.num_steps + 1):
        read = {h: landscape.read(seed, h, step) for h in table if step in table[h]}
        if looks_ahead and step < landscape.num_steps:
            read = {h: _next_head(own, table[h][step + 1]) for h, own in read.items()}
        rungs[step] = Rung(step, read)
    return rungs


def _next_head(read: Read, later: tuple[float, ...]) -> Read:
    """The same network, read one unit later."""
    head = later[len(read.heads)]
    return Read((*read.heads, head), {"head": head})
