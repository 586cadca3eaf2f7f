"""What a terminal shows of a study: its best trials as a table, and the outcome in a few lines."""

from collections.abc import Mapping

from dsaccel.report.table import RowStyle, Table
from dsaccel.spec.rung import Exit
from dsaccel.study.record import StudyRecord
from dsaccel.study.rows import Row, best_row, read_rows
from dsaccel.text import amount, duration, percent, points


def trials_table(study: StudyRecord, limit: int = 20) -> Table:
    """The best `limit` trials, and the baseline under them."""
    rows, baseline = read_rows(study), study.baseline
    best = best_row(rows)
    shown = rows[:limit]
    if best and best not in shown:
        # outdone by that many infeasible ones: it is still the one line that must be there
        shown = [*rows[: limit - 1], best]
    num_hidden = len(rows) - len(shown)
    lines: list[tuple[str, ...]] = []
    styles: list[RowStyle] = []
    for row in shown:
        accuracy, state = accuracy_and_state(row, study)
        if row is best:
            state = f"best ({state})" if state != "complete" else "best"
        size, time = amount(row.num_parameters), duration(row.time_s)
        lines.append((str(row.hierarchy), accuracy, size, time, state))
        styles.append("best" if row is best else "" if row.is_complete else "unfinished")
    if baseline:
        size, time = amount(baseline.num_parameters), duration(baseline.time_s)
        accuracy = percent(baseline.accuracy)
        lines.append((str(baseline.hierarchy), accuracy, size, time, "global back-propagation"))
        styles.append("")
    return Table(
        ("hierarchy", "val accuracy", "parameters", "time", "state"),
        lines,
        styles,
        caption=f"and {num_hidden} more" if num_hidden else "",
        words=(0, 4),
        breaks=(len(shown),),
    )


def accuracy_and_state(row: Row, study: StudyRecord) -> tuple[str, str]:
    """Two cells. What was read of a trial that is not complete is another classifier's and stands
    with its state: it is not to be compared down the column.
    """
    if row.is_complete:
        return percent(row.accuracy), row.state
    read = "" if row.accuracy is None else f", {study.ranked_by} {percent(row.accuracy)}"
    return percent(None), row.state + read


EXITS: Mapping[Exit, str] = {
    "layer": "output layer",
    "head": "last head",
    "ensemble": "ensemble of the last half of the heads",
}


def exits_text(exits: Mapping[Exit, float | None]) -> str:
    """`output layer 36.2 %, last head 41.9 %`."""
    return ", ".join(f"{EXITS[exit]} {percent(accuracy)}" for exit, accuracy in exits.items())


def first_head_warning(row: Row | None, exit: Exit) -> str:
    """Warn if a network is worse than its own first head."""
    if row is None or row.first_head is None:
        return ""
    return (
        f"{row.hierarchy} is read at its {EXITS[exit]} with {percent(row.accuracy)}, below its "
        f"first head with {percent(row.first_head)}: what lies above that does not help; "
        "set network.output or network.head to others"
    )


def stagnation_text(row: Row | None) -> str:
    """The head from which on depth adds nothing: no later head is better, nor the output layer."""
    heads = [] if row is None or not row.head_accuracies else row.head_accuracies[-1]
    read = [accuracy for accuracy in heads if accuracy is not None]
    if len(read) < 2 or len(read) < len(heads):
        return ""
    best = max(range(len(read)), key=read.__getitem__)
    if best == len(read) - 1:
        return "the last head is the best"
    return f"no head is better than head {best + 1} of {len(read)}, with {percent(read[best])}"


def headline(study: StudyRecord) -> str:
    """The outcome in a few lines: best, baseline, blocks trained, time."""
    best, baseline = best_row(read_rows(study)), study.baseline
    lines = ["best      no trial has completed yet"]
    if best:
        lines = [
            f"best      {best.hierarchy}  {percent(best.accuracy)}  "
            f"{amount(best.num_parameters)} parameters  trial {best.number}"
        ]
    if baseline:
        lead = ""
        if best and best.hierarchy == baseline.hierarchy:
            lead = f"; layer-wise {points(best.accuracy, baseline.accuracy)}"
        lines.append(
            f"baseline  {baseline.hierarchy}  {percent(baseline.accuracy)}  "
            f"global back-propagation{lead}"
        )
    if best and (exits := exits_text(best.trial.exits)):
        lines.append(f"exits     {exits}")
    if text := stagnation_text(best):
        lines.append(f"depth     {text}")
    if warning := first_head_warning(best, study.exit):
        lines.append(f"warning   {warning}")
    blocks = blocks_saved(study)
    if blocks:
        lines.append(f"blocks    {blocks}")
    if study.workers:
        lines.append(f"workers   {study.workers}")
    time_s = study.time_s
    if time_s is not None:
        lines.append(f"time      {duration(time_s)}")
    return "\n".join(lines)


def blocks_saved(study: StudyRecord) -> str:
    """`98 trained instead of 412 (4.2 times fewer)`; empty if not recorded."""
    trained, separate = study.blocks_trained, study.blocks_separate
    if not trained or not separate:
        return ""
    if trained == separate:
        return f"{trained:,.0f} trained, none shared"
    return (
        f"{trained:,.0f} trained instead of {separate:,.0f} ({separate / trained:.1f} times fewer)"
    )
