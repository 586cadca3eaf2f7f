"""The URL of a storage: a password in it is neither stored nor shown.

A password comes from the environment alone: `DSACCEL_STORAGE` holds a whole URL, and PostgreSQL's
own `PGPASSWORD` and `~/.pgpass` serve a URL without one. A study keeps its URL without it.
"""

import os
import re

import sqlalchemy
from sqlalchemy.exc import SQLAlchemyError

from dsaccel.errors import ConfigError
from dsaccel.text import redacted

VARIABLE = "DSACCEL_STORAGE"
USER_SECRET = re.compile(r"(://[^:/@?]*):[^@/?]*@")
QUERY_SECRET = re.compile(r"([?&])(?:password|passwd|sslpassword)=[^&]*&?", re.IGNORECASE)


def storage_of_environment() -> str | None:
    """The storage that new studies are written to if they name none, without its password."""
    url = os.environ.get(VARIABLE)
    if not url:
        return None
    _check_form(url, VARIABLE)
    return without_password(url)


def connectable(url: str) -> sqlalchemy.URL:
    """What a study's storage is opened with: the password comes from the environment.

    Raises:
        ConfigError: if the URL holds one itself, or is none.
    """
    _check_form(url, "storage")
    if without_password(url) != url:
        raise ConfigError(
            f"storage must hold no password, which others would see in the study and in `ps`, but "
            f"got {redacted(url)}; leave it out, and set PGPASSWORD, write it into ~/.pgpass or "
            f"give the whole URL in the environment variable {VARIABLE}"
        )
    whole = os.environ.get(VARIABLE, "")
    known = whole and storage_of_environment() == url
    return sqlalchemy.engine.make_url(whole if known else url)


def without_password(url: str) -> str:
    """The URL as a study keeps it."""
    bare = QUERY_SECRET.sub(r"\1", USER_SECRET.sub(r"\1@", url))
    return bare if bare == url else bare.rstrip("?&")


def redact(url: str) -> str:
    """A storage's URL as it may be shown."""
    try:
        sqlalchemy.engine.make_url(url)
    except (SQLAlchemyError, ValueError):
        return "(not a URL)"
    return redacted(url)


def _check_form(url: str, name: str) -> None:
    """Refuse a URL whose user or password would be taken for its host."""
    scheme, _, rest = url.partition("://")
    user, at, _ = rest.partition("?")[0].rpartition("@")
    if not scheme.startswith("sqlite") and at and set(user) & set("@/"):
        raise ConfigError(
            f"{name} must have one @, which stands before the host, but got {redacted(url)}; "
            "within a user's name or a password write @ as %40 and / as %2F"
        )
