"""What mkdocs shows beside the pages of this folder: READMEs, and references from the code."""

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from typer.cli import get_docs_for_click

from dsaccel.cli.app import COMMANDS, in_full
from dsaccel.config.study import StudyConfig

ROOT = Path(__file__).parents[1]
ELSEWHERE = {
    "README.md": "index.md",
    "studies/README.md": "studies.md",
    "studies/LOG.md": "log.md",
    "studies/landscapes/README.md": "landscapes.md",
    "search_spaces/README.md": "search-spaces.md",
    "benchmarks/README.md": "benchmarks.md",
    "CHANGELOG.md": "changelog.md",
}
"""Pages of the site that lie outside this folder -> their names on the site."""
LINK = re.compile(r"\[([^\[\]]*)\]\((?!\w+:)([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: Any, **_: Any) -> Files:
    """Called by mkdocs: add the pages that are not in this folder."""
    texts = {page: (ROOT / path).read_text("utf-8") for path, page in ELSEWHERE.items()}
    for page, text in (texts | {"settings.md": settings(), "cli.md": commands()}).items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Called by mkdocs: links as the repository has them become links of the site."""
    name = page.file.src_uri
    path = next((path for path, other in ELSEWHERE.items() if other == name), f"docs/{name}")
    return LINK.sub(lambda link: _on_site(link, posixpath.dirname(path)), markdown)


def _on_site(link: re.Match[str], folder: str) -> str:
    """A link to a page; of a file of code the words alone. mkdocs refuses what is neither."""
    words, target, anchor = link.groups()
    path = posixpath.normpath(posixpath.join(folder, target))
    if path.startswith("docs/") or path in ELSEWHERE:
        return f"[{words}]({ELSEWHERE.get(path, path.removeprefix('docs/'))}{anchor or ''})"
    return words if (ROOT / path).exists() else link[0]


def commands() -> str:
    """Every command with its options and examples."""
    pages = ["# Commands\n\nWritten from the commands themselves, as `dsaccel COMMAND --help`.\n"]
    for name in (command.__name__ for command in COMMANDS):
        command = in_full(name)
        with command.make_context(name, [], resilient_parsing=True) as context:
            page = get_docs_for_click(obj=command, ctx=context, indent=1, name=f"dsaccel {name}")
        before, _, examples = page.partition("\b\nExamples:\n")
        pages.append(f"{before}**Examples**:\n\n```console\n{examples.strip()}\n```\n")
    return re.sub(r"^ {2}(?=dsaccel )", "", "\n".join(pages), flags=re.MULTILINE)


def settings() -> str:
    """Every setting of a study file, from the models that check them."""
    lines = [
        "# Settings\n",
        "Every setting of a study file, with its default. Those of a section stand under its name",
        "(`[training]`), those at the top before the first section; `dsaccel search STUDY --set",
        "training.epochs=10` sets any of them.\n\n## At the top\n",
        *_table(StudyConfig, is_top=True),
    ]
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
    if value is None or isinstance(value, BaseModel):
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{list(value) if isinstance(value, tuple) else value}`" if value != "" else "empty"


def _model(field: FieldInfo) -> type[BaseModel] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None
