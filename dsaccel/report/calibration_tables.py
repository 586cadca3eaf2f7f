"""A calibration in words, as tables, as JSON, as settings."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tomli_w
from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from dsaccel.analysis.agreement import (
    MIN_SEEDS,
    Agreement,
    By,
    Fidelity,
    Importance,
    RungAgreement,
    StageAgreement,
)
from dsaccel.analysis.pruning_advice import Advice, advise
from dsaccel.config.study import PruningConfig
from dsaccel.files import write_text
from dsaccel.search.pruners import rung_steps
from dsaccel.statistics import Interval

MAX_ROWS = 8
"""Rungs in a terminal; the page and the JSON have all."""
NAMES: dict[By, str] = {"head": "the deepest local head", "output": "the output layer"}


@dataclass(frozen=True)
class Calibrated:
    """All that a calibration comes to."""

    fidelity: Fidelity
    ceiling: Interval
    rungs: list[RungAgreement]
    stages: list[StageAgreement]
    importances: list[Importance]
    advice: Advice


def calibrated(fidelity: Fidelity) -> Calibrated:
    """Compute everything; seconds."""
    return Calibrated(
        fidelity,
        fidelity.ceiling(),
        list(fidelity.rungs()),
        list(fidelity.stages()),
        list(fidelity.importances()),
        advise(fidelity),
    )


def pruning_table(result: Calibrated) -> dict[str, Any]:
    """The section `pruning` of a study file that follows."""
    setting = result.advice.setting
    if setting is None:
        return {"kind": "none"}
    keys = {"kind", "by", "reduction_factor", "grace_epochs"}
    return setting.pruning.model_dump(mode="json", include=keys, exclude_none=True)


def write_pruning(result: Calibrated, path: Path) -> None:
    """Write the settings as a piece of a study file."""
    words = "".join(f"# {sentence}\n" for sentence in verdict(result))
    write_text(path, words + tomli_w.dumps({"pruning": pruning_table(result)}))


def verdict(result: Calibrated) -> list[str]:
    """What it means, in sentences."""
    fidelity, advice = result.fidelity, result.advice
    num_seeds, step = len(fidelity.seeds), fidelity.step_name
    words = [
        f"{len(fidelity.hierarchies)} hierarchies, {num_seeds} seeds; the best {fidelity.num_top} "
        "of a final ranking count as its top."
    ]
    if num_seeds < MIN_SEEDS:
        return [*words, f"Nothing is called trustworthy on fewer than {MIN_SEEDS} seeds."]
    words += [
        f"Intervals come from resampling {num_seeds} seeds. With so few they are about the range "
        f"of the single values, and miss the median of all seeds {_miss(num_seeds)} of the time.",
        f"A seed moves a hierarchy's final accuracy by {100 * fidelity.noise:.2f} points (standard "
        f"deviation), and final rankings of different seeds agree with tau-b "
        f"{_interval(result.ceiling)}: no rung can tell much more of another run.",
    ]
    for by, first in advice.first.items():
        on = f"from {step} {first} on" if first is not None else f"at no {step}"
        words.append(f"Ranked by {NAMES[by]}, halving by factor 2 can be trusted {on}.")
    if advice.setting is None:
        words.append("No settings that were tried can be trusted: do not prune.")
    else:
        setting = advice.setting
        words.append(
            f"The settings below ({_rungs_words(setting.pruning, fidelity)}) would have trained "
            f"{100 * setting.work:.0f} % of all, each hierarchy counted by itself (where blocks "
            f"are shared less is saved), and kept {_interval(setting.kept)} of the top; their best "
            f"trails the best of all by {_interval(setting.loss, 100)} points. They were chosen on "
            "these same runs."
        )
    for row in result.stages[:-1]:
        words.append(_stage_words(row))
    return words


def _rungs_words(pruning: PruningConfig, fidelity: Fidelity) -> str:
    """With another factor there are other rungs, and fewer or more at which to err."""
    config = fidelity.landscape.config
    steps = rung_steps(pruning, config.training, len(config.space.num_blocks))
    at = f"rungs at {fidelity.step_name} {', '.join(map(str, steps))}"
    return f"factor {pruning.reduction_factor:g}, {at}"


def calibration_tables(result: Calibrated) -> Group:
    """What `dsaccel calibrate` prints."""
    step = result.fidelity.step_name
    hidden = 4  # for the width of a terminal
    tables = [
        _table(
            f"Rungs, ranked by {NAMES[by]}",
            agreement_headings(step, result.fidelity.num_top),
            [(str(row.step), *cells(row.agreement)) for row in _few(rows)],
            hidden,
        )
        for by, rows in by_ranking(result)
    ]
    tables.append(
        _table(
            "Last head of each stage, fully trained",
            agreement_headings("stage", result.fidelity.num_top),
            [(str(row.stage), *cells(row.agreement)) for row in result.stages],
            hidden,
        )
    )
    tables.append(
        _table(
            "Importance of stages for the final accuracy",
            ("stage", "share of variance", "by chance", "one more block, points"),
            [_importance_cells(row) for row in result.importances],
        )
    )
    return Group(*tables)


def calibration_summary(result: Calibrated) -> dict[str, Any]:
    """What `dsaccel calibrate --json` prints; intervals as mean, low and high."""
    fidelity, advice = result.fidelity, result.advice
    return {
        "seeds": list(fidelity.seeds),
        "num_hierarchies": len(fidelity.hierarchies),
        "num_top": fidelity.num_top,
        "noise": fidelity.noise,
        "ceiling": asdict(result.ceiling),
        "rungs": [asdict(row) for row in result.rungs],
        "stages": [asdict(row) for row in result.stages],
        "importances": [asdict(row) for row in result.importances],
        "trusted_from": dict(advice.first),
        "pruning": pruning_table(result),
        "expected": advice.setting
        and {
            "loss": asdict(advice.setting.loss),
            "kept": asdict(advice.setting.kept),
            "work": advice.setting.work,
        },
        "verdict": verdict(result),
    }


def by_ranking(result: Calibrated) -> list[tuple[By, list[RungAgreement]]]:
    """The rungs of each ranking that has more than the last one."""
    groups: list[tuple[By, list[RungAgreement]]] = []
    for by in ("head", "output"):
        rows = [row for row in result.rungs if row.by == by]
        if len(rows) > 1 or result.fidelity.landscape.num_steps == 1:
            groups.append((by, rows))
    return groups


def _few(rows: list[RungAgreement]) -> list[RungAgreement]:
    """At most so many as a terminal shows, the first and the last among them."""
    if len(rows) <= MAX_ROWS:
        return rows
    places = {round(i * (len(rows) - 1) / (MAX_ROWS - 1)) for i in range(MAX_ROWS)}
    return [rows[place] for place in sorted(places)]


def _stage_words(row: StageAgreement) -> str:
    own = row.agreement.own
    if own.high < 0:
        verb = "misleads: what ranks high there ends low"
    elif own.low <= 0:
        verb = "says nothing of the final ranking"
    else:
        verb = "foretells the final ranking in part"
    return f"The last head of stage {row.stage} {verb} (tau-b {_interval(own)})."


def _miss(num_seeds: int) -> str:
    """How often all of so many values lie on one side of the median."""
    return f"{100 * 0.5 ** (num_seeds - 1):.0f} %"


def agreement_headings(what: str, num_top: int) -> tuple[str, ...]:
    return (
        what,
        "tau-b, own run",
        "tau-b, other seeds",
        f"top {num_top} recalled",
        "in better half",
        "halving loses, points",
    )


def cells(a: Agreement) -> tuple[str, ...]:
    shares = (_interval(i) for i in (a.own, a.other, a.recall, a.kept))
    return (*shares, _interval(a.loss, 100))


def _importance_cells(row: Importance) -> tuple[str, ...]:
    share, slope = _interval(row.share), _interval(row.slope, 100)
    return (str(row.stage), share, f"{row.chance:.2f}", slope)


def _interval(interval: Interval, factor: float = 1) -> str:
    mean, low, high = (factor * v for v in (interval.mean, interval.low, interval.high))
    return f"{mean:.2f} [{low:.2f}, {high:.2f}]"


def _table(
    title: str, headings: Sequence[str], rows: list[tuple[str, ...]], hidden: int | None = None
) -> Table:
    """A table without its column `hidden`."""
    shown = [i for i in range(len(headings)) if i != hidden]
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for i in shown:
        table.add_column(headings[i], justify="right")
    for row in rows:
        table.add_row(*(Text(row[i]) for i in shown))
    return table
