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
from dsaccel.spec.hierarchy import Hierarchy, format_hierarchy, parse_hierarchy
from dsaccel.spec.plan import Plan, Segment
from dsaccel.spec.rung import Rung
from dsaccel.spec.trie import Node, Trie


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
            names = map(format_hierarchy, [*feasible, *self.space.references])
            missing = [n for n in names if landscape.num_steps not in known.get(n, {})]
            if missing or not feasible:
                raise ConfigError(
                    "a landscape must hold every feasible hierarchy and reference to the last "
                    f"{landscape.config.training.step_name}, but seed {seed} lacks {len(missing)} "
                    f"({', '.join(missing[:3])}); write it again with: dsaccel landscape STUDY"
                )
        self.rungs = {seed: _rungs(landscape, seed) for seed in self.seeds}
        """Of all networks at once, by seed and step."""
        self.optimum = {seed: landscape.optimum(seed) for seed in self.seeds}
        self.num_blocks = Trie({format_hierarchy(h): self.plan(h) for h in feasible}).blocks_trained
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
        if policy.strategy == "beam" and landscape.config.training.schedule != "sequential":
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
        return self._block_steps / (training.epochs if training.schedule == "simultaneous" else 1)

    @property
    def _regret(self) -> float:
        networks = self.oracle.landscape.networks
        values = (
            trial.value
            for trial in self.trials
            if trial.state == TrialState.COMPLETE
            and networks[trial.user_attrs["hierarchy"]].is_feasible
        )
        best = max((value for value in values if value is not None), default=math.nan)
        return self.oracle.optimum[self._table_seed] - best

    @property
    def _num_trained(self) -> int:
        return sum(not trial.user_attrs.get("harvested") for trial in self.trials)

    def _train(self, hierarchies: list[Hierarchy]) -> None:
        """Read a cohort's rungs off the table, prune at them, and keep its trials."""
        plan, space = self.oracle.plan, self.oracle.space
        names = {format_hierarchy(h): h for h in hierarchies}
        known = {trial.user_attrs["hierarchy"] for trial in self.trials}
        trie = Trie({name: plan(h) for name, h in names.items()})
        harvested = [
            name
            for name, h in ((format_hierarchy(h), h) for h in space.harvestable(hierarchies))
            if name not in known and trie.add_harvest(name, plan(h))
        ]
        pruned: dict[str, int] = {}
        self._judge = self._make_judge(list(names))
        for before, step in itertools.pairwise((0, *self._stops)):
            self._count(trie, before, step)
            if step < self._stops[-1]:
                stopped = self._losers(trie, before, step)
                pruned |= dict.fromkeys(stopped, step)
                trie.retire(set(stopped))
        living = set(trie.names)
        for name in names:
            self._tell(name, pruned.get(name), harvested=False)
        for name in harvested:
            if name in living:
                self._tell(name, None, harvested=True)

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

    def _losers(self, trie: Trie, before: int, step: int) -> list[str]:
        """As the search: references are never pruned, nor is who has no trained head yet."""
        if self._judge is not None:
            for rung in range(before + 1, step):
                self._judge.losers(rung, self._values(trie, rung))
            return self._judge.losers(step, self._values(trie, step))
        references = self.oracle.landscape.config.references
        if self.policy.beam_width is not None:
            networks = self.oracle.landscape.networks
            names = [name for name in trie.asked if networks[name].is_feasible]
            firsts = {name: self._value(name, step) for name in names}
            stopped = beam_losers(firsts, step, self.policy.beam_width)
            return [name for name in stopped if name not in references]
        values = {n: v for n, v in self._values(trie, step).items() if n not in references}
        return losers(values, self.policy.pruning, self._prefixes(trie, step))

    def _values(self, trie: Trie, step: int) -> dict[str, float]:
        asked = [name for name in trie.asked if step in self._table[name]]
        return {name: self._value(name, step) for name in asked}

    def _value(self, name: str, step: int) -> float:
        """What is ranked and recorded: of a beam, the first unit after the stages so far."""
        if self.policy.strategy == "beam" and step < self._stops[-1]:
            num_heads = self.oracle.plan(parse_hierarchy(name)).num_heads(step)
            return self._table[name][step + 1][num_heads]
        return self._rungs[step].ranked(name, self.policy.pruning.by)

    def _make_judge(self, names: list[str]) -> OptunaJudge | None:
        if not self.policy.pruning.is_optunas:
            return None
        config = self.oracle.landscape.config
        return OptunaJudge(
            self.policy.pruning,
            self.trials,
            names,
            self._distributions,
            training=config.training,
            prune_at=self._stops[:-1],
            references=config.references,
        )

    def _prefixes(self, trie: Trie, step: int) -> dict[str, int]:
        """Equal for those who are one network so far; see `Cohort.prefixes`."""

        def is_trained(node: Node) -> bool:
            return not self._is_sequential or node.stage <= step

        last: dict[str, int] = {}
        for name in trie.names:
            numbers = [node.number for node in trie.path(name) if is_trained(node)]
            last[name] = numbers[-1] if numbers else -1
        return last

    def _tell(self, name: str, pruned_at: int | None, *, harvested: bool) -> None:
        values = {
            step: self._value(name, step)
            for step in self._table[name]
            if pruned_at is None or step <= pruned_at
        }
        is_complete = pruned_at is None
        value = self._table[name][self._stops[-1]][-1] if is_complete else values[pruned_at]
        hierarchy = parse_hierarchy(name)
        trial = create_trial(
            state=TrialState.COMPLETE if is_complete else TrialState.PRUNED,
            value=value,
            params=self.oracle.space.to_params(hierarchy),
            distributions=self._distributions,
            user_attrs={"hierarchy": name} | ({"harvested": True} if harvested else {}),
            intermediate_values=values,
        )
        trial.number = len(self.trials)
        self.trials.append(trial)

    @property
    def _is_sequential(self) -> bool:
        return self.oracle.landscape.config.training.schedule == "sequential"


def _rungs(landscape: Landscape, seed: int) -> dict[int, Rung]:
    table = landscape.accuracies[seed]
    return {
        step: Rung(
            step,
            {name: heads[step] for name, heads in table.items() if step in heads},
            landscape.has_output(step),
        )
        for step in range(1, landscape.num_steps + 1)
    }
