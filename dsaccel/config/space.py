"""What is searched: the section `[space]`, and the settings searched beside the counts."""

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    Field,
    ValidationError,
    ValidationInfo,
    create_model,
    field_validator,
    model_validator,
)

from dsaccel.config.recipe import NetworkConfig, TrainingConfig
from dsaccel.config.section import Searched, Section
from dsaccel.parts import NamesPart
from dsaccel.spec.hierarchy import MAX_BLOCKS, OPTIONS, SETTINGS, Value, format_value


class _SettingsConfig(Section):
    """Settings that are searched beside the hierarchy; those left out are the study's."""

    refused: ClassVar[Mapping[str, str]] = dict.fromkeys(
        (name for name in TrainingConfig.model_fields if name != "learning_rate"),
        "cannot be searched: the networks of a study train together, on the same batches for the "
        "same epochs; run a study for each value",
    )

    @field_validator(*OPTIONS, check_fields=False)
    @classmethod
    def _choices_of_options(cls, options: dict[str, Searched]) -> dict[str, Searched]:
        for name, searched in options.items():
            if searched.choices is None:
                raise ValueError(f"must have choices, but {name} has low and high")
        return options

    @field_validator("*")
    @classmethod
    def _values_that_may_be_set(cls, searched: Any, info: ValidationInfo) -> Any:
        """Each value is what a study could say itself: 1 is a width, though written 1.0."""
        if not isinstance(searched, Searched):
            return searched
        name = str(info.field_name).removesuffix("_per_stage")
        values = tuple(checked_setting(name, value) for value in searched.ends)
        if info.field_name == "granularity":  # a choice of Optuna's is one text
            values = tuple(format_value(value) for value in values)
        if not all(isinstance(value, float | int | str) for value in values):
            raise ValueError(f"must have one word a choice, but got {list(searched.ends)}")
        if searched.choices is None and not _is_number(name):
            raise ValueError(f"must have choices, but got {searched.low:g} to {searched.high:g}")
        return searched if searched.choices is None else Searched(choices=values)

    @model_validator(mode="after")
    def _one_granularity(self) -> Self:
        if self.of("granularity") and self.of("granularity_per_stage"):
            raise ValueError("must be granularity or granularity_per_stage, but got both")
        return self

    def of(self, name: str) -> Searched | None:
        """How a setting is searched; None: it is not."""
        return getattr(self, name)

    @property
    def names(self) -> tuple[str, ...]:
        """The settings that are searched."""
        return tuple(dict.fromkeys(n.removesuffix("_per_stage") for n, _ in self.items()))

    def items(self) -> Iterator[tuple[str, Searched]]:
        """How each of them is searched; options of parts are called `head_options.ratio`."""
        for name, searched in self:
            if isinstance(searched, Searched):
                yield name, searched
            elif searched:
                yield from ((f"{name}.{option}", each) for option, each in searched.items())


def _searchable() -> Iterator[str]:
    for name in SETTINGS:
        yield name
        if name == "granularity":  # of each stage for itself
            yield "granularity_per_stage"


if TYPE_CHECKING:
    SettingsConfig = _SettingsConfig
else:
    SettingsConfig = create_model(
        "SettingsConfig",
        __base__=_SettingsConfig,
        **dict.fromkeys(_searchable(), (Searched | None, None)),
        **dict.fromkeys(OPTIONS, (dict[str, Searched], Field(default_factory=dict))),
    )


def checked_setting(name: str, value: Any) -> Value:
    """The value of a setting of `[network]` or `[training]`, as those have it.

    Raises:
        ValueError: if it is none.
    """
    section = _section_of(name)
    is_whole = section.model_fields[name].annotation is int
    if isinstance(value, float) and value.is_integer() and is_whole:
        value = int(value)
    try:
        checked = section.model_validate_json(json.dumps({name: value}), strict=True)
    except ValidationError as error:
        message = error.errors()[0]["msg"].removeprefix("Value error, ")
        message = message.replace("Input should be", "must be")
        raise ValueError(f"{message}, but got {value!r}") from None
    return getattr(checked, name)


def _section_of(name: str) -> type[TrainingConfig] | type[NetworkConfig]:
    return TrainingConfig if name in TrainingConfig.model_fields else NetworkConfig


def _is_number(name: str) -> bool:
    return _section_of(name).model_fields[name].annotation in (int, float)


class SpaceConfig(Section):
    family: Annotated[str, NamesPart("family")]
    """What the networks are made of; or an import path, as `./mine.py:Mine`."""
    num_blocks: tuple[tuple[int, int], ...] = Field(min_length=2)
    """Fewest and most blocks of each stage, shallowest first."""
    shallow_stages: int | None = Field(default=None, ge=1)
    """The first stages that count as shallow; None: the first half, rounded down."""
    constraint: Literal["accelerated", "strict", "total", "none"] = "accelerated"
    """`accelerated`: max(shallow) <= min(deep); `strict`: < (eq. 7); `total`: sum(deep) >=
    sum(shallow); `none`."""
    min_total_blocks: int | None = Field(default=None, ge=1)
    max_total_blocks: int | None = Field(default=None, ge=1)
    min_parameters: int | None = Field(default=None, ge=1)
    """Weights of the network, local heads not counted."""
    max_parameters: int | None = Field(default=None, ge=1)
    min_flops: int | None = Field(default=None, ge=1)
    """Forward FLOPs an image (2 a multiply-add), local heads not counted."""
    max_flops: int | None = Field(default=None, ge=1)
    max_step_flops: int | None = Field(default=None, ge=1)
    """FLOPs of a training step an image: three forward passes, all heads counted."""
    max_training_mib: float | None = Field(default=None, gt=0)
    """Estimated peak memory of training the network alone on a CPU, in MiB, everything counted."""
    max_shallow_scale: float | None = Field(default=None, gt=0, le=1)
    """Mean side of the feature maps of the first convolutions over the input's (eq. 8)."""
    settings: SettingsConfig = SettingsConfig()
    """What is searched beside the counts."""

    @field_validator("num_blocks")
    @classmethod
    def _bounds_in_order(cls, bounds: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
        for stage, (lowest, highest) in enumerate(bounds, 1):
            if not 1 <= lowest <= highest:
                raise ValueError(
                    f"of stage {stage} must be [lowest, highest] with 1 <= lowest <= highest"
                )
        if (most := sum(highest for _, highest in bounds)) > MAX_BLOCKS:
            raise ValueError(f"must allow at most {MAX_BLOCKS} blocks in all, but got {most}")
        return bounds

    @model_validator(mode="after")
    def _words_for_the_stages(self) -> Self:
        searched, stages = self.settings.of("granularity"), len(self.num_blocks)
        for choice in searched.ends if searched else ():
            num = 1 + choice.count(",")
            if num not in (1, stages, stages + 1):
                raise ValueError(
                    f"settings.granularity must have 1, {stages} or {stages + 1} words a choice, "
                    f"but got {num}: {choice}"
                )
        return self
