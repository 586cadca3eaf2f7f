"""The hierarchy: how many blocks each stage of a network has, written `1-1-2-4`.

Settings may be searched beside it: `1-1-2-4 learning_rate=0.001 loss=pred`. Such a candidate is
still the tuple of its block counts, and whatever needs those alone takes it as it is.
"""

import re
from collections.abc import Callable, Mapping

from dsaccel.errors import ConfigError

Hierarchy = tuple[int, ...]
Value = float | int | str | tuple[str, ...]


def _words(text: str) -> str | tuple[str, ...]:
    return tuple(text.split(",")) if "," in text else text


def _truth(text: str) -> bool:
    return {"true": True, "false": False}[text]


MAX_BLOCKS = 500
"""Of a network, in all stages together: memory and time grow with them."""

SETTINGS: dict[str, Callable[[str], Value]] = {
    "learning_rate": float,
    "dropout": float,
    "width": float,
    "loss": str,
    "granularity": _words,
    "first_loss": int,
    "beta": float,
    "decoder_size": int,
    "pred_conv": _truth,
    "sim_kernel": int,
}
"""What may be searched beside the counts, in the order it is written, and how it is read."""

_EXPECTED = {float: "a number", int: "a whole number", _truth: "true or false"}


class Candidate(tuple[int, ...]):
    """A hierarchy with values for some settings; see `with_settings`.

    Equal to another if counts and settings are equal. A bare tuple has no settings.
    """

    settings: tuple[tuple[str, Value], ...]

    def __new__(cls, hierarchy: Hierarchy, settings: tuple[tuple[str, Value], ...]) -> "Candidate":
        candidate = super().__new__(cls, hierarchy)
        candidate.settings = settings
        return candidate

    def __getnewargs__(self) -> tuple[Hierarchy, tuple[tuple[str, Value], ...]]:
        return tuple(self), self.settings

    def __eq__(self, other: object) -> bool:
        is_equal = isinstance(other, Candidate) and self.settings == other.settings
        return is_equal and tuple.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((tuple(self), self.settings))

    def __repr__(self) -> str:
        return f"Candidate({format_hierarchy(self)!r})"


def with_settings(hierarchy: Hierarchy, settings: Mapping[str, Value]) -> Hierarchy:
    """The hierarchy with these settings and no others; a bare tuple if there are none."""
    if not settings:
        return tuple(hierarchy)
    return Candidate(hierarchy, tuple((n, settings[n]) for n in SETTINGS if n in settings))


def settings_of(hierarchy: Hierarchy) -> dict[str, Value]:
    """The settings that a hierarchy brings along; none of a bare tuple."""
    return dict(hierarchy.settings) if isinstance(hierarchy, Candidate) else {}


def beginning(hierarchy: Hierarchy, num_stages: int) -> Hierarchy:
    """The first stages of a hierarchy, with its settings as far as they concern these."""
    settings = settings_of(hierarchy)
    for name, value in settings.items():
        if isinstance(value, tuple):  # a value a stage
            settings[name] = value[:num_stages]
    return with_settings(hierarchy[:num_stages], settings)


def parse_hierarchy(text: str) -> Hierarchy:
    """Read `1-1-2-4` as `(1, 1, 2, 4)`, and `1-1-2-4 loss=pred` as the same with its settings.

    Raises:
        ConfigError: if a part is no whole number or a stage has no block, or if a setting is not
            one of `SETTINGS`, has no such value or is given twice.
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
        if name not in SETTINGS or name in settings:
            raise ConfigError(
                f"the settings of a hierarchy must be some of {', '.join(SETTINGS)}, each once, "
                f"but got {name} in {text!r}"
            )
        try:
            settings[name] = SETTINGS[name](value)
        except (ValueError, KeyError):
            expected = _EXPECTED[SETTINGS[name]]
            raise ConfigError(f"{name} must be {expected}, but got {value!r} in {text!r}") from None
    return with_settings(tuple(int(part) for part in parts), settings)


def format_hierarchy(hierarchy: Hierarchy) -> str:
    """Write `(1, 1, 2, 4)` as `1-1-2-4`, its settings after it."""
    counts = "-".join(str(num_blocks) for num_blocks in hierarchy)
    return " ".join(
        [counts, *(f"{n}={format_value(v)}" for n, v in settings_of(hierarchy).items())]
    )


def format_value(value: Value) -> str:
    """Write the value of a setting as `parse_hierarchy` reads it: `0.001`, `conv,block`, `true`."""
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(value) if isinstance(value, tuple) else str(value)
