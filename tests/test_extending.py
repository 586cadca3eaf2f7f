"""Each example of docs/extending.md is complete, and keeps the contract."""

import re
from pathlib import Path

import pytest

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
