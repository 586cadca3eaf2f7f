"""Each example of docs/extending.md is complete, and keeps the contract."""

import re
from pathlib import Path

import pytest
from tiny_study import searched

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
