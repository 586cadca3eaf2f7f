"""The snippets of docs/python.md run, in order, as they stand."""

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

TEXT = (Path(__file__).parent.parent / "docs" / "python.md").read_text(encoding="utf-8")


def test_the_snippets_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for snippet in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL):
        exec(compile(snippet, "docs/python.md", "exec"), names)
    assert names["study"].best is not None
    assert (tmp_path / "page.html").is_file()
    assert capsys.readouterr().err == ""
