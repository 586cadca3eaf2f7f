"""A confirmation as a table."""

from dsaccel.confirm.result import Confirmation
from dsaccel.report.table import RowStyle, Table
from dsaccel.report.verdict import difference_text, role_text, summary_text
from dsaccel.text import amount

HEADINGS = (
    *("network", "role", "trained", "parameters", "n", "validation", "test"),
    *("to the best", "to the reference", "to global"),
)
CAPTION = (
    "points (95 % interval) on validation, ? where one cannot be judged; ± is the standard "
    "deviation over n seeds"
)


def confirmation_table(confirmation: Confirmation) -> Table:
    """A row for each network and mode, layer-wise ones first."""
    rows: list[tuple[str, ...]] = []
    styles: list[RowStyle] = []
    results = confirmation.results()
    for result in results:
        is_best = result.mode == "local" and result.entry.name == confirmation.best
        best, reference, glob = (
            difference_text(result.comparisons.get(("val", against)))
            for against in ("best", "reference", "global")
        )
        rows.append(
            (
                result.entry.name,
                role_text(result),
                {"local": "layer-wise", "global": "global"}[result.mode],
                amount(result.entry.num_parameters),
                str(result.accuracies["val"].n),
                summary_text(result.accuracies["val"]),
                summary_text(result.accuracies.get("test")),
                "best" if is_best else best,
                reference,
                glob,
            )
        )
        styles.append("best" if is_best else "")
    num_local = sum(result.mode == "local" for result in results)
    return Table(
        HEADINGS,
        rows,
        styles,
        caption=CAPTION,
        words=(0, 1, 2),
        wide=(1, 7, 8, 9),
        breaks=(num_local,),
    )
