"""Numbers in words: the same rounding and units on a terminal, on a page and in a message.

And text from elsewhere, made fit to be shown.
"""

import re
from datetime import UTC, datetime

from dsaccel.errors import ConfigError

STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Characters that move a cursor, change colours or turn the direction of writing."""
USER_PASSWORD = re.compile(r"(://[^:/@\s]*):[^\s]*@")
QUERY_PASSWORD = re.compile(r"([?&](?:ssl)?passw(?:or)?d=)[^&\s\"']*", re.IGNORECASE)


def percent(accuracy: float | None) -> str:
    return "-" if accuracy is None else f"{100 * accuracy:.2f} %"


def points(accuracy: float | None, other: float | None) -> str:
    """How far one accuracy leads another: `+1.20 points`."""
    if accuracy is None or other is None:
        return "-"
    return f"{100 * (accuracy - other):+.2f} points"


def amount(value: float | None) -> str:
    """`11.17 M`."""
    if value is None:
        return "-"
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.2f}{unit}"
    return f"{value:.0f}"


def counted(num: int, word: str) -> str:
    """`1 seed`, `3 seeds`."""
    return f"{num} {word}" if num == 1 else f"{num} {word}s"


def utc_now() -> str:
    """`2026-11-25T09:30:00+00:00`."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def duration(time_s: float | None) -> str:
    """`2 min 05 s`."""
    if time_s is None:
        return "-"
    if time_s < 60:
        return f"{time_s:.1f} s"
    minutes, seconds = divmod(round(time_s), 60)
    if minutes < 60:
        return f"{minutes} min {seconds:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


def about(time_s: float) -> str:
    """A duration that is guessed: no more digits than are known."""
    return (
        "less than a second"
        if time_s < 1
        else f"{time_s:.0f} s"
        if time_s < 60
        else duration(time_s)
    )


def printable(text: str) -> str:
    """The text with what would steer a terminal shown as an escape, not sent."""
    return STEERING.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def redacted(text: str) -> str:
    """The text with `***` for the passwords of the URLs in it."""
    return QUERY_PASSWORD.sub(r"\1***", USER_PASSWORD.sub(r"\1:***@", text))


SECONDS = {"s": 1, "min": 60, "m": 60, "h": 3600, "d": 86400}
MEBIBYTES = {"mib": 1.0, "gib": 1024.0, "mb": 1e6 / 2**20, "gb": 1e9 / 2**20}


def read_seconds(text: str) -> float:
    """`2h`, `90 min`, `1h30min`.

    Raises:
        ConfigError: if it is no duration.
    """
    found = re.findall(r"(\d+(?:\.\d+)?)\s*(min|[smhd])\s*", text)
    if not found or "".join(re.split(r"\s+", text)) != "".join(n + unit for n, unit in found):
        raise ConfigError(f"a time must be as 2h, 90min or 1h30min, but got {text!r}")
    return _positive(text, sum(float(n) * SECONDS[unit] for n, unit in found))


def read_mebibytes(text: str) -> int:
    """`4GiB`, `500 MiB`, in MiB.

    Raises:
        ConfigError: if it is no size of a memory.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([MG]i?B)\s*", text, re.IGNORECASE)
    if not found:
        raise ConfigError(f"a memory must be as 4GiB or 500MiB, but got {text!r}")
    return max(1, round(_positive(text, float(found[1]) * MEBIBYTES[found[2].lower()])))


def _positive(text: str, value: float) -> float:
    if not value > 0:
        raise ConfigError(f"a time or a memory must be above 0, but got {text!r}")
    return value
