"""Separability by layer: on a terminal, as a page and in files."""

from dataclasses import asdict
from typing import Any

from dsaccel.families import MODES
from dsaccel.files import make_folder, write_csv, write_json
from dsaccel.paper.effects import Effect
from dsaccel.paper.layers import (
    HybridsOfRow,
    LayersOfRow,
    hybrids_of,
    layers_of,
    shallow_effect,
)
from dsaccel.paper.separability import DIMENSION, NUM_PROBED
from dsaccel.paper.train import Reproduction
from dsaccel.report.effects import effect_record
from dsaccel.report.figures.separability import probe_figure, scatter_figure, time_figure
from dsaccel.report.hybrids import hybrid_record, hybrid_section, hybrid_sentence
from dsaccel.report.page import Section, write_page
from dsaccel.report.reproduction import SPLITS, in_hundreds
from dsaccel.report.table import Table

HEADINGS = ("network", "hierarchy", "layer", "layer-wise", "global", "difference", "95 % interval")
CAPTION = "validation accuracy of a linear probe, in %; differences in points, paired by seed"


class SeparabilityReport:
    """What is shown of the layers of some rows.

    Args:
        scale: the name of the scale.
        reproduction: what was trained and measured.
    """

    def __init__(self, scale: str, reproduction: Reproduction) -> None:
        self._reproduction = reproduction
        self.rows = layers_of(reproduction)
        self.hybrids = hybrids_of(reproduction) if reproduction.has_hybrids else []
        self.shallow = shallow_effect(self.rows)
        self.title = f"Separability at scale {scale}: {reproduction.scale}"

    @property
    def about(self) -> str:
        """What was measured, and how."""
        seeds = len(self._reproduction.seeds)
        return (
            f"Images of {self._reproduction.data_names}. Each layer of a network, trained "
            "layer-wise (predsim after each convolution) or by back-propagation with the same "
            f"settings, is reduced to {DIMENSION} principal components (fewer in tiny networks); "
            f"a logistic regression is fitted to {NUM_PROBED:,} training images at most and read "
            f"on as many {SPLITS[self._reproduction.protocol]}. Mean and standard deviation over "
            f"{seeds} {'seed' if seeds == 1 else 'seeds'}. A probe tells what is there, not what "
            "the layers above make of it."
        )

    def table(self) -> Table:
        """The first, the middle and the last layer of each row."""
        rows = [
            _cells(row, layer)
            for row in self.rows
            for layer in sorted({0, len(row.layers) // 2, len(row.layers) - 1})
        ]
        return Table(HEADINGS, rows, words=(0, 1, 2), caption=CAPTION)

    def sentences(self) -> list[str]:
        """Where layer-wise training is ahead, and where it falls behind."""
        effects = [] if self.shallow is None else [_shallow_sentence(self.shallow)]
        deep = [hybrid_sentence(row, self._linear(row)) for row in self.hybrids]
        return [*map(_sentence, self.rows), *effects, *deep]

    def _linear(self, hybrids: HybridsOfRow) -> LayersOfRow | None:
        return next((row for row in self.rows if row.row.model == hybrids.row.model), None)

    def summary(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "experiment": "separability",
            "title": self.title,
            "protocol": self._reproduction.protocol,
            "data": self._reproduction.data_names,
            "seeds": list(self._reproduction.seeds),
            "rows": [_record(row) for row in self.rows],
            "shallow": self.shallow and effect_record(self.shallow),
            "hybrids": [hybrid_record(row) for row in self.hybrids],
            "sentences": self.sentences(),
        }

    def write(self) -> dict[str, str]:
        """Write the page and the files beside it; their paths."""
        folder = self._reproduction.directory.path
        make_folder(folder)
        page, as_json, as_csv = (
            folder / f"separability.{suffix}" for suffix in ("html", "json", "csv")
        )
        choices = [(n, f"{r.row.model} {r.row.hierarchy}") for n, r in enumerate(self.rows)]
        sections = [
            Section(lines=self.sentences()),
            Section(table=self.table()),
            Section(
                "By depth",
                "A linear probe of each layer after the last epoch.",
                figure=probe_figure(self.rows),
                name="probes",
                choices=choices,
            ),
            Section(
                "Over depth and time",
                "The same after several epochs.",
                figure=time_figure(self.rows),
                name="time",
                choices=choices,
            ),
            Section(
                "Scatter",
                "How far the classes lie apart, over how far each is spread.",
                figure=scatter_figure(self.rows),
                name="scatter",
                choices=choices,
            ),
        ]
        sections += [hybrid_section(self.hybrids)] if self.hybrids else []
        write_page(page, self.title, sections, about=self.about)
        write_json(as_json, self.summary())
        write_csv(as_csv, [line for row in self.rows for line in _lines(row)])
        paths = {"page": page, "json": as_json, "layers": as_csv}
        return {label: path.as_posix() for label, path in paths.items()}


def _cells(row: LayersOfRow, layer: int) -> tuple[str, ...]:
    last, difference = row.epochs[-1], row.difference(layer)
    probes = (in_hundreds(row.by_layer(mode, last, "probe")[layer]) for mode in MODES)
    ends = "-"
    if difference is not None and difference.low is not None and difference.high is not None:
        ends = f"{100 * difference.low:+.2f} to {100 * difference.high:+.2f}"
    return (
        row.row.model,
        str(row.row.hierarchy),
        row.layers[layer],
        *probes,
        in_hundreds(difference),
        ends,
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
    ends = "one seed has no interval"
    if measured.low is not None and measured.high is not None:
        ends = f"95 % interval {100 * measured.low:+.2f} to {100 * measured.high:+.2f}"
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
        }
        for mode in MODES
        for seed, by_epoch in row.measured[mode].items()
        for epoch, found in by_epoch.items()
        for layer, probe, scatter in zip(row.layers, found.probe, found.scatter, strict=True)
    ]
