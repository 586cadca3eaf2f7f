"""Text from elsewhere, made fit to be shown."""

import re

STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Characters that move a cursor, change colours or turn the direction of writing."""
USER_PASSWORD = re.compile(r"(://[^:/@\s]*):[^\s]*@")
QUERY_PASSWORD = re.compile(r"([?&]password=)[^&\s\"']*", re.IGNORECASE)


def printable(text: str) -> str:
    """The text with what would steer a terminal shown as an escape, not sent."""
    return STEERING.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def redacted(text: str) -> str:
    """The text with `***` for the passwords of the URLs in it."""
    return QUERY_PASSWORD.sub(r"\1***", USER_PASSWORD.sub(r"\1:***@", text))
