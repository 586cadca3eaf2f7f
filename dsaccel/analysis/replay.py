"""Replay a search on a landscape: the rules of the real one, with a table in place of training.

Cohorts, pruning, harvest and sharing are those of `search`, by the same functions (`next_cohort`,
`losers`, `rung_steps`, `Trie`), so a replay makes the proposals and reads the values of a real
search of the same settings. What it costs is counted in blocks trained.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache

from optuna.trial import FrozenTrial, TrialState, create_trial

from dsaccel.analysis.landscape import Landscape
from dsaccel.config.study import PruningConfig
from dsaccel.errors import ConfigError
from dsaccel.search.beam import beam_config, beam_losers
from dsaccel.search.optuna_pruners import OptunaJudge, make_pruner
from dsaccel.search.proposals import STRATEGIES, next_cohort
from dsaccel.search.pruners import losers, rung_steps
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.plan import Plan, Segment
from dsaccel.spec.rung import Rung
from dsaccel.spec.trie import Node, Trie
from dsaccel.study.trial_record import TrialRecord


@dataclass(frozen=True)
class Policy:
    """How to search."""

    strategy: str
    cohort_size: int
    n_trials: int
    pruning: PruningConfig
    beam_width: int | None = None
    """Of strategy `beam` alone, which takes the whole space and no pruning."""


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
        self.rungs = {seed: _rungs(landscape, seed) for seed in self.seeds}
        """Of all networks at once, by seed and step."""
        self.optimum = {seed: landscape.optimum(seed) for seed in self.seeds}
        self.num_blocks = Trie({h: self.plan(h) for h in feasible}).blocks_trained
        """Blocks of all feasible hierarchies in one trie."""

    def table_seed(self, seed: int) -> int:
        """The training seed that a search seed is replayed on: in turn, from the first."""
        return self.seeds[(seed - 1) % len(self.seeds)]

    def _plan(self, hierarchy: Hierarchy) -> Plan:
        """With equal segments made one object, which a trie compares far faster."""
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
        if policy.strategy not in STRATEGIES:
            known = ", ".join(STRATEGIES)
            raise ConfigError(f"strategy must be one of {known}, but got {policy.strategy!r}")
        if policy.pruning.is_optunas:
            make_pruner(policy.pruning)
        landscape, space = oracle.landscape, oracle.space
        if policy.strategy == "beam" and landscape.schedule.all_at_once:
            raise ConfigError(
                "strategy beam builds on finished stages, so the landscape must be of a study with "
                f"the sequential schedule, but it is {landscape.config.training.schedule}; choose "
                "another landscape or strategy"
            )
        if policy.strategy == "beam":
            beam_config(landscape.config.model_copy(update={"pruning": policy.pruning}))
        num_outside = sum(space.violation(h) is not None for h in space.references)
        if policy.n_trials <= num_outside or policy.cohort_size < 1:
            raise ConfigError(
                f"n_trials must be more than the {num_outside} references outside the constraint, "
                f"and cohort_size at least 1, but got {policy.n_trials} and {policy.cohort_size}"
            )
        self.oracle = oracle
        self.policy = policy
        self.seed = seed
        self.trials: list[FrozenTrial] = []
        """As a real search stores them, without what is not read by it."""
        self._table_seed = oracle.table_seed(seed)
        self._table = landscape.accuracies[self._table_seed]
        self._rungs = oracle.rungs[self._table_seed]
        self._distributions = space.distributions()
        num_stages = len(landscape.config.space.num_blocks)
        prune_at = rung_steps(policy.pruning, landscape.config.training, num_stages)
        if policy.strategy == "beam":
            prune_at = tuple(range(1, num_stages))
        self._stops = (*prune_at, landscape.num_steps)
        self._block_steps: float = 0
        self._ahead: dict[int, float] = {}
        """Blocks of nodes (by number) whose first unit a beam has trained ahead of their stage."""

    def marks(self) -> Iterator[Mark]:
        """Search on, a cohort at a time, until the budget is spent or the space is exhausted."""
        while cohort := next_cohort(
            self.oracle.space,
            self.trials,
            cohort_size=self.policy.cohort_size,
            n_trials=self.policy.n_trials,
            seed=self.seed,
            strategy=self.policy.strategy,
        ):
            self._train(cohort)
            yield Mark(self._blocks, self._regret, self._num_trained)

    @property
    def _blocks(self) -> float:
        training = self.oracle.landscape.config.training
        return self._block_steps / (
            training.epochs if self.oracle.landscape.schedule.all_at_once else 1
        )

    @property
    def _regret(self) -> float:
        networks, space = self.oracle.landscape.networks, self.oracle.space
        values = (
            trial.value
            for trial in self.trials
            if trial.state == TrialState.COMPLETE
            and networks[space.from_params(trial.params)].is_feasible
        )
        best = max((value for value in values if value is not None), default=math.nan)
        return self.oracle.optimum[self._table_seed] - best

    @property
    def _num_trained(self) -> int:
        return sum(not TrialRecord(trial).is_harvested for trial in self.trials)

    def _train(self, hierarchies: list[Hierarchy]) -> None:
        """Read a cohort's rungs off the table, prune at them, and keep its trials."""
        plan, space = self.oracle.plan, self.oracle.space
        known = {space.from_params(trial.params) for trial in self.trials}
        trie = Trie({h: plan(h) for h in hierarchies})
        harvested = [
            h
            for h in space.harvestable(hierarchies)
            if h not in known and trie.add_harvest(h, plan(h))
        ]
        pruned: dict[Hierarchy, int] = {}
        self._judge = self._make_judge(hierarchies)
        for before, step in itertools.pairwise((0, *self._stops)):
            self._count(trie, before, step)
            if step < self._stops[-1]:
                stopped = self._losers(trie, before, step)
                pruned |= dict.fromkeys(stopped, step)
                trie.retire(set(stopped))
        living = set(trie.living)
        for h in hierarchies:
            self._tell(h, pruned.get(h), harvested=False)
        for h in harvested:
            if h in living:
                self._tell(h, None, harvested=True)

    def _count(self, trie: Trie, before: int, step: int) -> None:
        """Add the blocks that learn from one rung to the next."""
        if self._is_sequential:
            nodes = [node for node in trie.nodes() if before < node.stage <= step]
            self._block_steps += sum(n.num_blocks - self._ahead.pop(n.number, 0) for n in nodes)
            if self.policy.strategy == "beam":
                self._look_ahead(trie, step)
        else:
            self._block_steps += sum(n.num_blocks for n in trie.nodes()) * (step - before)

    def _look_ahead(self, trie: Trie, step: int) -> None:
        """Count the first unit after each beginning."""
        for node in trie.nodes():
            is_first = node.stage == step + 1 and node.parent and node.parent.stage == step
            # the output layer has no blocks, and no local heads
            if is_first and node.num_blocks:
                self._ahead[node.number] = node.num_blocks / len(node.segment.heads)
                self._block_steps += self._ahead[node.number]

    def _losers(self, trie: Trie, before: int, step: int) -> list[Hierarchy]:
        """As the search: references are never pruned, nor is who has no trained head yet."""
        if self._judge is not None:
            for rung in range(before + 1, step):
                self._judge.losers(rung, self._values(trie, rung))
            return self._judge.losers(step, self._values(trie, step))
        references = self.oracle.space.references
        if self.policy.beam_width is not None:
            networks = self.oracle.landscape.networks
            firsts = {h: self._value(h, step) for h in trie.asked if networks[h].is_feasible}
            stopped = beam_losers(firsts, step, self.policy.beam_width)
            return [h for h in stopped if h not in references]
        values = {h: v for h, v in self._values(trie, step).items() if h not in references}
        return losers(values, self.policy.pruning, self._prefixes(trie, step))

    def _values(self, trie: Trie, step: int) -> dict[Hierarchy, float]:
        return {h: self._value(h, step) for h in trie.asked if step in self._table[h]}

    def _value(self, hierarchy: Hierarchy, step: int) -> float:
        """What is ranked and recorded: of a beam, the first unit after the stages so far."""
        if self.policy.strategy == "beam" and step < self._stops[-1]:
            num_heads = self.oracle.plan(hierarchy).num_heads(step)
            return self._table[hierarchy][step + 1][num_heads]
        exit = self.oracle.landscape.config.network.output
        return self._rungs[step].ranked(hierarchy, self.policy.pruning.ranked_by(exit))

    def _make_judge(self, hierarchies: list[Hierarchy]) -> OptunaJudge | None:
        if not self.policy.pruning.is_optunas:
            return None
        config = self.oracle.landscape.config
        return OptunaJudge(
            self.policy.pruning,
            self.trials,
            hierarchies,
            self._distributions,
            training=config.training,
            prune_at=self._stops[:-1],
            references=self.oracle.space.references,
        )

    def _prefixes(self, trie: Trie, step: int) -> dict[Hierarchy, int]:
        """Equal for those who are one network so far; see `Cohort.prefixes`."""

        def is_trained(node: Node) -> bool:
            return not self._is_sequential or node.stage <= step

        last: dict[Hierarchy, int] = {}
        for h in trie.living:
            numbers = [node.number for node in trie.path(h) if is_trained(node)]
            last[h] = numbers[-1] if numbers else -1
        return last

    def _tell(self, hierarchy: Hierarchy, pruned_at: int | None, *, harvested: bool) -> None:
        values = {
            step: self._value(hierarchy, step)
            for step in self._table[hierarchy]
            if pruned_at is None or step <= pruned_at
        }
        is_complete = pruned_at is None
        last = self._rungs[self._stops[-1]]
        value = last.objective(hierarchy) if is_complete else values[pruned_at]
        trial = create_trial(
            state=TrialState.COMPLETE if is_complete else TrialState.PRUNED,
            value=value,
            params=self.oracle.space.to_params(hierarchy),
            distributions=self._distributions,
            user_attrs={"hierarchy": str(hierarchy)} | ({"harvested": True} if harvested else {}),
            intermediate_values=values,
        )
        trial.number = len(self.trials)
        self.trials.append(trial)

    @property
    def _is_sequential(self) -> bool:
        return not self.oracle.landscape.schedule.all_at_once


def _rungs(landscape: Landscape, seed: int) -> dict[int, Rung]:
    table = landscape.accuracies[seed]
    return {
        step: Rung(step, {h: landscape.read(seed, h, step) for h in table if step in table[h]})
        for step in range(1, landscape.num_steps + 1)
    }
