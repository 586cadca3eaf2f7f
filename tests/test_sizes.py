"""Modules and functions stay short: a reader keeps each in mind."""

import ast
from pathlib import Path

import dsaccel

PACKAGE = Path(dsaccel.__file__).parent
MODULES = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*.py")}
LONGEST_MODULE = 300
LONGEST_FUNCTION = 60
LONG_FUNCTION, NUM_LONG = 40, 5
MOST_ARGUMENTS = 8
LEFT = {"confirm/run.py", "training/parts.py"}
"""Modules that are still to be cut."""
GENERATED = "given"
"""The argument that holds a command's generated options."""


def functions() -> dict[str, ast.FunctionDef]:
    return {
        f"{name}:{node.lineno} {node.name}": node
        for name, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
    }


def num_lines(function: ast.FunctionDef) -> int:
    return (function.end_lineno or 0) - function.lineno + 1


def num_arguments(function: ast.FunctionDef) -> int:
    arguments = function.args
    named = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
    return sum(each.arg not in ("self", "cls", GENERATED) for each in named)


def test_no_module_is_longer_than_a_few_screens():
    lengths = {name: len(path.read_text().splitlines()) for name, path in MODULES.items()}
    assert {name for name, num in lengths.items() if num > LONGEST_MODULE} <= LEFT


def test_few_functions_are_longer_than_a_screen():
    lengths = {name: num_lines(function) for name, function in functions().items()}
    long = {name: num for name, num in lengths.items() if num > LONG_FUNCTION}
    assert max(lengths.values()) <= LONGEST_FUNCTION, long
    assert len(long) <= NUM_LONG, long


def test_no_function_has_many_arguments():
    arguments = {name: num_arguments(function) for name, function in functions().items()}
    many = {name for name, num in arguments.items() if num > MOST_ARGUMENTS}
    assert {name for name in many if name.partition(":")[0] not in LEFT} == set()
