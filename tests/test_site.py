"""The site of the documentation, the notebook, and the picture in README."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from dsaccel.cli.app import COMMANDS
from dsaccel.config.study import StudyConfig

ROOT = Path(__file__).parents[1]


def module(name: str) -> ModuleType:
    """A script of docs/."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def test_the_picture_is_what_its_script_draws():
    assert module("picture").picture() == (ROOT / "docs/idea.svg").read_text(encoding="utf-8")


@pytest.mark.long
def test_the_site_is_built_without_a_warning_and_refers_to_all_there_is(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}  # of mkdocs-material's own plans
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=quiet)
    assert built.returncode == 0, built.stderr
    assert "WARNING" not in built.stderr
    commands = (tmp_path / "cli/index.html").read_text()
    assert {c.__name__ for c in COMMANDS} == set(re.findall(r'<h2 id="dsaccel-(\w+)"', commands))
    settings = (tmp_path / "settings/index.html").read_text()
    assert all(
        f"<code>{name}</code>" in settings or f"[{name}]" in settings
        for name in StudyConfig.model_fields
    )
    python = (tmp_path / "api/index.html").read_text()
    names = ("Study.search", "Study.figure", "ArraySource", "Network.features", "ConfigError")
    assert all(re.search(rf'id="dsaccel\.[\w.]*{re.escape(name)}"', python) for name in names)


@pytest.mark.long
def test_the_notebook_runs(tmp_path):
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(ROOT / "docs/tour.ipynb", as_version=4)
    done = NotebookClient(notebook, timeout=200, resources={"metadata": {"path": str(tmp_path)}})
    done.execute()
    printed = json.dumps([cell.get("outputs") for cell in notebook.cells])
    assert "blocks trained in place of" in printed
    assert (tmp_path / "page.html").is_file()
