"""The hierarchy: how many blocks each stage of a network has, written `1-1-2-4`.

Settings may be searched beside it: `1-1-2-4 learning_rate=0.001 loss=pred`. The value is the key
everywhere; its text stands at the command line, in TOML files and in the storage.
"""

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, NamedTuple

from dsaccel.errors import ConfigError

Blocks = tuple[int, ...]
"""Block counts, the shallowest stage first; of a beginning those of its first stages."""
Value = float | int | str | tuple[str, ...]


def _place(name: str) -> tuple[int, str]:
    """Options come after settings, by name."""
    return _PLACES.get(name, len(_PLACES)), name


def _words(text: str) -> str | tuple[str, ...]:
    return tuple(text.split(",")) if "," in text else text


def _truth(text: str) -> bool:
    return {"true": True, "false": False}[text]


MAX_BLOCKS = 500
"""The most blocks of a network in all stages together: memory and time grow with them."""


class Setting(NamedTuple):
    """A setting that may be searched beside the counts."""

    read: Callable[[str], Value]
    """The value of the setting in the text of a hierarchy."""
    concerns: Literal["layers", "shape", "heads"]
    """`layers`: it stands in every layer or segment, and each value is another network. `shape`:
    which layers and which units there are; `heads`: their local heads alone. Of these only the plan
    tells whether two values are one network."""


SETTINGS = {
    "learning_rate": Setting(float, "layers"),
    "dropout": Setting(float, "layers"),
    "width": Setting(float, "shape"),
    "loss": Setting(str, "heads"),
    "granularity": Setting(_words, "shape"),
    "cuts": Setting(_truth, "shape"),
    "first_loss": Setting(int, "shape"),
    "stem": Setting(str, "shape"),
    "downsampling": Setting(str, "shape"),
    "beta": Setting(float, "heads"),
    "decoder_size": Setting(int, "heads"),
    "pred_conv": Setting(_truth, "heads"),
    "sim_kernel": Setting(int, "heads"),
    "head": Setting(str, "heads"),
}
"""What may be searched beside the counts, in written order; options of parts come after."""
_PLACES = {name: place for place, name in enumerate(SETTINGS)}
OPTIONS = ("loss_options", "head_options")
"""Tables of options that may be searched too, as `head_options.ratio`."""

_EXPECTED = {float: "a number", int: "a whole number", _truth: "true or false"}


def setting_of(name: str) -> Setting | None:
    """What is known of a setting; None: it cannot be searched."""
    table, _, option = name.partition(".")
    if table in OPTIONS and option.isidentifier():
        return Setting(_value, "heads")
    return SETTINGS.get(name)


@dataclass(frozen=True)
class Hierarchy:
    """Block counts, and values for the settings that are searched beside them."""

    blocks: Blocks
    settings: tuple[tuple[str, Value], ...] = ()
    """Searched settings and their values, in the order of `SETTINGS`."""

    def __lt__(self, other: "Hierarchy") -> bool:
        """Compares block counts alone, so that sorting keeps the order of those that share them."""
        return self.blocks < other.blocks

    def __str__(self) -> str:
        counts = "-".join(map(str, self.blocks))
        return " ".join([counts, *(f"{n}={format_value(v)}" for n, v in self.settings)])

    @classmethod
    def parse(cls, text: str) -> "Hierarchy":
        """Read `1-1-2-4`, or `1-1-2-4 loss=pred` with its settings.

        Raises:
            ConfigError: if a part is no whole number or a stage has no block, or if a setting is
                not one of `SETTINGS`, has no such value or is given twice.
        """
        counts, *words = text.split() or [""]
        parts = counts.split("-")
        is_hierarchy = all(re.fullmatch("0*[1-9][0-9]*", part) for part in parts)
        if not is_hierarchy or not all("=" in word for word in words):
            raise ConfigError(
                "a hierarchy must be whole numbers of at least 1, a block count for each stage, "
                f"joined by '-', but got {text!r}; write for example 1-1-2-2"
            )
        # the length before the number: Python refuses to read one of thousands of digits
        if len(counts) > 1000 or sum(map(int, parts)) > MAX_BLOCKS:
            raise ConfigError(
                f"a hierarchy must have at most {MAX_BLOCKS} blocks in all, but got {text[:50]!r}"
            )
        settings: dict[str, Value] = {}
        for word in words:
            name, _, value = word.partition("=")
            if setting_of(name) is None or name in settings:
                raise ConfigError(
                    f"the settings of a hierarchy must be some of {', '.join(SETTINGS)}, each "
                    f"once, but got {name} in {text!r}"
                )
            settings[name] = _read(name, value, text)
        return cls(tuple(map(int, parts))).with_settings(settings)

    @property
    def num_stages(self) -> int:
        return len(self.blocks)

    @property
    def num_blocks(self) -> int:
        """Blocks in all stages together."""
        return sum(self.blocks)

    def with_settings(self, settings: Mapping[str, Value]) -> "Hierarchy":
        """The same blocks with these settings and no others."""
        names = sorted(settings, key=_place)
        return Hierarchy(self.blocks, tuple((name, settings[name]) for name in names))

    def with_blocks(self, blocks: Blocks) -> "Hierarchy":
        """The same settings with other blocks."""
        return Hierarchy(blocks, self.settings)

    def beginning(self, num_stages: int) -> "Hierarchy":
        """The first stages, with the settings as far as they concern these."""
        # a tuple has a value for each stage, and one for the stem before them or none
        rest = self.num_stages - num_stages
        cut = ((n, v[: len(v) - rest] if isinstance(v, tuple) else v) for n, v in self.settings)
        return Hierarchy(self.blocks[:num_stages], tuple(cut))


def format_value(value: Value) -> str:
    """Write the value of a setting as `Hierarchy.parse` reads it: `0.001`, `conv,block`, `true`."""
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(value) if isinstance(value, tuple) else str(value)


def _value(text: str) -> Value:
    """An option's, whose kind only its part knows."""
    for read in (int, float, _truth):
        with suppress(ValueError, KeyError):
            return read(text)
    return text


def _read(name: str, value: str, text: str) -> Value:
    setting = setting_of(name)
    assert setting is not None
    try:
        return setting.read(value)
    except (ValueError, KeyError):
        expected = _EXPECTED[setting.read]
        raise ConfigError(f"{name} must be {expected}, but got {value!r} in {text!r}") from None
