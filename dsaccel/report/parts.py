"""Figures and tables of a study's page, each as a file of its own."""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import plotly.graph_objects as go

from dsaccel.errors import ConfigError
from dsaccel.files import atomic_write, make_folder
from dsaccel.report.figures import figure_sections
from dsaccel.report.study_page import trials_section
from dsaccel.study.record import StudyRecord

Format = Literal["png", "svg", "csv", "latex"]
FORMATS: tuple[Format, ...] = get_args(Format)
SUFFIXES: dict[Format, str] = {"png": ".png", "svg": ".svg", "csv": ".csv", "latex": ".tex"}


def write_parts(
    study: StudyRecord, folder: Path, format: str, figures: Sequence[str] = ()
) -> list[Path]:
    """Write them into a folder: pictures as `png` or `svg`, figures' data and tables as `csv`,
    tables as `latex`.

    Raises:
        ConfigError: an unknown format; one that needs a package or a browser that is not there.
        StorageError: if a file cannot be written.
    """
    if format not in FORMATS:
        raise ConfigError(f"--format must be one of {', '.join(FORMATS)}, but got {format!r}")
    sections = (*figure_sections(study, figures), trials_section(study))
    written: list[Path] = []
    for section in sections:
        path = folder / f"{section.name}{SUFFIXES[format]}"
        if section.figure is not None and format in ("png", "svg"):
            content = _drawn(section.figure, format)
        elif section.figure is not None and format == "csv":
            content = _csv(section.figure).encode()
        elif section.table is not None and format in ("csv", "latex"):
            table = section.table
            content = (table.csv() if format == "csv" else table.latex()).encode()
        else:
            continue
        make_folder(folder)
        with atomic_write(path) as temporary:
            temporary.write_bytes(content)
        written.append(path)
    return written


def _drawn(figure: go.Figure, format: str) -> bytes:
    try:
        return figure.to_image(format=format, width=900, scale=2)
    except (ValueError, RuntimeError, ImportError) as error:
        why = str(error).strip().partition("\n")[0].rstrip(",")
        raise ConfigError(
            f"--format {format} needs kaleido and a Chrome or Chromium: pip install "
            f"'dsaccel[images]' ({why})"
        ) from None


def _csv(figure: go.Figure) -> str:
    """The points of its traces, one a line."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("trace", "x", "y"))
    table.writerows(_points(figure))
    return text.getvalue()


def _points(figure: go.Figure) -> Iterator[tuple[object, ...]]:
    traces: Any = figure.data
    for trace in traces:
        x, y = (getattr(trace, axis, None) for axis in "xy")
        for point in zip(() if x is None else x, () if y is None else y, strict=False):
            yield (trace.name or "", *point)
