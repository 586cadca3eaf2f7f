"""Who is confirmed: the best of the search, the references, and controls against confounding.

More blocks deep in a network are more parameters too (the paper's 1-1-2-4 has 1.8 times those of
2-2-2-2). The controls ask whether the winner leads for its hierarchy or for its size.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Literal

from dsaccel.config import StudyConfig
from dsaccel.confirm.confirmation import Entry, Role
from dsaccel.errors import NoResultError
from dsaccel.hierarchy import format_hierarchy
from dsaccel.networks.families import find_family
from dsaccel.networks.plan import Plan
from dsaccel.search.tables import Row

MAX_WIDTH = 64.0
"""As in `NetworkConfig`."""

AT_MOST: tuple[tuple[Role, str], ...] = (
    ("fewer parameters", "num_parameters"),
    ("fewer losses", "num_local_losses"),
)
"""Control -> of what it has no more than the reference."""
WIDENED: tuple[tuple[Role, Literal["num_parameters", "flops"]], ...] = (
    ("widened to parameters", "num_parameters"),
    ("widened to FLOPs", "flops"),
)
"""Control -> of what the reference gets as much as the winner."""

PlanAt = Callable[[str, float], Plan]
"""The plan of a hierarchy at a width."""


def choose_entries(
    rows: Iterable[Row], config: StudyConfig, plan: PlanAt, *, top: int, controls: bool
) -> list[Entry]:
    """Finalists first, then references, then controls; who has several roles is one entry.

    Args:
        rows: the study's trials, best first.
        config: the study's settings.
        plan: the network of a hierarchy at a width.
        top: how many finalists.
        controls: whether to add controls.

    Raises:
        NoResultError: if no trial may be called the best.
    """
    ranked = list(dict.fromkeys(row.hierarchy for row in rows if row.may_be_best))
    if not ranked:
        raise NoResultError("a confirmation needs a finished hierarchy within the constraint")
    width = config.network.width

    def entry(hierarchy: str, role: Role, at_width: float = width) -> Entry:
        made = plan(hierarchy, at_width)
        is_own = at_width == width or made == plan(hierarchy, width)
        return Entry(
            name=hierarchy if is_own else f"{hierarchy}@{at_width:g}",
            hierarchy=hierarchy,
            settings={} if is_own else {"network.width": at_width},
            roles=(role,),
            num_parameters=made.num_parameters,
            flops=made.flops,
            num_local_losses=made.num_local_losses,
        )

    references = reference_hierarchies(config)
    entries = [entry(hierarchy, "finalist") for hierarchy in ranked[:top]]
    winner = entries[0]
    entries += [entry(hierarchy, "reference") for hierarchy in references]
    if controls:
        reference = entry(references[0], "reference")
        others = [h for h in ranked if h not in references]
        for role, measure in AT_MOST:
            allowed = (entry(hierarchy, role) for hierarchy in others)
            most = getattr(reference, measure)
            best = next((e for e in allowed if getattr(e, measure) <= most), None)
            entries += [] if best is None else [best]
        if winner.hierarchy != reference.hierarchy:
            for role, measure in WIDENED:
                at_width = matching_width(
                    lambda w: plan(reference.hierarchy, w), measure, getattr(winner, measure), width
                )
                entries.append(entry(reference.hierarchy, role, at_width))
    return merge_entries(entries)


def reference_hierarchies(config: StudyConfig) -> tuple[str, ...]:
    """The study's references; without one, the family's standard, cut to the space's stages."""
    if config.references:
        return config.references
    standard = find_family(config.space.family).standard
    return (format_hierarchy(standard[: len(config.space.num_blocks)]),)


def merge_entries(entries: Iterable[Entry]) -> list[Entry]:
    """One entry a name, with all its roles, in the order of first appearance."""
    merged: dict[str, Entry] = {}
    for entry in entries:
        known = merged.get(entry.name)
        roles = (*(known.roles if known else ()), *entry.roles)
        merged[entry.name] = replace(known or entry, roles=tuple(dict.fromkeys(roles)))
    return list(merged.values())


def matching_width(
    plan: Callable[[float], Plan],
    measure: Literal["num_parameters", "flops"],
    target: int,
    width: float,
) -> float:
    """The width at which a network comes closest to a number of parameters or FLOPs.

    Channels are whole numbers, so counts rise in steps: bisection ends at the step that crosses
    the target, and the nearer side is taken, with as few digits as give the same network.

    Args:
        plan: the network at a width.
        measure: what is to match.
        target: how much of it.
        width: where to start.
    """

    def count(w: float) -> int:
        return getattr(plan(w), measure)

    low = high = width
    while count(low) > target and low > 1e-3:
        low /= 2
    while count(high) < target and high < MAX_WIDTH:
        high = min(2 * high, MAX_WIDTH)
    for _ in range(60):
        middle = (low + high) / 2
        if count(middle) <= target:
            low = middle
        else:
            high = middle
    nearest = min((low, high), key=lambda w: abs(count(w) - target))
    candidates = (width, *(round(nearest, digits) for digits in range(2, 16)))
    return next((w for w in candidates if w > 0 and count(w) == count(nearest)), nearest)
