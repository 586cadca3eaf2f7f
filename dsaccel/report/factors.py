"""The factorial study on a terminal, as a page and in files."""

from dsaccel.paper.factors import Factors
from dsaccel.paper.rows import WAYS, Row
from dsaccel.paper.train import Reproduction
from dsaccel.report.effects import effect_record, effects_figure, effects_table
from dsaccel.report.experiment import Report
from dsaccel.report.page import Section
from dsaccel.report.reproduction import SPLITS, in_hundreds
from dsaccel.report.table import Table
from dsaccel.statistics import summarise

HEADINGS = ("network", "FLOPs", "layer-wise", "back-propagation", "deep supervision")
CAPTION = "accuracies of the output layer in %, mean ± standard deviation over seeds"


def factors_report(scale: str, reproduction: Reproduction) -> Report:
    """The report of the factorial study."""
    factors = Factors.of(reproduction)
    effects, answer = factors.effects(), factors.answer()
    rows = [_cells(row, factors, reproduction) for row in factors.rows]
    table = Table(HEADINGS, rows, words=(0,), caption=CAPTION)
    accuracies = factors.accuracies.items()
    return Report(
        "factors",
        f"Convolutions, losses or resolution, at scale {scale}: {reproduction.scale}",
        _about(reproduction),
        reproduction,
        table,
        answer,
        {
            "accuracies": [
                {"network": name, "way": way, "by_seed": dict(by_seed)}
                for (name, way), by_seed in accuracies
            ],
            "effects": [effect_record(effect) for effect in effects],
            "answer": answer,
        },
        [
            Section("Answer", lines=answer),
            Section(
                "Effects",
                "Points of the gap that a change closes; bars are 95 % intervals.",
                table=effects_table(effects),
                figure=effects_figure(effects),
                name="effects",
            ),
            Section("Networks", table=table),
        ],
        [
            {"network": name, "way": way, "seed": seed, "accuracy": accuracy}
            for (name, way), by_seed in accuracies
            for seed, accuracy in by_seed.items()
        ],
        "accuracies",
    )


def _about(made: Reproduction) -> str:
    return (
        f"ResNet18 as of Table V, {made.scale.recipe}. Images of {made.data_names}; accuracies are "
        f"of {SPLITS[made.protocol]}. Coarse: one loss at the end of each shallow stage in place "
        "of one a convolution. Late: the first loss in the second stage. Both: one loss in the "
        "shallow stages, at the end of the second. Uniform: all stages as wide as the first, so "
        "that hierarchies of equally many blocks differ in where the strides are; matched: as wide "
        "as gives equal FLOPs. Deep supervision has all losses and no cuts. An effect is what a "
        "change closes of the distance to back-propagation on the same network."
    )


def _cells(row: Row, factors: Factors, made: Reproduction) -> tuple[str, ...]:
    found = (factors.accuracies.get((row.model, way), {}) for way in WAYS)
    shown = (in_hundreds(summarise(list(a.values())) if a else None) for a in found)
    return (row.model, f"{made.flops(row) / 1e6:.1f} M", *shown)
