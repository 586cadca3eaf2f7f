"""What README and docs show is what there is: each command line in them is one that is taken."""

import re
import shlex
from pathlib import Path

import pytest

from dsaccel.cli.app import COMMANDS, in_full
from dsaccel.report.settings import settings_page

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "studies" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NAMES = {command.__name__ for command in COMMANDS}


def command_lines(page: Path) -> list[str]:
    """Lines of code that begin with `dsaccel`, without their comments; long ones put together."""
    text = re.sub(r"\\\n\s*", " ", page.read_text(encoding="utf-8"))
    lines = (re.sub(r"\s+#.*", "", line).strip() for line in text.splitlines())
    shown = [line for line in lines if re.match(r"(\$ )?dsaccel [a-z]", line)]
    return [line.removeprefix("$ ") for line in shown if line.split()[1] in NAMES]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_line_of_a_page_is_one_that_the_command_takes(page):
    for line in command_lines(page):
        line = re.sub(r"(IMAGE|STUDY)\.\.\.", r"\1", line)
        _, name, *args = shlex.split(line)
        with in_full(name).make_context(name, args) as context:
            assert context.params, line


def test_the_readme_shows_the_commands_of_every_day():
    shown = {line.split()[1] for line in command_lines(ROOT / "README.md")}
    assert shown >= {"fit", "new", "search", "confirm", "train", "evaluate", "export", "report"}


def test_each_promise_names_a_test_that_there_is():
    tests = "".join(path.read_text("utf-8") for path in (ROOT / "tests").glob("test_*.py"))
    page = (ROOT / "docs" / "reliability.md").read_text("utf-8")
    names = re.findall(r"`(test_\w+)`", page)
    assert len(names) > 40
    assert [name for name in names if f"def {name}(" not in tests] == []


def test_the_page_of_settings_has_every_setting():
    """To write it anew: open("docs/settings.md", "w").write(settings_page())."""
    text = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    names = re.findall(r"^\| `(\w+)` \|", settings_page(), re.MULTILINE)
    assert [name for name in names if f"| `{name}` |" not in text] == []
