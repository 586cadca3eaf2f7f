"""A search space in figures: what it holds, before anything is trained."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from dsaccel.config.study import SpaceConfig, TrainingConfig
from dsaccel.space.space import SearchSpace
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.plan import Plan
from dsaccel.spec.trie import Trie
from dsaccel.text import amount
from dsaccel.training.memory import Estimate, estimate, training_bytes

MAX_PLANNED = 5_000
"""Networks that are planned to be described; some 1 ms each."""


@dataclass(frozen=True)
class SpaceDescription:
    """The contents of a space; None: there are too many networks to tell."""

    num_counts: int
    """Block counts within bounds and constraint, whatever is measured or searched beside them."""
    has_end: bool
    """No setting is searched between two ends without steps."""
    num_feasible: int | None
    smallest: Plan | None
    largest: Plan | None
    """The largest by parameters; `smallest` is likewise."""
    blocks_trained: int | None
    """Blocks of all networks in one trie."""
    blocks_separate: int | None
    memory: Estimate | None
    """The memory of training all of them together."""


def describe_space(
    config: SpaceConfig, plan: Callable[[Hierarchy], Plan], training: TrainingConfig
) -> SpaceDescription:
    """Plan what is feasible.

    Raises:
        ConfigError: if nothing is.
    """
    space = SearchSpace.planned(config, plan, memory=training_bytes(training))
    feasible = space.feasible()
    known = (space.counts.num(), space.dimensions.size is not None)
    if feasible is None or len(feasible) > MAX_PLANNED:
        num = None if feasible is None else len(feasible)
        return SpaceDescription(*known, num, None, None, None, None, None)
    plans = {hierarchy: plan(hierarchy) for hierarchy in feasible}
    by_size = sorted(plans.values(), key=lambda plan: plan.num_parameters)
    trie = Trie(plans)
    return SpaceDescription(
        *known,
        len(plans),
        by_size[0],
        by_size[-1],
        trie.blocks_trained,
        trie.blocks_separate,
        estimate(trie, training),
    )


def space_summary(described: SpaceDescription) -> dict[str, Any]:
    """What `dsaccel describe --space --json` prints."""
    ends = {"smallest": described.smallest, "largest": described.largest}
    return {
        "num_counts": described.num_counts,
        "num_feasible": described.num_feasible,
        **{
            end: plan
            and {
                "hierarchy": str(plan.hierarchy),
                "num_parameters": plan.num_parameters,
                "flops": plan.flops,
            }
            for end, plan in ends.items()
        },
        "blocks_trained": described.blocks_trained,
        "blocks_separate": described.blocks_separate,
        "memory_bytes": described.memory and described.memory.total_bytes,
    }


def space_table(described: SpaceDescription, training: TrainingConfig, images: str) -> Table:
    """The same in words; `images`: which ones the networks are for."""
    table = Table.grid(padding=(0, 2))
    table.add_row("images", images)
    num = described.num_feasible
    table.add_row("block counts", f"{described.num_counts:,} within bounds and constraint")
    if num is None:
        endless = "without end: a setting has a range without steps"
        words = "too many to list, or to measure one by one" if described.has_end else endless
    else:
        words = f"{num:,}"
        words += f"; sizes and memory are told of {MAX_PLANNED:,} at most" * (num > MAX_PLANNED)
    table.add_row("feasible", words)
    for end, plan in (("smallest", described.smallest), ("largest", described.largest)):
        if plan is not None:
            costs = f"{amount(plan.num_parameters)} parameters, {amount(plan.flops)} FLOPs"
            table.add_row(end, f"{plan.hierarchy}  {costs}")
    if described.blocks_trained is not None and described.blocks_separate is not None:
        table.add_row(
            "blocks",
            f"{described.blocks_trained:,} if all are trained together, "
            f"{described.blocks_separate:,} one by one",
        )
    if described.memory is not None:
        gib = described.memory.total_bytes / 2**30
        table.add_row(
            "memory",
            f"{gib:,.1f} GiB for all together on a CPU, {training.precision}, batches of "
            f"{training.batch_size} (estimate); with less they are trained in parts",
        )
    return table
