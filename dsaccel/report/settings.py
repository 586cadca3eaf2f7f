"""Every setting of a study in words, from the models that check them: `docs/settings.md`."""

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from dsaccel.config.study import StudyConfig

HEAD = """# Settings

Every setting of a study file, with its default. Those of a section stand under its name
(`[training]`), those at the top before the first section; `dsaccel search STUDY --set
training.epochs=10` sets any of them. This page is written from the models that check the settings.
"""


def settings_page() -> str:
    """The page, in markdown."""
    lines = [HEAD, "## At the top\n", *_table(StudyConfig, is_top=True)]
    for name, field in StudyConfig.model_fields.items():
        if (model := _model(field)) is not None:
            lines += [f"\n## [{name}]\n", *_table(model)]
    return "\n".join(lines) + "\n"


def _table(model: type[BaseModel], *, is_top: bool = False) -> Iterator[str]:
    yield "| setting | default | what it is |"
    yield "|---|---|---|"
    for name, field in model.model_fields.items():
        if is_top and _model(field) is not None:
            continue
        words = " ".join((field.description or "").split()).replace("|", "\\|")
        yield f"| `{name}` | {_default(field)} | {words} |"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "must be given"
    value: Any = field.get_default(call_default_factory=True)
    if value is None:
        return "chosen, or none"
    if isinstance(value, BaseModel):
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{list(value) if isinstance(value, tuple) else value}`" if value != "" else "empty"


def _model(field: FieldInfo) -> type[BaseModel] | None:
    kind = field.annotation
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return kind
    return None
