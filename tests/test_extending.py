"""Each example of docs/extending.md is complete, and keeps the contract."""

import re
from pathlib import Path
from typing import Any

import pytest
from commands import run
from tiny_study import searched

import dsaccel
from dsaccel import imports
from dsaccel.testing import check_part

DOCUMENT = Path(__file__).parent.parent / "docs" / "extending.md"
EXAMPLES = dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", DOCUMENT.read_text(), flags=re.S))
PARTS = {
    "contrast.py": ("loss", "Contrast", {"temperature": 0.2}),
    "maximum.py": ("head", "Maximum", {}),
    "preact.py": ("family", "PreAct", {}),
    "rms.py": ("optimizer", "RMS", {"alpha": 0.9}),
    "halving.py": ("lr_schedule", "Halving", {"every": 1}),
    "climb.py": ("strategy", "Climb", {"most": 6}),
    "margin.py": ("pruner", "Margin", {"points": 0.05}),
    "stripes.py": ("data", "Stripes", {}),
    "seconds.py": ("figure", "Seconds", {"log": True}),
}


def test_every_example_is_tested():
    assert EXAMPLES.keys() == PARTS.keys()


@pytest.mark.parametrize("file", PARTS)
def test_an_example_is_complete_and_keeps_the_contract(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(imports, "_trusted", {})
    Path(file).write_text(EXAMPLES[file])
    kind, name, options = PARTS[file]
    check_part(kind, f"./{file}:{name}", options)


@pytest.mark.long
def test_a_search_by_a_strategy_and_a_pruner_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(imports, "_trusted", {})
    for file in ("climb.py", "margin.py"):
        Path(file).write_text(EXAMPLES[file])
    imports.trust(["./climb.py:Climb", "./margin.py:Margin"], tmp_path)
    budget = {"n_trials": 8, "cohort_size": 2, "baseline": False, "strategy": "./climb.py:Climb"}
    pruning = {"kind": "./margin.py:Margin", "options": {"points": 1e-9}, "grace_epochs": 1}
    found = searched("own", budget=budget, pruning=pruning)
    assert {t.state.name for t in found.ledger.record().trained} == {"COMPLETE", "PRUNED"}
    parts = found.study.user_attrs["parts"]
    assert [(p["kind"], p["name"]) for p in parts] == [
        ("strategy", "./climb.py:Climb"),
        ("pruner", "./margin.py:Margin"),
    ]
    assert all(len(p["sha256"]) == 64 for p in parts)


def test_a_figure_of_ones_own_is_drawn_by_python_and_on_the_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(imports, "_trusted", {})
    Path("seconds.py").write_text(EXAMPLES["seconds.py"])
    searched("own", budget={"n_trials": 2, "baseline": False})
    study = dsaccel.Study.load("own")
    figure: Any = study.figure("./seconds.py:Seconds", log=True)
    assert len(figure.data[0].y) == 2
    result = run("report", "own", "--figure", "./seconds.py:Seconds")
    assert result.exit_code == 0, result.output
    page = Path("studies/own/report.html").read_text()
    assert "<h2>What a hierarchy takes</h2>" in page
    assert "Training time against accuracy" in page
