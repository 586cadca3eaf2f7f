"""An HTML page of figures and tables that holds all it needs: plotly.js once, no network."""

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from string import Template

import plotly.graph_objects as go
from plotly.io import to_html
from plotly.offline import get_plotlyjs

from dsaccel.files import write_text

TEMPLATE = Path(__file__).with_name("templates") / "page.html"


def write_page(path: Path, title: str, about: str, parts: Iterable[str]) -> None:
    """Write a page, whole or not at all.

    Args:
        path: the file.
        title: its heading; text.
        about: what is shown, and of what; text.
        parts: HTML, as `figure_html` and `table_html` make it.
    """
    page = Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        plotly_js=get_plotlyjs(),
        title=escape(title),
        about=escape(about),
        parts="\n".join(parts),
    )
    write_text(path, page)


def section_html(title: str, caption: str, body: str) -> str:
    """A part with a heading and a caption, both text."""
    return f"<section><h2>{escape(title)}</h2><p>{escape(caption)}</p>{body}</section>"


def figure_html(figure: go.Figure, name: str) -> str:
    """A figure that fits the page's width and can be saved as SVG."""
    return to_html(
        figure,
        full_html=False,
        include_plotlyjs=False,
        div_id=name,
        config={
            "responsive": True,
            "displaylogo": False,
            "modeBarButtons": [["toImage"]],
            "toImageButtonOptions": {"format": "svg", "filename": name},
        },
    )


def table_html(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of text: the first column to the left, figures to the right."""
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return (
        '<div class="scroll"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )
