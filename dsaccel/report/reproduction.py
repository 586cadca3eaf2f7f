"""A table or a figure of the paper, trained again: on a terminal, as a page and in files."""

from dataclasses import asdict
from typing import Any

from dsaccel.families import MODES
from dsaccel.paper.claims import PLATEAU, claims_of
from dsaccel.paper.compare import Comparison, RankAgreement, RowResult
from dsaccel.paper.rows import CURVES, TABLES
from dsaccel.paper.train import Reproduction
from dsaccel.report.effects import effect_record, effects_table, reasons
from dsaccel.report.experiment import Report
from dsaccel.report.figures.reproduction import accuracy_figure, error_figure, published_figure
from dsaccel.report.page import Section
from dsaccel.report.table import Table
from dsaccel.statistics import Paired, Summary
from dsaccel.text import counted

TITLES = {
    **{name: f"Table {number}" for name, number in TABLES.items()},
    "figure1": "Figure 1",
    "figure4": "Figure 4",
    "figure5": "Figure 5",
}
SPLITS = {
    "ours": "validation images that are held out of the training images",
    "paper": "the test split, which is read after every epoch as in the paper; nothing may be "
    "chosen by it",
}
HEADINGS = (
    *("network", "hierarchy", "layer-wise, paper", "here", "difference"),
    *("global, paper", "here", "difference", "gap, paper", "here"),
)
PLATEAU_RULE = (
    "in the epochs before the first decay of the learning rate, the mean of the last quarter is no "
    f"more than {100 * PLATEAU:g} point above that of the quarter before"
)
RECORDED = ("learning_rate", "train_accuracy", "train_loss", "val_loss")
"""Columns of the curves that networks of earlier versions have not."""
CAPTION = "accuracies in %, differences in points; gap: back-propagation less layer-wise"


def rows_report(experiment: str, scale: str, reproduction: Reproduction) -> Report:
    """The report of a table, or of a figure, of the paper."""
    comparison = Comparison.of(reproduction)
    claims, agreements = claims_of(comparison), comparison.rank_agreements
    rows = [_cells(result) for result in comparison.results]
    table = Table(HEADINGS, rows, words=(0, 1), caption=CAPTION)
    sentences = [_rank_sentence(agreement) for agreement in agreements]
    return Report(
        experiment,
        f"{TITLES[experiment]} at scale {scale}: {reproduction.scale}",
        _about(reproduction),
        reproduction,
        table,
        sentences,
        {
            "rows": [_record(result) for result in comparison.results],
            "rank_agreement": [asdict(each) for each in agreements],
            "claims": [effect_record(effect) for effect in claims],
        },
        [
            Section(table=table),
            Section("Agreement with the paper's order", lines=sentences),
            Section(
                "The paper's claims",
                f"Tested only where accuracies have stopped to rise: {PLATEAU_RULE}.",
                lines=reasons(claims),
                table=effects_table(claims),
            ),
            *_pictures(comparison, reproduction.scale.epochs, is_curves=experiment in CURVES),
        ],
        [line for result in comparison.results for line in _curve_rows(result)],
        "curves",
        has_latex=True,
    )


def _about(made: Reproduction) -> str:
    seeds = counted(len(made.seeds), "seed")
    return (
        f"Images of {made.data_names}. Layer-wise: a local loss (predsim) after each convolution, "
        "all units at the same time. Global: back-propagation with the same settings, "
        f"{made.scale.recipe}. Accuracies are of the output layer after the last epoch, on "
        f"{SPLITS[made.protocol]}; mean ± standard deviation over {seeds}. "
        f"The paper has one run a value, on the test split, "
        "at width 1 and 400 epochs: at a smaller scale orders and gaps may be compared, not the "
        "accuracies."
    )


def _pictures(comparison: Comparison, epochs: int, *, is_curves: bool) -> list[Section]:
    errors = Section(
        "Error over the epochs",
        "Mean over seeds; click a name to hide it.",
        figure=error_figure(comparison, epochs),
        name="errors",
    )
    accuracies = Section(
        "Layer-wise and global", figure=accuracy_figure(comparison), name="accuracies"
    )
    published = Section(
        "Here and in the paper",
        "Rows that come in the paper's order rise from left to right.",
        figure=published_figure(comparison),
        name="published",
    )
    return [errors, published] if is_curves else [accuracies, published, errors]


def _cells(result: RowResult) -> tuple[str, ...]:
    cells = [result.row.model, str(result.row.hierarchy)]
    for mode in MODES:
        published, here = result.row.published[mode], result.summary(mode)
        difference = "-" if here is None else f"{100 * (here.mean - published):+.2f}"
        cells += [f"{100 * published:.2f}", in_hundreds(here), difference]
    return (*cells, f"{100 * result.published_gap:.2f}", in_hundreds(result.gap))


def in_hundreds(summary: Summary | Paired | None) -> str:
    """`86.94 ± 0.31`, of fractions."""
    if summary is None:
        return "-"
    std = "" if summary.std is None else f" ± {100 * summary.std:.2f}"
    return f"{100 * summary.mean:.2f}{std}"


def _rank_sentence(agreement: RankAgreement) -> str:
    name = f"Table {agreement.table}, {agreement.family}, {agreement.num_rows} rows"
    if not agreement.with_paper:
        return f"{name}: the rows have no order that can be compared"
    taus = ", ".join(f"{tau:.2f}" for tau in agreement.with_paper)
    shallow = agreement.shallow_with_paper
    trivial = "none" if shallow is None else f"{shallow:.2f}"
    few = "; so few rows describe, and test nothing" if agreement.num_rows < 10 else ""
    return (
        f"{name}: Kendall's tau-b with the paper's layer-wise order is {taus} (one a seed); of the "
        f"trivial prediction, fewer blocks in the first half of the stages, it is {trivial}{few}"
    )


def _record(result: RowResult) -> dict[str, Any]:
    row, gap = result.row, result.gap
    return {
        "table": row.table,
        "dataset": row.dataset,
        "model": row.model,
        "hierarchy": str(row.hierarchy),
        "learning_rate": row.learning_rate,
        "dropout": row.dropout,
        "published": row.published,
        "accuracy": {m: (s := result.summary(m)) and asdict(s) for m in MODES},
        "by_seed": {mode: result.accuracies(mode) for mode in MODES},
        "gap": gap and asdict(gap),
        "time_s": {mode: sum(t.time_s for t in result.by_seed[mode].values()) for mode in MODES},
    }


def _curve_rows(result: RowResult) -> list[dict[str, Any]]:
    """A line for each network, seed, epoch and head; what was not recorded is empty."""
    row = result.row
    own = {"table": row.table, "dataset": row.dataset, "model": row.model}
    own["hierarchy"] = str(row.hierarchy)
    lines: list[dict[str, Any]] = []
    for mode in MODES:
        for seed, trained in result.by_seed[mode].items():
            points = {(point.head, point.epoch): asdict(point) for point in trained.curve}
            for epoch, accuracies in enumerate(trained.accuracies, 1):
                for head, accuracy in zip(trained.heads, accuracies, strict=True):
                    known = points.get((head, epoch), {})
                    line = {"mode": mode, "seed": seed, "epoch": epoch, "head": head}
                    line |= {"accuracy": accuracy, **{name: known.get(name) for name in RECORDED}}
                    lines.append(own | line)
    return lines
