"""A landscape as a file: CSV, packed or not, or Parquet.

What is read back equals what was written, to the bit. The rows may have been sorted by another
program since: `landscape_rows` puts them together.
"""

import csv
import gzip
import importlib
import io
import json
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TextIO

from dsaccel.analysis.landscape import Landscape
from dsaccel.analysis.landscape_rows import Metadata, landscape_of
from dsaccel.config.study import StudyConfig
from dsaccel.config.toml import parse_config
from dsaccel.errors import ConfigError
from dsaccel.files import atomic_write, check_target, open_file

FORMAT = 3
MARK = "# dsaccel landscape "
"""Opens the first line of a CSV file; the metadata follow as JSON."""
KEY = b"dsaccel_landscape"
"""The key of the metadata in a Parquet file."""


def _measured(text: str) -> float | None:
    """A number, if there is one."""
    return float(text) if text else None


def _unless_nan(cell: Any) -> Any:
    """A cell; pandas writes NaN where there is nothing."""
    return None if cell != cell else cell


def _truth(text: str) -> bool:
    """A truth value, also as a spreadsheet writes it."""
    return {"true": True, "false": False}[text.lower()]


COLUMNS: dict[str, Callable[[str], Any]] = {
    "hierarchy": str,
    "seed": int,
    "step": int,  # in the file: `epoch`, or `stage` under the sequential schedule
    "head": int,
    "is_output": _truth,
    "accuracy": float,
    "num_parameters": int,
    "flops": int,
    "shallow_scale": float,
    "is_feasible": _truth,
    "ensemble": _measured,
    "seconds": _measured,
    "test_accuracy": _measured,
    "test_ensemble": _measured,
}
"""The columns in their order, and how each is read from text; explained in docs/landscape.md."""
SINCE = {"ensemble": 2, "seconds": 3, "test_accuracy": 3, "test_ensemble": 3}
"""Columns that an earlier format has not; networks of format 1 are read at their output layers."""


def write_landscape(landscape: Landscape, path: Path) -> None:
    """Write a table as `.csv`, `.csv.gz` or `.parquet`, whole or not at all."""
    write = {"csv": _write_csv, "csv.gz": _write_csv_gz, "parquet": _write_parquet}[_kind(path)]
    with atomic_write(path) as temporary:
        write(landscape, temporary)


def read_landscape(path: str | Path) -> Landscape:
    """Read a table that `write_landscape` wrote.

    Raises:
        ConfigError: if it is not there, or is no landscape.
    """
    path = Path(path)
    read = {"csv": _read_csv, "csv.gz": _read_csv_gz, "parquet": _read_parquet}[_kind(path)]
    try:
        metadata, columns = read(path)
        return landscape_of(metadata, zip(*columns.values(), strict=True))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}") from None
    except RecursionError:
        raise ConfigError(f"{path} must be a landscape, but its lists lie too deep") from None
    except (ValueError, KeyError, TypeError, EOFError, zlib.error, csv.Error) as error:
        raise ConfigError(
            f"{path} must be a table written by dsaccel landscape, but: {error}"
        ) from None


def check_output(path: Path) -> None:
    """Refuse what cannot be written, before the work is done.

    Raises:
        ConfigError: an unknown suffix, no pyarrow for Parquet, or no such folder.
    """
    if _kind(path) == "parquet":
        _pyarrow("pyarrow")
    check_target(path)


def _kind(path: Path) -> str:
    for kind in ("csv", "csv.gz", "parquet"):
        if path.name.endswith(f".{kind}"):
            return kind
    raise ConfigError(f"a landscape must be a .csv, .csv.gz or .parquet file, but got {path}")


def _metadata(landscape: Landscape) -> str:
    return json.dumps(
        {
            "format": FORMAT,
            "num_classes": landscape.num_classes,
            "num_val": landscape.num_val,
            "config": landscape.config.model_dump(mode="json", exclude_none=True),
        }
    )


def _parse_metadata(text: str) -> Metadata:
    """
    Raises:
        ValueError: if they are none, or of another version.
    """
    tables = json.loads(text)
    if not isinstance(tables, dict):
        raise ValueError("its metadata are no JSON object")
    if tables.get("format") not in range(1, FORMAT + 1):
        raise ValueError(f"its format is {tables.get('format')}, and this version reads {FORMAT}")
    return parse_config(Metadata, tables, "its metadata")


def _in_file(column: str, config: StudyConfig) -> str:
    """The name of a column in a file."""
    return config.training.step_name if column == "step" else column


def _rows(landscape: Landscape) -> Iterable[tuple[Any, ...]]:
    for seed, hierarchies in landscape.accuracies.items():
        for hierarchy, steps in hierarchies.items():
            network = landscape.networks[hierarchy]
            measures = (network.num_parameters, network.flops, network.shallow_scale)
            ensembles = landscape.ensembles.get(seed, {}).get(hierarchy, {})
            seconds = landscape.seconds.get(seed, {}).get(hierarchy)
            tested = landscape.tests.get(seed, {}).get(hierarchy)
            for step, heads in steps.items():
                has_output = "layer" in landscape.read(seed, hierarchy, step).exits
                ends = (*measures, network.is_feasible, ensembles.get(step), seconds)
                at_end = tested if step == landscape.num_steps else None
                for head, accuracy in enumerate(heads, 1):
                    is_output = head == len(heads) and has_output
                    test = (at_end.heads[head - 1], at_end.ensemble) if at_end else (None, None)
                    yield (str(hierarchy), seed, step, head, is_output, accuracy, *ends, *test)


def _write_csv(landscape: Landscape, path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        _write_text(landscape, file)


def _write_csv_gz(landscape: Landscape, path: Path) -> None:
    # without name and time of writing: the same table is the same file
    with (
        path.open("wb") as raw,
        gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed,
        io.TextIOWrapper(packed, encoding="utf-8", newline="") as file,
    ):
        _write_text(landscape, file)


def _write_text(landscape: Landscape, file: TextIO) -> None:
    file.write(f"{MARK}{_metadata(landscape)}\n")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([_in_file(name, landscape.config) for name in COLUMNS])
    for row in _rows(landscape):
        writer.writerow([str(cell).lower() if isinstance(cell, bool) else cell for cell in row])


Table = tuple[Metadata, dict[str, Sequence[Any]]]


def _read_csv(path: Path) -> Table:
    with open_file(path) as raw, io.TextIOWrapper(raw, encoding="utf-8", newline="") as file:
        return _read_text(file)


def _read_csv_gz(path: Path) -> Table:
    with open_file(path) as raw, gzip.open(raw, "rt", encoding="utf-8", newline="") as file:
        return _read_text(file)


def _read_text(file: Iterable[str]) -> Table:
    lines = iter(file)
    first = next(lines, "")
    if not first.startswith(MARK):
        raise ValueError(f"its first line does not open with {MARK.strip()!r}")
    metadata = _parse_metadata(first.removeprefix(MARK))
    reader = csv.reader(lines)
    names = next(reader, [])
    rows = dict(zip(names, zip(*reader, strict=True), strict=True))
    return metadata, {
        name: [parse(text) for text in rows[_in_file(name, metadata.config)]]
        if SINCE.get(name, 1) <= metadata.format
        else [None] * len(rows["head"])
        for name, parse in COLUMNS.items()
    }


def _write_parquet(landscape: Landscape, path: Path) -> None:
    arrow, parquet = _pyarrow("pyarrow"), _pyarrow("pyarrow.parquet")
    names = [_in_file(name, landscape.config) for name in COLUMNS]
    columns = zip(*_rows(landscape), strict=True)
    table = arrow.table(dict(zip(names, map(list, columns), strict=True)))
    parquet.write_table(table.replace_schema_metadata({KEY: _metadata(landscape)}), path)


def _read_parquet(path: Path) -> Table:
    with open_file(path) as file:
        table = _pyarrow("pyarrow.parquet").read_table(file)
    metadata = _parse_metadata((table.schema.metadata or {})[KEY])
    columns = table.to_pydict()
    return metadata, {
        name: list(map(_unless_nan, columns[_in_file(name, metadata.config)]))
        if SINCE.get(name, 1) <= metadata.format
        else [None] * table.num_rows
        for name in COLUMNS
    }


def _pyarrow(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ConfigError(
            "a Parquet file needs pyarrow: pip install 'dsaccel[parquet]'; or write .csv.gz"
        ) from None
