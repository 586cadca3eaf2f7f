"""The sizes of the house: a module holds one idea, and a function one step of it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import dsaccel

ROOT = Path(dsaccel.__file__).parent
FILES = {path.relative_to(ROOT).as_posix(): path.read_text() for path in ROOT.rglob("*.py")}
FREE = {
    "training/parts.py SplitCohort.__init__": "it takes what a cohort takes, and how that is split",
    "cli/replay.py replay": "the parameters of a command are its options",
}
"""Functions that may have more arguments, each for a reason."""


def functions() -> Iterator[tuple[str, ast.FunctionDef]]:
    """Every function of the package, by its file and its name in it."""
    for file, source in FILES.items():
        found = [(file, "", node) for node in ast.parse(source).body]
        while found:
            file, within, node = found.pop()
            name = f"{within}{getattr(node, 'name', '')}"
            if isinstance(node, ast.FunctionDef):
                yield f"{file} {name}", node
            inside = f"{name}." if isinstance(node, ast.FunctionDef | ast.ClassDef) else within
            found += [(file, inside, child) for child in ast.iter_child_nodes(node)]


def test_no_module_is_longer_than_300_lines():
    assert {file: n for file, text in FILES.items() if (n := text.count("\n")) > 300} == {}


def test_no_function_is_longer_than_60_lines_and_few_than_40():
    lengths = {name: (node.end_lineno or 0) - node.lineno + 1 for name, node in functions()}
    assert {name: length for name, length in lengths.items() if length > 60} == {}
    assert len(long := [name for name, length in lengths.items() if length > 40]) <= 5, long


def test_no_function_has_more_than_8_arguments_beside_self():
    many = {}
    for name, node in functions():
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        named = [each.arg for each in arguments if each.arg not in ("self", "cls")]
        if len(named) > 8 and name not in FREE:
            many[name] = named
    assert many == {}


def test_nothing_is_left_to_be_implemented():
    """A protocol that is wider than its callers need is split instead."""
    raising = [file for file, text in FILES.items() if "raise NotImplementedError" in text]
    assert raising == ["nn/hollow.py"]  # a tensor without values cannot be computed with
