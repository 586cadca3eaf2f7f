"""HTML pages, made by jinja2 from one base template.

A page holds all that it needs (plotly.js once) and fetches nothing. Jinja escapes every text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import plotly.graph_objects as go
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.io import to_html
from plotly.offline import get_plotlyjs

from dsaccel.files import write_text
from dsaccel.report.table import Table


class Tile(NamedTuple):
    """One headline figure."""

    name: str
    value: str
    note: str


@dataclass(frozen=True)
class Section:
    """A piece of a page, all of it text but the figure; what is empty is left out."""

    title: str = ""
    caption: str = ""
    lines: Sequence[str] = ()
    code: str = ""
    table: Table | None = None
    figure: go.Figure | None = None
    name: str = ""
    """The figure's place on the page, and the file that it is saved to."""
    choices: Sequence[tuple[int, str]] = ()
    """Values of the traces' `meta` and their labels, of which the reader can choose one."""


def write_page(
    path: Path,
    title: str,
    sections: Sequence[Section],
    *,
    about: str = "",
    template: str = "base.html",
    **content: Any,
) -> None:
    """Write a page, whole or not at all.

    Args:
        path: the file.
        title: the heading of the page.
        sections: what is below it, in order.
        about: what is shown, and of what.
        template: of the folder `templates`.
        content: what the template shows beside the sections.
    """
    environment = Environment(
        loader=PackageLoader("dsaccel.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["html"] = _figure_html
    page = environment.get_template(template).render(
        title=title, about=about, sections=sections, plotly_js=Markup(get_plotlyjs()), **content
    )
    write_text(path, page)


def _figure_html(figure: go.Figure, name: str) -> Markup:
    """A figure that fits the page's width and can be saved as SVG."""
    return Markup(
        to_html(
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
    )
