"""Bounds of what a hierarchy costs: parameters, FLOPs and shallow scale, which its plan tells."""

import bisect
import functools
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from dsaccel.config.study import SpaceConfig
from dsaccel.errors import ConfigError
from dsaccel.spec.hierarchy import Hierarchy, setting_of
from dsaccel.spec.plan import Plan

STEPPED = "decoder_size"
"""A setting of which most values make no difference: what two of them have in common, all between
them have, so that few of them need a plan."""


@dataclass(frozen=True)
class Measures:
    """What a hierarchy costs, known without training it."""

    num_parameters: int
    """Weights of the network, local heads not counted."""
    flops: int
    """Forward FLOPs an image (2 a multiply-add), local heads not counted."""
    shallow_scale: float
    """Mean side of the first feature maps over the input's, in (0, 1] (eq. 8)."""
    fingerprint: str | None = None
    """The plan's; None: no two hierarchies are one network."""
    step_flops: int = 0
    """FLOPs of a training step an image, all heads counted."""
    training_mib: float = 0.0
    """Estimated peak memory of training the network alone, where that is bounded."""

    @classmethod
    def of(cls, plan: Plan, training_mib: float = 0.0) -> "Measures":
        costs = plan.num_parameters, plan.flops, plan.shallow_scale
        return cls(*costs, plan.fingerprint, plan.step_flops, training_mib)


class MeasuredBounds:
    """Tells whether a hierarchy is within the bounds of a config.

    Args:
        config: the bounds.
        measure: what a hierarchy costs; it is called once a hierarchy.
        may_be_none: whether there are hierarchies that are no network, since a first loss that is
            searched is beyond their last unit.
    """

    def __init__(
        self, config: SpaceConfig, measure: Callable[[Hierarchy], Measures], *, may_be_none: bool
    ) -> None:
        self._measure = functools.cache(measure)
        self._known: dict[Hierarchy, list[tuple[int, Measures]]] = {}
        """What values of `STEPPED` come to, in their order, by all else of a hierarchy."""
        self._may_be_none = may_be_none
        bounds = [
            ("num_parameters", config.min_parameters, config.max_parameters),
            ("flops", config.min_flops, config.max_flops),
            ("step_flops", None, config.max_step_flops),
            ("training_mib", None, config.max_training_mib),
            ("shallow_scale", None, config.max_shallow_scale),
        ]
        self.bounds: list[tuple[str, float | None, float | None]] = [
            (name, low, high) for name, low, high in bounds if (low, high) != (None, None)
        ]
        """Name in `Measures`, lowest and highest value, of those that are bounded."""

    def too_small(self, hierarchy: Hierarchy) -> Iterator[str]:
        """Why a hierarchy is too small for a measured bound, or to be a network at all."""
        try:
            values = self._values(hierarchy)
        except ConfigError as error:  # a first loss beyond the last unit
            yield str(error)
            return
        for name, value, lowest, highest in values:
            if lowest is not None and value < lowest:
                yield must_be(name, lowest, highest, hierarchy, value)

    def too_large(self, hierarchy: Hierarchy) -> Iterator[str]:
        """Why a hierarchy is too large for a measured bound."""
        with suppress(ConfigError):
            for name, value, lowest, highest in self._values(hierarchy):
                if highest is not None and value > highest:
                    yield must_be(name, lowest, highest, hierarchy, value)

    def _values(self, hierarchy: Hierarchy) -> list[tuple[str, float, float | None, float | None]]:
        """The bounded measures: name, value, lowest and highest."""
        if not self.bounds and not self._may_be_none:
            return []
        measures = self.of(hierarchy)
        return [(name, getattr(measures, name), low, high) for name, low, high in self.bounds]

    def of(self, hierarchy: Hierarchy) -> Measures:
        """Once for all settings that change nothing of it."""
        settings = {n: v for n, v in hierarchy.settings if told_by_plan(n)}
        told = hierarchy.with_settings(settings)
        size = settings.pop(STEPPED, None)
        if not isinstance(size, int):
            return self._measure(told)
        known = self._known.setdefault(hierarchy.with_settings(settings), [])
        place = bisect.bisect_left(known, size, key=lambda pair: pair[0])
        between = [measures for _, measures in known[max(0, place - 1) : place + 1]]
        if len(between) == 2 and between[0] == between[1] and between[0].fingerprint is not None:
            return between[0]
        found = self._measure(told)
        if known[place : place + 1] != [(size, found)]:
            known.insert(place, (size, found))
        return found


def told_by_plan(name: str) -> bool:
    """Whether only the plan tells if two values of a setting are one network."""
    setting = setting_of(name)
    return setting is not None and setting.concerns != "layers"


def must_be(
    name: str, lowest: float | None, highest: float | None, hierarchy: Hierarchy, value: float
) -> str:
    return f"{name} must be {words_of_range(lowest, highest)}, but {hierarchy} has {value}"


def words_of_range(lowest: float | None, highest: float | None) -> str:
    if lowest is None:
        return f"at most {highest}"
    return f"at least {lowest}" if highest is None else f"within {lowest}..{highest}"
