"""The settings of a search space as Optuna parameters: which values they have, how they are drawn.

A parameter is a setting, or `granularity_s2` where each stage has its own.
"""

import itertools
import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dsaccel.config.section import Searched
from dsaccel.config.space import SettingsConfig
from dsaccel.spec.hierarchy import SETTINGS, Value, format_value

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

DIGITS = 4
"""Digits of a value that is proposed from a range: two that differ later are one candidate."""

Settings = dict[str, Value]


class Dimensions:
    """What is searched beside the counts, in a space of `num_stages` stages."""

    def __init__(self, config: SettingsConfig, num_stages: int) -> None:
        self.names = config.names
        self._stages = ()
        self._dimensions: dict[str, _Dimension] = {}
        for name, searched in config.items():
            parameters = (name,)
            if name == "granularity_per_stage":
                parameters = tuple(f"granularity_s{stage}" for stage in range(1, num_stages + 1))
                self._stages = parameters
            for parameter in parameters:
                is_whole = name in SETTINGS and SETTINGS[name].read is int
                # each first loss is another network; of decoder sizes most are not
                step = 1.0 if name == "first_loss" else None
                self._dimensions[parameter] = _Dimension(searched, is_whole, searched.step or step)

    @property
    def size(self) -> int | None:
        """How many combinations of values there are, 1 if nothing is searched; None: no end."""
        sizes = [dimension.size for dimension in self._dimensions.values()]
        return None if None in sizes else math.prod(size for size in sizes if size is not None)

    def combinations(self) -> Iterator[Settings]:
        """Every combination of values, if there is an end of them."""
        values = [dimension.values() for dimension in self._dimensions.values()]
        for combination in itertools.product(*values):
            yield self.from_params(dict(zip(self._dimensions, combination, strict=True)))

    def distributions(self) -> "dict[str, BaseDistribution]":
        """The Optuna parameters."""
        return {name: dimension.distribution() for name, dimension in self._dimensions.items()}

    def to_params(self, settings: Mapping[str, Value]) -> dict[str, Any]:
        """The Optuna parameters of settings."""
        params: dict[str, Any] = dict(settings)
        if self._stages:
            params |= zip(self._stages, params["granularity"], strict=True)
        elif "granularity" in params:
            params["granularity"] = format_value(params["granularity"])
        return {name: params[name] for name in self._dimensions}

    def from_params(self, params: Mapping[str, Any]) -> Settings:
        """The settings of a trial's Optuna parameters; other parameters are left alone."""
        settings = {name: params[name] for name in self._dimensions}
        if self._stages:
            settings["granularity"] = tuple(settings.pop(name) for name in self._stages)
        elif "granularity" in settings:
            settings["granularity"] = SETTINGS["granularity"].read(settings["granularity"])
        return settings

    def rounded(self, settings: Mapping[str, Value]) -> Settings:
        """A sampler's settings as they are trained: no more digits than a reader wants."""
        params = self.to_params(settings)
        return self.from_params({n: d.rounded(params[n]) for n, d in self._dimensions.items()})

    def draw(self, rng: random.Random) -> Settings:
        """Uniform values, in the logarithm where the study says so."""
        params = {name: dimension.draw(rng) for name, dimension in self._dimensions.items()}
        return self.rounded(self.from_params(params))

    def outside(self, settings: Mapping[str, Value]) -> Iterator[str]:
        """Say what is wrong with settings, a sentence each."""
        if settings.keys() != set(self.names):
            expected, got = ", ".join(self.names), ", ".join(settings)
            yield f"the searched settings must be {expected or 'none'}, but got {got or 'none'}"
            return
        words = settings.get("granularity")
        num_words = len(words) if isinstance(words, tuple) else 0
        if self._stages and num_words != len(self._stages):
            expected = f"{len(self._stages)} words"
            yield f"granularity must be {expected}, but got {num_words or 'one word'}"
            return
        for name, value in self.to_params(settings).items():
            if not self._dimensions[name].contains(value):
                yield f"{name} must be {self._dimensions[name]}, but got {format_value(value)}"


@dataclass(frozen=True)
class _Dimension:
    """One Optuna parameter."""

    searched: Searched
    is_whole: bool
    step: float | None
    """None: any value between."""

    def __str__(self) -> str:
        if self.searched.choices is not None:
            return f"one of {', '.join(map(format_value, self.searched.choices))}"
        text = f"within {self.searched.low:g}..{self.searched.high:g}"
        return text if self.step is None else f"{text} in steps of {self.step:g}"

    @property
    def size(self) -> int | None:
        if self.searched.choices is not None:
            return len(self.searched.choices)
        low, high = self._ends
        return None if self.step is None else round((high - low) / self.step) + 1

    def values(self) -> tuple[Any, ...]:
        if self.searched.choices is not None:
            return self.searched.choices
        assert self.size is not None
        assert self.step is not None
        return tuple(self.rounded(self._ends[0] + i * self.step) for i in range(self.size))

    def distribution(self) -> "BaseDistribution":
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.searched.choices is not None:
            return CategoricalDistribution(self.searched.choices)
        low, high = self._ends
        if self.is_whole:
            return IntDistribution(int(low), int(high), self.searched.log, int(self.step or 1))
        return FloatDistribution(low, high, self.searched.log, self.step)

    def rounded(self, value: Any) -> Any:
        """The nearest value that is trained: a choice, a step, or a number of few digits."""
        if self.searched.choices is not None:
            return value
        low, high = self._ends
        if self.step is None:
            value = float(f"{value:.{DIGITS}g}")
        else:
            # rounded: 3 * 0.1 is 0.30000000000000004
            value = round(low + round((value - low) / self.step) * self.step, 12)
        value = min(max(value, low), high)
        return round(value) if self.is_whole else value

    def draw(self, rng: random.Random) -> Any:
        if self.size is not None:
            return rng.choice(self.values())
        low, high = self._ends
        if self.searched.log:
            return math.exp(rng.uniform(math.log(low), math.log(high)))
        return rng.uniform(low, high)

    def contains(self, value: Any) -> bool:
        if self.searched.choices is not None:
            return value in self.searched.choices
        low, high = self._ends
        is_on_step = self.step is None or math.isclose(self.rounded(value), value, abs_tol=1e-9)
        return low <= value <= high and is_on_step

    @property
    def _ends(self) -> tuple[float, float]:
        assert self.searched.low is not None
        assert self.searched.high is not None
        return self.searched.low, self.searched.high
