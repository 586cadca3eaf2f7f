"""The confirmation's part of a study's page: sentences and a table; every text is escaped."""

from html import escape

from dsaccel.confirm.result import Confirmation
from dsaccel.confirm.verdict import RESOLUTION, difference_text, role_text, sentences, summary_text
from dsaccel.text import count

HEADINGS = (
    *("network", "validation", "trained as", "test", "seeds", "parameters"),
    *("to the best", "to the reference", "to global"),
)
CAPTION = (
    "Finalists, references and controls trained again with fresh seeds. A dot is the mean "
    "difference from the best finalist over the seeds, paired; the line its 95 % interval. "
    "Without a line, and with ? in the table: it was measured once, or is the same at every seed, "
    "and cannot be judged."
)


def confirmation_html(confirmation: Confirmation | None) -> str:
    """What stands above the picture; empty if there is no confirmation."""
    if confirmation is None:
        return ""
    said = "".join(f"<li>{escape(line)}</li>" for line in sentences(confirmation, RESOLUTION))
    head = "".join(f"<th>{name}</th>" for name in HEADINGS)
    lines = []
    for result in confirmation.results():
        is_best = result.mode == "local" and result.entry.name == confirmation.best
        cells = (
            result.entry.name,
            summary_text(result.accuracies["val"]),
            {"local": "layer-wise", "global": "global"}[result.mode],
            summary_text(result.accuracies.get("test")),
            str(result.accuracies["val"].n),
            count(result.entry.num_parameters),
            "best" if is_best else difference_text(result.comparisons.get(("val", "best"))),
            difference_text(result.comparisons.get(("val", "reference"))),
            difference_text(result.comparisons.get(("val", "global"))),
        )
        role = f'<div class="role">{escape(role_text(result))}</div>'
        name, *others = (escape(cell) for cell in cells)
        body = f"<td>{name}{role}</td>" + "".join(f"<td>{cell}</td>" for cell in others)
        lines.append(f'<tr class="{"best" if is_best else ""}">{body}</tr>')
    return (
        f"<ul>{said}</ul>"
        f'<div class="scroll"><table class="confirmation"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )
