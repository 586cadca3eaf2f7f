"""What the paper published: the 61 rows of its tables, and which of them a figure shows."""

import csv
import importlib.resources
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from dsaccel.errors import ConfigError
from dsaccel.families import MODES, Mode
from dsaccel.spec.hierarchy import Hierarchy

TABLES = {
    f"table{number}": name for number, name in enumerate(("I", "II", "III", "IV", "V", "VI"), 1)
}
CURVES = {
    "figure4": ("V", ("ResNet18", "ResNet18_r4", "ResNet50", "ResNet50_r4")),
    "figure5": ("VI", ("ResNet18", "ResNet18_r4", "ResNet50", "ResNet50_r2")),
}
"""Figures of test errors over the epochs: the table and the rows that they show."""
LOOKED_INTO = ("ResNet18", "ResNet18_r1", "ResNet18_r4")
"""The rows of Table V whose layers are measured unless others are named."""
EXPERIMENTS = (*TABLES, "figure1", *CURVES, "separability", "factors")
Way = Literal["local", "global", "supervised"]
"""Layer-wise, by back-propagation, or by back-propagation with all local losses and no cuts."""
WAYS: tuple[Way, ...] = ("local", "global", "supervised")
NUM_CLASSES = {"cifar10": 10, "cifar100": 100}


@dataclass(frozen=True)
class Row:
    """One row of a table: a network, how it was trained, and what it reached."""

    table: str
    """I to VI, or `factors`."""
    dataset: str
    """`cifar10` or `cifar100`."""
    model: str
    """The paper's name for it, `ResNet18_r4`."""
    learning_rate: float
    dropout: float
    hierarchy: Hierarchy
    published: dict[Mode, float]
    """Test accuracy (0..1), layer-wise and by back-propagation, of one run each."""
    network: tuple[tuple[str, Any], ...] = ()
    """Settings of `[network]` beside those of the scale."""
    ways: tuple[Way, ...] = MODES

    @property
    def family(self) -> str:
        """The family that the network is one of."""
        if self.table == "factors":
            return "resnet18"
        base = self.model.split("_")[0].lower()
        return base if base.startswith("resnet") or base == "vgg8b" else "vgg"

    @property
    def is_standard(self) -> bool:
        """Whether the network is of the literature, and not the paper's own."""
        return "_" not in self.model

    @property
    def num_shallow(self) -> int:
        """Blocks in the first half of the stages, of which the paper says that they hurt."""
        blocks = self.hierarchy.blocks
        return sum(blocks[: len(blocks) // 2])

    @property
    def num_deep(self) -> int:
        """Blocks in the other stages."""
        return sum(self.hierarchy.blocks) - self.num_shallow


def all_rows() -> list[Row]:
    """All rows, in the paper's order."""
    path = importlib.resources.files("dsaccel.paper") / "rows.csv"
    with path.open(encoding="utf-8") as file:
        return [_row(fields) for fields in csv.DictReader(file)]


def rows_of(experiment: str, models: Sequence[str] = ()) -> list[Row]:
    """The rows that a table or a figure shows.

    Args:
        experiment: one of `EXPERIMENTS`.
        models: only these of them; none: all.

    Raises:
        ConfigError: if there is no such table or figure, or it has no such row.
    """
    rows = [row for row in all_rows() if _is_in(row, experiment)]
    known = [row.model for row in rows]
    unknown = [model for model in models if model not in known]
    if unknown:
        raise ConfigError(
            f"rows must be of {experiment}, which has {', '.join(dict.fromkeys(known))}, but got "
            f"{', '.join(unknown)}"
        )
    if experiment == "separability" and not models:
        models = LOOKED_INTO
    return [row for row in rows if not models or row.model in models]


def _is_in(row: Row, experiment: str) -> bool:
    if experiment in TABLES:
        return row.table == TABLES[experiment]
    if experiment in CURVES:
        table, models = CURVES[experiment]
        return row.table == table and row.model in models
    if experiment == "separability":
        return row.table == "V"
    if experiment == "figure1":  # the networks of the literature, on both data sets
        return row.table in ("I", "II", "III", "IV") and row.is_standard
    raise ConfigError(f"experiment must be one of {', '.join(EXPERIMENTS)}, but got {experiment!r}")


def _row(fields: dict[str, str]) -> Row:
    return Row(
        fields["table"],
        fields["dataset"],
        fields["model"],
        float(fields["learning_rate"]),
        float(fields["dropout"]),
        Hierarchy.parse(fields["hierarchy"]),
        {"local": float(fields["local"]) / 100, "global": float(fields["global"]) / 100},
    )
