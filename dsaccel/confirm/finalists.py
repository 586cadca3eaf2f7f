"""Who is confirmed: the best of the search, the references, and controls against confounding.

More blocks deep in a network are more parameters too (the paper's 1-1-2-4 has 1.8 times those of
2-2-2-2). The controls ask whether the winner leads for its hierarchy or for its size.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import islice
from typing import Literal

from dsaccel.config.own_settings import network_of, with_own_settings
from dsaccel.config.study import StudyConfig
from dsaccel.confirm.result import Entry, Role
from dsaccel.errors import NoResultError
from dsaccel.families import find_family
from dsaccel.parts import part_of
from dsaccel.spec.beginnings import beginnings
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.plan import Plan
from dsaccel.study.record import StudyRecord
from dsaccel.study.rows import Row

MAX_WIDTH = 64.0
"""The limit of `NetworkConfig`."""

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
"""The plan of a hierarchy at a width, which takes the place of one that it brings along."""


def choose_entries(
    rows: Iterable[Row],
    config: StudyConfig,
    plan: PlanAt,
    *,
    top: int,
    controls: bool,
    reached: Mapping[str, float] | None = None,
) -> list[Entry]:
    """Finalists first, then references, then controls; who has several roles is one entry.

    Args:
        rows: the study's trials, best first.
        config: the study's settings.
        plan: the network of a hierarchy at a width.
        top: how many finalists.
        controls: whether to add controls.
        reached: by back-propagation, see `globally`: its own best is a rival.

    Raises:
        NoResultError: if no trial may be called the best.
    """
    named = list(dict.fromkeys(row.hierarchy for row in rows if row.may_be_best))
    # where cuts are searched, back-propagation of all losses is a rival and no finalist
    uncut = [h for h in named if dict(Hierarchy.parse(h).settings).get("cuts") is False]
    ranked = [hierarchy for hierarchy in named if hierarchy not in uncut]
    if not ranked:
        raise NoResultError("a confirmation needs a finished hierarchy within the constraint")
    entries = _Entries(config, plan)
    references = reference_hierarchies(config)
    chosen = [entries.make(hierarchy, "finalist") for hierarchy in ranked[:top]]
    chosen += [entries.make(hierarchy, "reference") for hierarchy in references]
    chosen += [entries.make(hierarchy, "deep supervision") for hierarchy in uncut[:1]]
    rivals = sorted((accuracy, h) for h, accuracy in (reached or {}).items() if h in ranked)
    chosen += [entries.make(h, "best by back-propagation") for _, h in rivals[-1:]]
    if controls:
        others = [hierarchy for hierarchy in ranked if hierarchy not in references]
        chosen += [*entries.uncut(chosen[0]), *entries.smaller(others, references[0])]
        chosen += entries.widened(references[0], chosen[0])
    return merge_entries(chosen)


def globally(study: StudyRecord, config: StudyConfig) -> dict[str, float]:
    """What back-propagation has reached with each hierarchy that was trained to its end layer-wise,
    if the search has trained them both ways (`--against gap`).
    """
    if "gap" not in (config.budget.against or ()):
        return {}
    found = {str(h): study.trained_globally(h) for h in study.all_trained_globally}
    return {name: each.accuracy for name, each in found.items() if each is not None}


@dataclass(frozen=True)
class _Entries:
    config: StudyConfig
    plan: PlanAt

    def make(self, hierarchy: str, role: Role, at_width: float | None = None) -> Entry:
        own = self.width_of(hierarchy)
        width = own if at_width is None else at_width
        made = self.plan(hierarchy, width)
        name, settings = hierarchy, {}
        if width != own and Hierarchy.parse(hierarchy).settings:
            name = hierarchy = _at_width(hierarchy, width)
        elif width != own:
            name, settings = f"{hierarchy}@{width:g}", {"network.width": width}
        return Entry(
            name=name,
            hierarchy=hierarchy,
            settings=settings,
            roles=(role,),
            num_parameters=made.num_parameters,
            flops=made.flops,
            num_local_losses=made.num_local_losses,
            beginnings=beginnings(made),
        )

    def uncut(self, winner: Entry) -> Iterator[Entry]:
        """The winner's own heads trained without cuts: an ensemble that costs the same to read."""
        if self.config.network.output != "ensemble":
            return
        if not part_of(self.config.training, "schedule").all_at_once:
            return
        whole = Hierarchy.parse(winner.hierarchy)
        if not network_of(whole, self.config.network).cuts:
            return
        made = replace(winner, roles=("ensemble without cuts",))
        if whole.settings:
            name = str(whole.with_settings(dict(whole.settings) | {"cuts": False}))
            yield replace(made, name=name, hierarchy=name)
        else:
            yield replace(made, name=f"{whole}@uncut", settings={"network.cuts": False})

    def width_of(self, hierarchy: str) -> float:
        return network_of(Hierarchy.parse(hierarchy), self.config.network).width

    def smaller(self, ranked: list[str], reference: str) -> Iterator[Entry]:
        """The best of those that have no more of something than the reference."""
        limits = self.make(reference, "reference")
        for role, measure in AT_MOST:
            most = getattr(limits, measure)
            entries = (self.make(hierarchy, role) for hierarchy in ranked)
            yield from islice((e for e in entries if getattr(e, measure) <= most), 1)

    def widened(self, reference: str, winner: Entry) -> Iterator[Entry]:
        """The reference, as wide as it takes to have as much as the winner."""
        if winner.hierarchy == reference:
            return
        widths = self.width_of(reference), self.width_of(winner.hierarchy)
        for role, measure in WIDENED:
            target = getattr(winner, measure)
            width = matching_width(partial(self.plan, reference), measure, target, *widths)
            yield self.make(reference, role, width)


def reference_hierarchies(config: StudyConfig) -> tuple[str, ...]:
    """The study's references; without one, the family's standard, cut to the space's stages. Of
    what is searched, each has what the study itself is set to, and is named as in the search.
    """
    standard = find_family(config.space.family).standard.beginning(len(config.space.num_blocks))
    references = [Hierarchy.parse(text) for text in config.references] or [standard]
    return tuple(str(with_own_settings(h, config)) for h in references)


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
    *widths: float,
) -> float:
    """The width at which a network comes closest to a number of parameters or FLOPs.

    Channels are whole numbers, so counts rise in steps: bisection ends at the step that crosses
    the target, and the nearer side is taken: one of `widths` if it gives the same count, else with
    as few digits as do.

    Args:
        plan: the network at a width.
        measure: what is to match.
        target: how much of it.
        widths: where to start, and others to prefer.
    """

    @cache
    def count(w: float) -> int:
        return getattr(plan(w), measure)

    low = high = widths[0]
    while count(low) > target and low > 1e-3:
        low /= 2
    while count(high) < target and high < MAX_WIDTH:
        high = min(2 * high, MAX_WIDTH)
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        if count(middle) <= target:
            low = middle
        else:
            high = middle
    nearest = min((low, high), key=lambda w: abs(count(w) - target))
    candidates = (*widths, *(round(nearest, digits) for digits in range(2, 16)))
    return next((w for w in candidates if w > 0 and count(w) == count(nearest)), nearest)


def _at_width(hierarchy: str, width: float) -> str:
    """A hierarchy that brings settings along, with another width among them."""
    parsed = Hierarchy.parse(hierarchy)
    return str(parsed.with_settings(dict(parsed.settings) | {"width": width}))
