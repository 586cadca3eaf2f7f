"""A table as data: rich shows it on a terminal, the base template on a page."""

import csv
import io
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from dsaccel.statistics import Interval, Paired

RowStyle = Literal["", "best", "unfinished"]
LATEX = {character: "\\" + character for character in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
}
FOLDED = 12
"""The least width of a column of names, which a terminal may break anywhere."""
TERMINAL_STYLES: dict[RowStyle, str] = {"": "", "best": "bold green", "unfinished": "dim"}


@dataclass(frozen=True)
class Table:
    """Cells of text; every row has as many as there are headings."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    styles: Sequence[RowStyle] = ()
    """One a row; none: all rows are plain."""
    title: str = ""
    caption: str = ""
    words: Collection[int] = (0,)
    """The columns that hold words and are flush left; the others hold figures."""
    wide: Collection[int] = ()
    """The columns whose cells a page breaks into lines."""
    plain: bool = False
    """Whether a terminal draws a line under the headings alone."""
    breaks: Collection[int] = ()
    """The rows that a line is drawn above."""

    def column_class(self, index: int) -> str:
        """The CSS classes of a column."""
        words, wide = "words" if index in self.words else "", "wide" if index in self.wide else ""
        return f"{words} {wide}".strip()

    @property
    def styled_rows(self) -> list[tuple[RowStyle, Sequence[str]]]:
        plain: list[RowStyle] = ["" for _ in self.rows]
        return list(zip(self.styles or plain, self.rows, strict=True))

    def without_column(self, index: int) -> "Table":
        rows = [_without(row, index) for row in self.rows]
        return replace(self, headings=_without(self.headings, index), rows=rows)

    def csv(self) -> str:
        """Headings and rows."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows((self.headings, *self.rows))
        return text.getvalue()

    def latex(self) -> str:
        """A LaTeX `tabular` in the manner of booktabs."""
        columns = "".join("l" if i in self.words else "r" for i in range(len(self.headings)))
        lines = [" & ".join(map(_latex, row)) + r" \\" for row in (self.headings, *self.rows)]
        return "\n".join(
            [
                rf"\begin{{tabular}}{{{columns}}}",
                r"\toprule",
                lines[0],
                r"\midrule",
                *lines[1:],
                r"\bottomrule",
                r"\end{tabular}",
                "",
            ]
        )

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        """What rich prints: rows below one another where a terminal is too narrow for a table."""
        table = self._in_columns()
        names = (word for row in (self.headings, *self.rows) for word in row[0].split())
        folded = max(0, max(map(len, names), default=0) - FOLDED)
        if table.__rich_measure__(console, options).minimum - folded <= options.max_width:
            yield table
            return
        if self.title:
            yield Text(self.title)
        for style, row in self.styled_rows:
            lines = RichTable.grid(padding=(0, 2))
            for heading, cell in zip(self.headings, row, strict=True):
                if cell not in ("", "-"):
                    lines.add_row(heading, Text(cell, style=TERMINAL_STYLES[style]))
            yield lines
            yield ""
        if self.caption:
            yield Text(self.caption)

    def _in_columns(self) -> RichTable:
        table = RichTable(
            title=self.title or None,
            caption=self.caption or None,
            title_justify="left",
            caption_justify="left",
            **{"box": box.SIMPLE_HEAD, "padding": (0, 1, 0, 0)} if self.plain else {},
        )
        for i, heading in enumerate(self.headings):
            # no name may be cut; figures are short
            justify = "left" if i in self.words else "right"
            table.add_column(heading, justify=justify, overflow="fold" if i == 0 else "ellipsis")
        for i, (style, row) in enumerate(self.styled_rows):
            if i in self.breaks:
                table.add_section()
            # Text, not str: names come from a storage, and rich would read str as markup
            table.add_row(*map(Text, row), style=TERMINAL_STYLES[style])
        return table


def _latex(text: str) -> str:
    return "".join(LATEX.get(character, character) for character in text)


def _without(cells: Sequence[str], index: int) -> list[str]:
    return [cell for i, cell in enumerate(cells) if i != index]


def interval_text(interval: Interval, factor: float = 1, digits: int = 2) -> str:
    """`0.41 [0.30, 0.52]`."""
    mean, low, high = (
        f"{factor * value:.{digits}f}" for value in (interval.mean, interval.low, interval.high)
    )
    return f"{mean} [{low}, {high}]"


def ends_text(difference: Paired | None) -> str:
    """The ends of its interval in points: `-0.20 to +1.10`; `-` without one."""
    if difference is None or difference.low is None or difference.high is None:
        return "-"
    return f"{100 * difference.low:+.2f} to {100 * difference.high:+.2f}"
