"""Sections of settings from TOML files and command lines, checked, and written back.

Wrong values and unknown keys are a `ConfigError`: the setting, what was expected, the value.
"""

import codecs
import json
import tomllib
from pathlib import Path
from typing import Any, TypeVar, get_args

import tomli_w
from pydantic import ValidationError

from dsaccel.config.section import Section
from dsaccel.errors import ConfigError
from dsaccel.files import read_file, write_text

Config = TypeVar("Config", bound=Section)

WORDS = {
    "an object": "a table",
    "a valid array": "a list",
    "a valid integer": "a whole number",
    "a valid number": "a number",
    "a valid string": "text in quotes",
    "a valid boolean": "true or false",
}
"""What TOML calls what pydantic names in words of JSON."""
DEEP = "its lists lie too deep in each other"


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        ConfigError: if the file cannot be read or is no TOML.
    """
    try:
        content = read_file(path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ConfigError(f"{path} must be UTF-8, but is UTF-16; save it as UTF-8")
    try:
        return tomllib.loads(content.decode("utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        hint = "; text must be in quotes" if str(error).startswith("Invalid value") else ""
        raise ConfigError(f"{path} must be TOML, but: {error}{hint}") from None
    except RecursionError:
        raise ConfigError(f"{path} must be a study, a space or a network, but {DEEP}") from None


def write_toml(path: Path, config: Section) -> None:
    """Write a config as TOML, whole or not at all; settings of None and tables without any are
    left out.
    """
    write_text(path, tomli_w.dumps(_filled(config.model_dump(mode="json", exclude_none=True))))


def _filled(tables: dict[str, Any]) -> dict[str, Any]:
    filled = {k: _filled(v) if isinstance(v, dict) else v for k, v in tables.items()}
    return {key: value for key, value in filled.items() if value is not None and value != {}}


def parse_config(model: type[Config], tables: dict[str, Any], source: str) -> Config:
    """Check tables against a model.

    Raises:
        ConfigError: one line a mistake, each with the setting, what was expected and the value.
    """
    _check_utf8(tables, source)
    try:
        # as JSON: strict types (no text or truth value for a number), but a list for a tuple
        return model.model_validate_json(json.dumps(tables, default=str), strict=True)
    except ValidationError as error:
        lines: dict[str, str] = {}
        for mistake in error.errors():
            # a wrong item makes the list wrong too, and each part of a union complains: one line
            setting = ".".join(str(part) for part in mistake["loc"][:2])
            lines.setdefault(setting, _explain(model, mistake, source))
        raise ConfigError("\n".join(lines.values())) from None


def _check_utf8(tables: dict[str, Any], source: str) -> None:
    """Refuse the name of a file that no TOML file could hold."""
    text = json.dumps(tables, default=str, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        near = text[max(0, error.start - 20) : error.end + 10]
        raise ConfigError(
            f"{source}: text must be UTF-8, but got {near!r}; give the folder or file a name in "
            "UTF-8, or a link that has one"
        ) from None


def set_value(tables: dict[str, Any], key: str, value: Any) -> None:
    """Set `training.epochs` in nested tables, in place."""
    *sections, name = key.split(".")
    for section in sections:
        tables = tables.setdefault(section, {})
        if not isinstance(tables, dict):
            raise ConfigError(f"{key} cannot be set: {section} is a value, not a section")
    tables[name] = value


def parse_override(text: str) -> tuple[str, Any]:
    """Read `training.epochs=10` as a key and a TOML value; a bare word is a string."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set must be KEY=VALUE, for example training.epochs=10, got {text!r}")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except RecursionError:
        raise ConfigError(f"{key.strip()} must be a setting's value, but {DEEP}") from None
    except tomllib.TOMLDecodeError as error:
        if value.strip().startswith('"'):
            raise ConfigError(
                f"{key.strip()} must be text as TOML writes it, but: {error}, got {value.strip()}; "
                "leave the quotes out, or write each backslash twice"
            ) from None
        return key.strip(), value.strip()


def differences(old: Section, new: Section) -> list[str]:
    """The settings in which two configs of one model differ, a line each."""
    old_values, new_values = flatten(old.model_dump()), flatten(new.model_dump())
    return [
        f"{key}: {old_values.get(key)} in the study, {new_values.get(key)} asked for"
        for key in sorted(old_values | new_values)
        if old_values.get(key) != new_values.get(key)
    ]


def flatten(tables: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values by their keys in a study file: `training.epochs`."""
    flat: dict[str, Any] = {}
    for key, value in tables.items():
        flat |= (
            flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
        )
    return flat


def _explain(model: type[Section], mistake: Any, source: str) -> str:
    """One pydantic error as one line: the setting, what was expected, the value."""
    names = [str(part) for part in mistake["loc"] if not str(part).startswith(("tuple", "literal"))]
    key = ".".join(names) or "the file"
    if mistake["type"] == "extra_forbidden":
        section: Any = model
        for name in names[:-1]:
            section = section.model_fields[name].annotation
            # what may be left out is `Searched | None`
            section = next(iter(get_args(section)), section)
        if names[-1] in section.refused:
            return f"{source}: {key} {section.refused[names[-1]]}"
        known = ", ".join(section.model_fields)
        return f"{source}: unknown key {key}; expected one of: {known}"
    if mistake["type"] == "missing":
        return f"{source}: {key} is missing"
    message = mistake["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if message.startswith("input should be"):
        message = "must be" + message.removeprefix("input should be")
    for theirs, word in WORDS.items():
        message = message.replace(theirs, word)
    if "but got" in message:  # told by the value's own parser
        return f"{source}: {key}: {message}" if names else f"{source}: {message}"
    return f"{source}: {key} {message}, but got {mistake['input']!r}"
