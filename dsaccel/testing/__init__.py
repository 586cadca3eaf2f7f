"""The contract of a part, as a test of one line: `check_part("head", "./heads.py:Mine")`.

Run by the tests on every shipped part, and by you on your own. A broken rule is an `AssertionError`
that says which one. It takes a few seconds on the CPU, and no data is fetched.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dsaccel.config.study import DataConfig
from dsaccel.data.source import open_source
from dsaccel.imports import trust
from dsaccel.parts import BUILTIN, Kind, load_part
from dsaccel.testing.data import check_source
from dsaccel.testing.executors import check_executor
from dsaccel.testing.figures import check_figure
from dsaccel.testing.networks import check_network
from dsaccel.testing.search import check_pruner, check_strategy

ALONE = {
    "strategy": check_strategy,
    "pruner": check_pruner,
    "figure": check_figure,
    "executor": check_executor,
}


def check_part(kind: Kind, name: str, options: Mapping[str, Any] | None = None) -> None:
    """Check that a part keeps the rules of its kind.

    Args:
        kind: of the part.
        name: shipped, or an import path; `./` is the current folder.
        options: of the part; a data source has none.

    Raises:
        ConfigError: if the part cannot be loaded or has no such options.
        AssertionError: if it breaks a rule.
    """
    trust([name], Path.cwd())
    if kind in ALONE:
        ALONE[kind](load_part(kind, name, options))
    elif kind == "data":
        check_source(open_source(DataConfig(name=name)))
    else:
        check_network(kind, name, options or {})


def shipped() -> list[tuple[Kind, str]]:
    """The parts that are checked here; not those that fetch images or need a cluster."""
    fetched = {name for name, path in BUILTIN["data"].items() if path.endswith(":Torchvision")}
    left_out = {"cluster", *fetched}
    return [(kind, name) for kind in BUILTIN for name in BUILTIN[kind] if name not in left_out]
