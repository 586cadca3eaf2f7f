"""Separability by layer: on a terminal, as a page and in files."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from dsaccel.families import MODES
from dsaccel.paper.effects import Effect
from dsaccel.paper.layers import LayersOfRow, hybrids_of, layers_of, shallow_effect
from dsaccel.paper.separability import DIMENSION, NUM_PROBED
from dsaccel.paper.train import Reproduction
from dsaccel.report.effects import effect_record
from dsaccel.report.experiment import Report
from dsaccel.report.figures.separability import (
    probe_figure,
    rank_figure,
    scatter_figure,
    time_figure,
)
from dsaccel.report.hybrids import hybrid_record, hybrid_section, hybrid_sentence
from dsaccel.report.page import Section
from dsaccel.report.reproduction import SPLITS, in_hundreds
from dsaccel.report.table import Table, ends_text
from dsaccel.text import counted

HEADINGS = ("network", "hierarchy", "layer", "layer-wise", "global", "difference", "95 % interval")
CAPTION = "validation accuracy of a linear probe, in %; differences in points, paired by seed"


def separability_report(scale: str, reproduction: Reproduction) -> Report:
    """The report of the layers of some rows."""
    rows = layers_of(reproduction)
    hybrids = hybrids_of(reproduction) if reproduction.has_hybrids else []
    shallow = shallow_effect(rows)
    # the first, the middle and the last layer of each
    cells = [
        _cells(row, layer)
        for row in rows
        for layer in sorted({0, len(row.layers) // 2, len(row.layers) - 1})
    ]
    table = Table(HEADINGS, cells, words=(0, 1, 2), caption=CAPTION)
    linear = {row.row.model: row for row in reversed(rows)}
    sentences = [
        *map(_sentence, rows),
        *([] if shallow is None else [_shallow_sentence(shallow)]),
        *(hybrid_sentence(row, linear.get(row.row.model)) for row in hybrids),
    ]
    return Report(
        "separability",
        f"Separability at scale {scale}: {reproduction.scale}",
        _about(reproduction),
        reproduction,
        table,
        sentences,
        {
            "rows": [_record(row) for row in rows],
            "shallow": shallow and effect_record(shallow),
            "hybrids": [hybrid_record(row) for row in hybrids],
            "sentences": sentences,
        },
        [
            *(Section(lines=sentences), Section(table=table), *_pictures(rows)),
            *([hybrid_section(hybrids)] if hybrids else []),
        ],
        [line for row in rows for line in _lines(row)],
        "layers",
    )


def _about(made: Reproduction) -> str:
    seeds = counted(len(made.seeds), "seed")
    return (
        f"Images of {made.data_names}. Each layer of a network, trained layer-wise (predsim after "
        "each convolution) or by back-propagation with the same settings, is reduced to "
        f"{DIMENSION} principal components (fewer in tiny networks); a logistic regression is "
        f"fitted to {NUM_PROBED:,} training images at most and read on as many "
        f"{SPLITS[made.protocol]}. Mean and standard deviation over {seeds}. A probe tells what is "
        "there, not what the layers above make of it."
    )


def _pictures(rows: Sequence[LayersOfRow]) -> list[Section]:
    choices = [(n, f"{r.row.model} {r.row.hierarchy}") for n, r in enumerate(rows)]
    spread = "How far the classes lie apart, over how far each is spread."
    used = "How many directions the features use, averaged over each map (effective rank)."
    drawn = (
        ("By depth", "A linear probe of each layer after the last epoch.", probe_figure, "probes"),
        ("Over depth and time", "The same after several epochs.", time_figure, "time"),
        ("Scatter", spread, scatter_figure, "scatter"),
        ("Effective rank", used, rank_figure, "rank"),
    )
    return [
        Section(title, caption, figure=draw(rows), name=name, choices=choices)
        for title, caption, draw, name in drawn
    ]


def _cells(row: LayersOfRow, layer: int) -> tuple[str, ...]:
    last, difference = row.epochs[-1], row.difference(layer)
    probes = (in_hundreds(row.by_layer(mode, last, "probe")[layer]) for mode in MODES)
    return (
        row.row.model,
        str(row.row.hierarchy),
        row.layers[layer],
        *probes,
        in_hundreds(difference),
        ends_text(difference),
    )


def _sentence(row: LayersOfRow) -> str:
    name = f"{row.row.model} {row.row.hierarchy}"
    first, last = row.difference(0), row.difference(len(row.layers) - 1)
    if first is None or last is None:
        return f"{name}: not measured in both modes with one seed"
    where = (
        "at no layer up to the last"
        if row.lost == len(row.layers)
        else f"from {row.layers[row.lost]} on"
    )
    return (
        f"{name}: layer-wise probes lead back-propagation's by {100 * first.mean:+.2f} points at "
        f"the first layer and {100 * last.mean:+.2f} at the last (mean of {last.n}); they stay "
        f"behind {where}"
    )


def _shallow_sentence(effect: Effect) -> str:
    measured = effect.measured
    assert measured is not None
    has_ends = measured.low is not None
    ends = f"95 % interval {ends_text(measured)}" if has_ends else "one seed has no interval"
    said = {
        "holds": "the gap grows with the shallow layers",
        "is contradicted": "the gap shrinks with the shallow layers",
    }
    return (
        f"At matched depth each shallow layer below adds {100 * measured.mean:+.2f} points to the "
        f"lead of back-propagation's probe ({ends}, n = {measured.n}): "
        f"{said.get(effect.verdict, 'whether the gap grows with them is open')}"
    )


def _record(row: LayersOfRow) -> dict[str, Any]:
    last = row.epochs[-1]
    return {
        "model": row.row.model,
        "hierarchy": str(row.row.hierarchy),
        "epochs": list(row.epochs),
        "layers": [
            {
                "layer": name,
                "probe": {m: asdict(row.by_layer(m, last, "probe")[i]) for m in MODES},
                "scatter": {m: asdict(row.by_layer(m, last, "scatter")[i]) for m in MODES},
                "rank": {m: asdict(row.by_layer(m, last, "rank")[i]) for m in MODES},
                "difference": (d := row.difference(i)) and asdict(d),
            }
            for i, name in enumerate(row.layers)
        ],
    }


def _lines(row: LayersOfRow) -> list[dict[str, Any]]:
    return [
        {
            "table": row.row.table,
            "model": row.row.model,
            "hierarchy": str(row.row.hierarchy),
            "mode": mode,
            "seed": seed,
            "epoch": epoch,
            "layer": layer,
            "probe": probe,
            "scatter": scatter,
            "rank": rank,
        }
        for mode in MODES
        for seed, by_epoch in row.measured[mode].items()
        for epoch, found in by_epoch.items()
        for layer, probe, scatter, rank in zip(
            row.layers, found.probe, found.scatter, found.rank, strict=True
        )
    ]
