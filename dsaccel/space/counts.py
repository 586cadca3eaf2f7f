"""Block counts within what needs no network to be checked: counted, listed, drawn, stage by stage.

What the stages so far leave to those to come is all that matters there (`_Rest`): many beginnings
leave the same, and none is looked into that leads nowhere.
"""

import functools
import heapq
from collections.abc import Iterator
from typing import NamedTuple

from dsaccel.config.study import SpaceConfig
from dsaccel.spec.hierarchy import Blocks


class _Rest(NamedTuple):
    """The bounds that are left to the stages to come."""

    stage: int
    """The first of them, from 0."""
    floor: int
    """Blocks of each deep one, at least."""
    owed: int
    """Blocks of all deep ones together, at least, as long as more may be added to that."""
    fewest: int
    """Blocks of all of them together, at least."""
    most: int


class Counts:
    """The counts within `num_blocks`, the total and the constraint of a space."""

    def __init__(self, config: SpaceConfig, num_shallow: int) -> None:
        self._bounds = config.num_blocks
        self._constraint = config.constraint
        self._num_shallow = num_shallow
        stages = range(len(self._bounds) + 1)
        self._lows = [sum(low for low, _ in self._bounds[stage:]) for stage in stages]
        self._highs = [sum(high for _, high in self._bounds[stage:]) for stage in stages]
        fewest, most = config.min_total_blocks or 0, config.max_total_blocks or self._highs[0]
        self._all = self._left(0, 0, 0, fewest, most)
        self._num = functools.cache(self._count)
        self._next = functools.cache(self._next_counts)

    def num(self, begin: Blocks = ()) -> int:
        """How many hierarchies begin so."""
        return self._num(self._after_all(begin))

    def longer(self, begin: Blocks) -> list[Blocks]:
        """Each beginning that is one stage longer and leads somewhere, in order."""
        return [(*begin, count) for count, _ in self._next(self._after_all(begin))]

    def listed(self, begin: Blocks = ()) -> Iterator[Blocks]:
        """All hierarchies that begin so, in lexicographic order."""
        return self._listed(begin, self._after_all(begin))

    def ends(self, begin: Blocks) -> tuple[Blocks, Blocks]:
        """The least and the greatest counts of each stage of hierarchies with this beginning."""
        rest = self._after_all(begin)
        later = range(rest.stage, len(self._bounds))
        lows, highs = (
            tuple(end(rest, stage) for stage in later) for end in (self._low, self._high)
        )
        return (*begin, *lows), (*begin, *highs)

    def at(self, place: int) -> Blocks:
        """The one at a place, from 0, in lexicographic order; nothing before it is listed."""
        counts, rest = (), self._all
        while rest.stage < len(self._bounds):
            for count, after in self._next(rest):
                if place < self._num(after):
                    counts, rest = (*counts, count), after
                    break
                place -= self._num(after)
            else:
                raise IndexError(place)
        return counts

    def nearest(self, target: Blocks) -> Iterator[Blocks]:
        """All counts, those fewest blocks away first; equals come in lexicographic order."""
        # at least so far away, beginning, so far away already, what is left
        heap: list[tuple[int, Blocks, int, _Rest]] = [(0, (), 0, self._all)]
        while heap:
            _, begin, away, rest = heapq.heappop(heap)
            if rest.stage == len(self._bounds):
                yield begin
                continue
            for count, after in self._next(rest):
                off = away + abs(count - target[rest.stage])
                at_least = off + self._away(after, target)
                heapq.heappush(heap, (at_least, (*begin, count), off, after))

    def _away(self, rest: _Rest, target: Blocks) -> int:
        """Blocks that what is left is away from a target, at least."""
        total, deep = sum(target[rest.stage :]), target[max(rest.stage, self._num_shallow) :]
        below = sum(max(0, rest.floor - count) for count in deep)
        return max(below, rest.fewest - total, total - rest.most)

    def _listed(self, begin: Blocks, rest: _Rest) -> Iterator[Blocks]:
        if rest.stage == len(self._bounds):
            yield begin
            return
        for count, after in self._next(rest):
            yield from self._listed((*begin, count), after)

    def _count(self, rest: _Rest) -> int:
        if rest.stage == len(self._bounds):
            return 1
        return sum(self._num(self._after(rest, count)) for count in self._allowed(rest))

    def _next_counts(self, rest: _Rest) -> tuple[tuple[int, _Rest], ...]:
        """The counts of the next stage that lead somewhere, and what they leave."""
        pairs = ((count, self._after(rest, count)) for count in self._allowed(rest))
        return tuple((count, after) for count, after in pairs if self._num(after))

    def _allowed(self, rest: _Rest) -> range:
        """Counts of the next stage that break nothing by themselves."""
        fewest = rest.fewest - self._highs[rest.stage + 1]
        return range(max(fewest, self._low(rest, rest.stage)), self._high(rest, rest.stage) + 1)

    def _low(self, rest: _Rest, stage: int) -> int:
        low, _ = self._bounds[stage]
        return low if stage < self._num_shallow else max(low, rest.floor)

    def _high(self, rest: _Rest, stage: int) -> int:
        low, high = self._bounds[stage]
        return min(high, rest.most - (self._lows[rest.stage] - low))

    def _after_all(self, begin: Blocks) -> _Rest:
        return functools.reduce(self._after, begin, self._all)

    def _after(self, rest: _Rest, count: int) -> _Rest:
        stage, floor, owed, fewest, most = rest
        if stage < self._num_shallow:
            match self._constraint:
                case "accelerated":
                    floor = max(floor, count)
                case "strict":
                    floor = max(floor, count + 1)
                case "total":
                    owed += count
        return self._left(stage + 1, floor, owed, fewest - count, most - count)

    def _left(self, stage: int, floor: int, owed: int, fewest: int, most: int) -> _Rest:
        """Equal for beginnings that leave the same: bounds that no longer bind are forgotten."""
        if stage == self._num_shallow:
            owed, fewest = 0, max(fewest, owed)
        return _Rest(
            stage, floor, owed, max(fewest, self._lows[stage]), min(most, self._highs[stage])
        )
