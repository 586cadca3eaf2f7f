"""Deep probes and hybrids: a table, a picture and a sentence for each row."""

from collections.abc import Sequence
from typing import Any

from dsaccel.families import MODES
from dsaccel.paper.layers import HybridsOfRow, LayersOfRow
from dsaccel.report.figures.separability import hybrid_figure
from dsaccel.report.page import Section
from dsaccel.report.reproduction import in_hundreds
from dsaccel.report.table import Table

HEADINGS = (
    *("network", "hierarchy", "frozen after"),
    *("layer-wise, then global", "global, then global", "difference"),
    *("layer-wise, then layer-wise", "global, then layer-wise", "difference"),
)
CAPTION = (
    "accuracy of the output layer in %, by how the prefix and then the rest were trained; "
    "differences in points: a layer-wise prefix less one of back-propagation"
)


def hybrid_section(rows: Sequence[HybridsOfRow]) -> Section:
    """A piece of the page."""
    cells = [_cells(row, stage) for row in rows for stage in range(1, row.num_stages + 1)]
    return Section(
        "Deep probes and hybrids",
        "Each network is frozen after a stage, and what comes above is trained anew, from its "
        "first weights and with the same settings.",
        table=Table(HEADINGS, cells, words=(0, 1, 2), caption=CAPTION),
        figure=hybrid_figure(rows),
        name="hybrids",
        choices=[(n, f"{r.row.model} {r.row.hierarchy}") for n, r in enumerate(rows)],
    )


def hybrid_sentence(row: HybridsOfRow, linear: LayersOfRow | None) -> str:
    """What layers above make of layer-wise features, beside what a linear probe reads off them."""
    told: list[str] = []
    for stage in range(1, row.num_stages + 1):
        deep = row.prefix_effect("global", stage)
        assert deep is not None
        shown = f"after stage {stage} {100 * deep.mean:+.2f} points"
        if linear is not None:
            last = max(i for i, name in enumerate(linear.layers) if name.startswith(f"s{stage}."))
            probe = linear.difference(last)
            shown += "" if probe is None else f" (linear probe {100 * probe.mean:+.2f})"
        told.append(shown)
    return (
        f"{row.row.model} {row.row.hierarchy}: what layers trained by back-propagation make of a "
        f"frozen layer-wise prefix, less what they make of one of back-propagation: "
        f"{', '.join(told)}. Where the linear probe leads and this trails, layer-wise features "
        "separate the classes early and keep less for later layers"
    )


def hybrid_record(row: HybridsOfRow) -> dict[str, Any]:
    """A row as JSON."""
    return {
        "model": row.row.model,
        "hierarchy": str(row.row.hierarchy),
        "accuracies": [
            {"prefix": prefix, "rest": rest, "stage": stage, "by_seed": dict(by_seed)}
            for (prefix, rest), by_stage in row.accuracies.items()
            for stage, by_seed in by_stage.items()
        ],
    }


def _cells(row: HybridsOfRow, stage: int) -> tuple[str, ...]:
    cells = [row.row.model, str(row.row.hierarchy), f"stage {stage}"]
    for rest in reversed(MODES):
        shown = (in_hundreds(row.summary(prefix, rest, stage)) for prefix in MODES)
        cells += [*shown, in_hundreds(row.prefix_effect(rest, stage))]
    return tuple(cells)
