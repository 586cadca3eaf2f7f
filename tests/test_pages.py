"""Every command and snippet of README and docs is run, as it stands but small.

A page is run from top to bottom in a folder of its own. Words that stand for something are replaced
(`STANDS_FOR`), and options at the end of a command make it small (`SMALL`; the last one counts). A
block below `<!-- not run: WHY -->` is not run, and the text beside it says so. Of `make`, `pip` and
the benchmarks it is checked that there is such a target, extra or script.
"""

import argparse
import re
import runpy
import shlex
import shutil
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import write_images
from tiny_study import write_study
from typer.testing import CliRunner

from dsaccel.cli.app import COMMANDS, app, in_full
from dsaccel.cli.examples import EXAMPLES
from dsaccel.paper.scale import SCALES, Scale

ROOT = Path(__file__).parents[1]
PAGES = (
    *("README.md", "studies/README.md", "search_spaces/README.md", "studies/landscapes/README.md"),
    *sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs").glob("*.md")),
)
NAMES = {command.__name__ for command in COMMANDS}
STANDS_FOR = {
    "FOLDER": "photos",
    "IMAGE...": "photos/test/a/0.png photos/test/b/1.png",
    "STUDY": "mine",
    "NAME": "mine",
    "NAME.csv.gz": "mine.csv.gz",
    "LANDSCAPE": "landscape.csv.gz",
    "CONFIG": "best.toml",
}
TINIER = Scale(width=1 / 64, image_size=8, train_images=40, epochs=2, batch_size=20)
"""In place of the scale `tiny`, which is for 500 images."""
ONE_CPU = ("--device", "cpu", "--threads", "1")
TINY = ("--epochs", "1", "--width", "0.0625", *ONE_CPU)
SMALL = {
    "fit": (*TINY, "--n-trials", "2", "-q"),
    "search": (*TINY, "--n-trials", "8", "-q"),
    "confirm": ("--seeds", "2", "--top", "1", "--no-controls", "-q"),
    "calibrate": (*TINY, "--n-trials", "3", "-q"),
    "train": ("--epochs", "1", *ONE_CPU, "-q"),
    "reproduce": ("--scale", "tiny", "--seeds", "1", "--data", "photos", *ONE_CPU, "-q"),
    "replay": ("--seeds", "2", "--n-trials", "4", "--jobs", "1", "-q"),
    "dashboard": ("--port", "0"),
}
BEGINS_WITH = {"README.md": "photos", "docs/python.md": "landscape.csv.gz"}
"""Pages that make the rest themselves."""
SLOW = {"docs/reproduction.md"}
PYTHON_ELSEWHERE = {"docs/extending.md", "docs/weights.md"}
"""Whose snippets have tests of their own, which look at what comes out of them."""


@dataclass(frozen=True)
class Block:
    language: str
    text: str
    why_not: str | None
    """Why it is not run."""

    @property
    def commands(self) -> list[list[str]]:
        """The words of each command line; empty: it is none."""
        joined = re.sub(r"\\\n\s*", " ", self.text)
        lines = (re.sub(r"(^|\s+)#.*", "", line).strip() for line in joined.splitlines())
        found = [shlex.split(line.removeprefix("$ ")) for line in lines if _is_command(line)]
        return [[word for each in words for word in _meant(each)] for words in found]


def _is_command(line: str) -> bool:
    first, _, rest = line.removeprefix("$ ").partition(" ")
    is_ours = first == "dsaccel" and rest.partition(" ")[0] in NAMES
    return is_ours or first in ("make", "pip", "python") or first == ".ci/run"


def _meant(word: str) -> list[str]:
    return STANDS_FOR.get(word, word).split() if word in STANDS_FOR else [word]


BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<why>[^>]+) -->\n+)?"
    r"(?:^```(?P<language>\w*)\n(?P<fenced>.*?)^```$|(?P<indented>(?:^ {4}[^\n]*\n|^\n(?= {4}))+))",
    re.MULTILINE | re.DOTALL,
)


def blocks(page: str) -> list[Block]:
    found = BLOCK.finditer((ROOT / page).read_text(encoding="utf-8"))
    return [_block(match.group("why", "language", "fenced", "indented")) for match in found]


def _block(parts: tuple[str | None, ...]) -> Block:
    why, language, fenced, indented = parts
    text = re.sub(r"^ {4}", "", indented or "", flags=re.MULTILINE) if fenced is None else fenced
    is_python = fenced is None and re.match(r"(import|from) ", text.strip())
    return Block("python" if is_python else language or "", text, why)


# --------------------------------------------------------------------- where


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """Two searched studies, a config, weights, a landscape, and a folder of images."""
    folder = tmp_path_factory.mktemp("pages")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_images(Path("photos"), classes="abcdefghij", num=6)
        shutil.copy(ROOT / "studies/landscapes/cifar10-resnet18.csv.gz", "landscape.csv.gz")
        budget = {"n_trials": 8, "cohort_size": 8, "baseline": False}
        for seed, name in enumerate(("mine", "other"), 1):
            training, pruning = {"epochs": 1}, {"kind": "none"}
            tables = {"seed": seed, "budget": budget, "pruning": pruning, "training": training}
            write_study(Path(f"studies/{name}.toml"), **tables)
            run("search", name, "-q")
        run("export", "mine", "-o", "best.toml")
        run("train", "best.toml", "-o", "model.safetensors", "-q")
    return folder


@pytest.fixture
def folder(request, prepared, tmp_path, monkeypatch) -> Path:
    """Of one page."""
    monkeypatch.chdir(tmp_path)
    wanted = BEGINS_WITH.get(request.node.callspec.params["page"])
    for path in prepared.iterdir():
        if wanted in (None, path.name):
            copy = shutil.copytree if path.is_dir() else shutil.copy2
            copy(path, tmp_path / path.name)
    shutil.copytree(ROOT / "studies/landscapes", "studies/landscapes")
    monkeypatch.setitem(SCALES, "tiny", TINIER)
    # a server that has told its address ends at once
    monkeypatch.setattr("socketserver.BaseServer.serve_forever", lambda self: None)
    return tmp_path


def run(*words: str) -> None:
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == 0, f"dsaccel {shlex.join(words)}\n{result.output}"


# ----------------------------------------------------------------------- run


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "page",
    # the paper's tables take minutes, as small as they are
    [pytest.param(p, marks=[pytest.mark.slow] * (p in SLOW)) for p in PAGES if blocks(p)],
)
def test_the_commands_and_snippets_of_a_page_run(page, folder):
    names: dict[str, Any] = given(page)
    for block in blocks(page):
        if block.why_not is not None:
            continue
        if block.language == "python" and page not in PYTHON_ELSEWHERE:
            exec(compile(block.text, page, "exec"), names)
        elif block.language == "toml":
            tomllib.loads(block.text)
        for words in block.commands if block.language in ("", "sh", "bash", "console") else ():
            start(words, folder)


def given(page: str) -> dict[str, Any]:
    """What the snippets of a page speak of."""
    if page != "docs/data.md":
        return {"__name__": "__main__"}
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (20, 8, 8), dtype=np.uint8), np.arange(20) % 2
    pairs = [(image[None] / np.float32(255), int(label)) for image, label in zip(x, y, strict=True)]
    return {"x": x, "y": y, "x_test": x, "y_test": y, "train_dataset": pairs, "test_dataset": pairs}


def start(words: list[str], folder: Path) -> None:
    first, *rest = words
    if first == "dsaccel":
        name, *options = rest
        if name == "search" and Path(f"studies/{options[0]}").is_dir():  # another study of the file
            options += ["--study-name", f"again{len(list(Path('studies').iterdir()))}"]
        run(name, *options, *SMALL.get(name, ()))
    elif first == "make":
        assert f"\n{rest[0]}:" in (ROOT / "Makefile").read_text()
    elif first == "python":
        assert (ROOT / rest[0]).is_file()
    elif first == "pip":
        extra = re.fullmatch(r"dsaccel\[(\w+)\]", rest[1])
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        assert extra is None or extra[1] in project["optional-dependencies"]
    else:
        assert (ROOT / first).is_file()


# --------------------------------------------------------------------- words


def test_the_readme_shows_the_commands_of_every_day():
    commands = [words for block in blocks("README.md") for words in block.commands]
    shown = {words[1] for words in commands if words[0] == "dsaccel"}
    assert shown >= {"fit", "new", "search", "confirm", "train", "evaluate", "export"}


def test_each_promise_names_a_test_that_there_is():
    tests = "".join(path.read_text("utf-8") for path in (ROOT / "tests").glob("test_*.py"))
    page = (ROOT / "docs" / "reliability.md").read_text("utf-8")
    names = re.findall(r"`(test_\w+)`", page)
    assert len(names) > 40
    assert [name for name in names if f"def {name}(" not in tests] == []


@pytest.mark.parametrize("page", PAGES)
def test_what_is_not_run_is_said_to_the_reader(page):
    if any(block.why_not for block in blocks(page)):
        assert re.search(
            r"[Nn]ot (run|tried)", (ROOT / page).read_text().replace("<!-- not run", "")
        )


@pytest.mark.parametrize("page", PAGES)
def test_commands_within_a_sentence_are_taken(page):
    text = re.sub(r"^```.*?^```$", "", (ROOT / page).read_text(), flags=re.MULTILINE | re.DOTALL)
    for line in re.findall(r"`dsaccel ([a-z][^`]*)`", text):
        name, *args = shlex.split(line.replace("...", ""))
        if args:
            with in_full(name).make_context(name, args) as context:
                assert context.params, line


def of_benchmarks() -> list[str]:
    """What benchmarks/README.md tells to run: a script of that folder with its arguments."""
    text = (ROOT / "benchmarks" / "README.md").read_text("utf-8")
    lines = re.findall(r"(?:^ {4}|`)(?:python benchmarks/)?(\w+\.py[^`\n#]*)", text, re.MULTILINE)
    return sorted({line.strip() for line in lines})


@pytest.mark.long
@pytest.mark.parametrize("line", of_benchmarks())
def test_what_the_benchmarks_page_tells_to_run_is_taken_by_its_script(line, monkeypatch):
    script, *words = line.replace("WHAT", "model").split()
    path = ROOT / "benchmarks" / script
    assert path.is_file()
    if "ArgumentParser(" not in path.read_text("utf-8"):
        assert not words
        return
    taken: list[argparse.Namespace] = []

    def parse(parser: argparse.ArgumentParser, *_: object) -> None:
        taken.append(parser.parse_known_args(words)[0])
        assert parser.parse_known_args(words)[1] == []
        sys.exit()

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse)
    monkeypatch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])
    monkeypatch.setattr(sys, "argv", [script])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(path), run_name="__main__")
    assert len(taken) == 1, f"{line}: {ended.value}"


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_of_a_commands_help_are_taken_by_it(name):
    for line in EXAMPLES[name]:
        _, called, *args = shlex.split(line)
        assert called == name
        with in_full(name).make_context(name, args) as context:
            assert context.params
