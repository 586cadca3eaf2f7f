"""What configs are made of: a section of settings, and the values of a setting that is searched."""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

LARGEST = 2**63 - 1
"""The largest whole number that a tensor or a database can hold."""


class Section(BaseModel):
    """A frozen group of settings that refuses unknown keys; a docstring under each field."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )
    refused: ClassVar[Mapping[str, str]] = {}
    """Keys that may be looked for here, and why they are unknown."""

    @field_validator("*")
    @classmethod
    def _fits(cls, value: Any) -> Any:
        if isinstance(value, int) and value > LARGEST:
            raise ValueError(f"must be at most {LARGEST}")
        return value

    def __hash__(self) -> int:
        return hash((type(self), *map(_hashable, vars(self).values())))


def _hashable(value: Any) -> Any:
    """Tables of options are dicts, which have no hash."""
    if isinstance(value, dict):
        return frozenset((key, _hashable(each)) for key, each in value.items())
    return tuple(map(_hashable, value)) if isinstance(value, list | tuple) else value


class Searched(Section):
    """The values that a searched setting may take: `choices`, or those from `low` to `high`."""

    choices: tuple[Any, ...] | None = None
    """The order says nothing: one value tells nothing about its neighbours."""
    low: float | None = None
    high: float | None = None
    step: float | None = Field(default=None, gt=0)
    """`low`, `low` + `step`, ... `high`; None: any value between, of `first_loss` each."""
    log: bool = False
    """As likely between 1e-4 and 1e-3 as between 1e-3 and 1e-2."""

    @property
    def ends(self) -> tuple[Any, ...]:
        """Values that, if they are valid, leave no other one to be invalid."""
        if self.choices is not None:
            return self.choices
        assert self.low is not None
        step = () if self.step is None else (self.low + self.step,)
        return (self.low, self.high, *step)

    @model_validator(mode="after")
    def _choices_or_range(self) -> Self:
        given = (self.low, self.high, self.step, self.log or None)
        if self.choices is not None:
            if given != (None,) * 4:
                raise ValueError("must be choices, or low and high, but got both")
            if not self.choices or len(set(map(repr, self.choices))) < len(self.choices):
                raise ValueError(f"must have choices, each once, but got {list(self.choices)}")
            return self
        if self.low is None or self.high is None:
            raise ValueError(
                "must be {choices = [...]} or {low = ..., high = ...}, but got neither"
            )
        if self.low >= self.high:
            raise ValueError(f"must have low < high, but got {self.low} and {self.high}")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError(
                "must have low > 0 and no step if log, "
                f"but got low = {self.low}, step = {self.step}"
            )
        if self.step is not None:
            num_steps = (self.high - self.low) / self.step
            if abs(num_steps - round(num_steps)) > 1e-9:
                raise ValueError(
                    "must have a whole number of steps from low to high, "
                    f"but got {num_steps:.4g} of {self.step}"
                )
        return self
