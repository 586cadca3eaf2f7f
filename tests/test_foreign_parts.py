"""A user's own part on the command line: searched, refused until it is trusted, and recorded."""

import re
from pathlib import Path

import pytest
from tiny_study import write_study
from typer.testing import CliRunner

from dsaccel import imports
from dsaccel.cli.app import app

DOCUMENT = Path(__file__).parent.parent / "docs" / "extending.md"
NAME = "./maximum.py:Maximum"


@pytest.fixture(autouse=True)
def _own_head(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"# maximum\.py\n(.*?)```", DOCUMENT.read_text(), flags=re.S)
    Path("maximum.py").write_text(example)
    network = {"head": NAME, "granularity": "block"}
    write_study(Path("mine.toml"), network=network, training={"epochs": 1}, budget={"n_trials": 2})
    monkeypatch.setattr(imports, "_trusted", {})


def run(*args: str):
    """As in a process of its own, which trusts nothing yet."""
    imports._trusted.clear()
    return CliRunner().invoke(app, list(args))


def test_a_study_with_a_part_of_its_own_is_searched_and_its_network_trained():
    result = run("search", "mine.toml", "--json")
    assert result.exit_code == 0, result.output
    assert f'head = "{NAME}"' in Path("studies/mine/best.toml").read_text()
    commands = [
        ("train", "studies/mine/best.toml", "-o", "net.safetensors"),
        ("evaluate", "net.safetensors"),
        ("search", "mine", "--n-trials", "3"),
    ]
    for command in commands:
        refused = run(*command)
        assert refused.exit_code == 2, refused.output
        assert f"--trust-part {NAME}" in " ".join(refused.stderr.split())
        allowed = run(*command, "--trust-part", NAME)
        assert allowed.exit_code == 0, allowed.output


def test_a_part_on_the_command_line_is_trusted():
    write_study(Path("plain.toml"), training={"epochs": 1}, budget={"n_trials": 1})
    option = ("--set", f"network.head={NAME}")
    assert run("train", "1-1-1", "--study", "plain.toml", *option).exit_code == 0
    result = run("train", "1-1-1", "--study", "plain.toml", "--set", "network.head=./no.py:Part")
    assert result.exit_code == 2
    assert "./no.py:Part must be importable, but: FileNotFoundError" in result.stderr


def test_a_study_is_not_continued_with_a_part_that_has_changed():
    assert run("search", "mine.toml").exit_code == 0
    with Path("maximum.py").open("a") as file:
        file.write("\n# changed\n")
    result = run("search", "mine.toml", "--n-trials", "3")
    assert result.exit_code == 5, result.output
    assert f"head {NAME} has changed since the study began" in " ".join(result.stderr.split())
