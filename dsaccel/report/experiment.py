"""An experiment of the paper: what a terminal, a page and files show of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dsaccel.files import make_folder, write_csv, write_json, write_text
from dsaccel.paper.train import Reproduction
from dsaccel.report.page import Section, write_page
from dsaccel.report.table import Table


@dataclass(frozen=True)
class Report:
    """What an experiment came to."""

    experiment: str
    """The name of the experiment and of its files."""
    title: str
    about: str
    """What was trained and measured, and on which images."""
    reproduction: Reproduction
    table: Table
    sentences: Sequence[str]
    found: Mapping[str, Any]
    """The outcome as JSON."""
    sections: Sequence[Section]
    """The sections of the page."""
    lines: Sequence[Mapping[str, Any]]
    """The lines of the CSV file."""
    lines_are: str
    has_latex: bool = False

    def summary(self) -> dict[str, Any]:
        """What `--json` prints."""
        made = self.reproduction
        return {
            "experiment": self.experiment,
            "title": self.title,
            "protocol": made.protocol,
            "data": made.data_names,
            "seeds": list(made.seeds),
            **self.found,
        }

    def write(self) -> dict[str, str]:
        """Write the page and the files beside it; their paths."""
        folder = self.reproduction.directory.path
        make_folder(folder)
        ends = {"page": "html", "json": "json", self.lines_are: "csv", "latex": "tex"}
        paths = {what: folder / f"{self.experiment}.{end}" for what, end in ends.items()}
        write_page(paths["page"], self.title, self.sections, about=self.about)
        write_json(paths["json"], self.summary())
        write_csv(paths[self.lines_are], self.lines)
        if self.has_latex:
            write_text(paths["latex"], self.table.latex())
        return {k: path.as_posix() for k, path in paths.items() if k != "latex" or self.has_latex}
