"""Parts by name and by import path: what is imported, what is refused, and what is recorded."""

import sys
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Annotated

import pytest

from dsaccel import imports, parts
from dsaccel.config.section import Section
from dsaccel.config.toml import parse_config
from dsaccel.errors import ConfigError, MismatchError
from dsaccel.parts import NamesPart, load_class, load_part, named_parts, part_ref, refuse_changed


class Shape(Section, ABC):
    @abstractmethod
    def area(self) -> float: ...


class Square(Shape):
    side: float = 2.0

    def area(self) -> float:
        return self.side**2


class Drawing(Section):
    shape: Annotated[str, NamesPart("head")] = "square"
    title: str = ""


class Page(Section):
    drawing: Drawing = Drawing()


MINE = """
from test_added_parts import Shape

class Disc(Shape):
    radius: float = 1.0

    def area(self):
        return 3 * self.radius**2

class Unfinished(Shape):
    pass

class Other:
    pass

imported.append(__name__)
"""


@pytest.fixture(autouse=True)
def _only_shapes(monkeypatch):
    monkeypatch.setitem(parts.KINDS, "head", f"{__name__}:Shape")
    monkeypatch.setitem(parts.BUILTIN, "head", {"square": f"{__name__}:Square"})
    monkeypatch.setattr(imports, "_trusted", {})
    monkeypatch.setattr(imports, "_files", {})


@pytest.fixture
def mine(tmp_path, monkeypatch) -> Path:
    """A file of parts that tells when it is imported."""
    monkeypatch.setattr("builtins.imported", [], raising=False)
    file = tmp_path / "mine.py"
    file.write_text(MINE)
    return file


def imported_modules() -> list[str]:
    import builtins

    return builtins.imported  # type: ignore


def test_a_shipped_part_is_found_by_its_name_with_its_options():
    assert load_part("head", "square").area() == 4
    assert load_part("head", "square", {"side": 3.0}).area() == 9
    with pytest.raises(ConfigError, match="head square: side must be a number, but got"):
        load_part("head", "square", {"side": "wide"})
    with pytest.raises(ConfigError, match="unknown key sides; expected one of: side"):
        load_part("head", "square", {"sides": 3.0})


def test_a_part_of_a_file_is_imported_relative_to_the_study_and_once(mine):
    imports.trust(["./mine.py:Disc"], mine.parent)
    assert not imported_modules()
    assert load_part("head", "./mine.py:Disc", {"radius": 2.0}).area() == 12
    assert load_class("head", "./mine.py:Disc") is load_class("head", "./mine.py:Disc")
    assert len(imported_modules()) == 1


def test_a_part_of_a_module_is_imported_by_its_dotted_name(mine, monkeypatch):
    monkeypatch.syspath_prepend(mine.parent)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    imports.trust(["mine:Disc"], Path.cwd())
    assert load_part("head", "mine:Disc").area() == 3


def test_nothing_is_imported_that_the_user_has_not_named(mine):
    for load in (load_part, load_class, part_ref):
        with pytest.raises(ConfigError, match=r"allow its import with --trust-part \./mine\.py"):
            load("head", "./mine.py:Disc")
    parse_config(Drawing, {"shape": "./mine.py:Disc"}, "drawing.toml")
    assert not imported_modules()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("circle", "head must be one of square, or an import path .*, but got 'circle'"),
        ("./gone.py:Disc", "./gone.py:Disc must be importable, but: FileNotFoundError"),
        ("./mine.py:Missing", "must be importable, but: AttributeError"),
        ("./broken.py:Disc", "must be importable, but: SyntaxError"),
        ("no_such_module:Disc", "must be importable, but: ModuleNotFoundError"),
        ("./mine.py:Other", "must be a class derived from test_added_parts.Shape, but is"),
        ("./mine.py:Unfinished", "./mine.py:Unfinished must define area, but does not"),
    ],
)
def test_a_bad_part_is_one_message(mine, name, message):
    (mine.parent / "broken.py").write_text("class")
    imports.trust([name], mine.parent)
    with pytest.raises(ConfigError, match=message) as error:
        load_part("head", name)
    assert error.value.exit_code == 2
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["circle", "a b:C", "./mine.py", ":Disc", "x=1:Disc", "mine:1"])
def test_a_config_names_parts_by_text_alone(name):
    with pytest.raises(ConfigError, match="shape must be one of square, or an import path"):
        parse_config(Page, {"drawing": {"shape": name}}, "page.toml")


def test_a_config_tells_which_parts_it_names():
    page = parse_config(Page, {"drawing": {"shape": "mine:Disc"}}, "page.toml")
    assert list(named_parts(page)) == [("head", "mine:Disc")]


def test_a_part_whose_file_has_changed_is_refused_on_continuing(mine):
    imports.trust(["./mine.py:Disc"], mine.parent)
    recorded = part_ref("head", "./mine.py:Disc")
    assert len(recorded.sha256 or "") == 64
    refuse_changed([recorded, part_ref("head", "square")], [part_ref("head", "./mine.py:Disc")])
    mine.write_text(MINE + "\n# changed\n")
    with pytest.raises(MismatchError, match=r"head ./mine.py:Disc has changed since the study"):
        refuse_changed([recorded], [part_ref("head", "./mine.py:Disc")])
    assert len(imported_modules()) == 2
    assert part_ref("head", "square").sha256 is None


def test_one_name_cannot_stand_for_two_files(mine, tmp_path):
    other = tmp_path / "elsewhere"
    other.mkdir()
    (other / "mine.py").write_text(MINE)
    imports.trust(["./mine.py:Disc", "square"], mine.parent)
    imports.trust(["./mine.py:Disc"], other)  # a copy is the same part
    assert set(imports.trusted()) == {"./mine.py:Disc"}
    (other / "mine.py").write_text(MINE + "\n# other\n")
    with pytest.raises(ConfigError, match="must be one part, but it is another one in"):
        imports.trust(["./mine.py:Disc"], other)


def test_every_shipped_name_leads_to_a_part_of_its_kind(monkeypatch):
    monkeypatch.undo()
    for kind, names in parts.BUILTIN.items():
        for name in names:
            assert load_class(kind, name), (kind, name)
