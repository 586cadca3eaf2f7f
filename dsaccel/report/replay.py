"""Replayed searches on a terminal, as JSON and on a page."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from dsaccel.analysis.replay_policies import Outcome
from dsaccel.report.figures.replay import replay_figure
from dsaccel.report.page import Section, write_page
from dsaccel.report.table import Table, interval_text

HEADINGS = (
    "strategy",
    "cohort",
    "regret, points",
    "random, points",
    "found, %",
    "blocks",
    "of all",
)
NOTE = (
    "Means over seeds with 95 % intervals in brackets: t intervals, Wilson's for the share of "
    "seeds that found the optimum. Random: the regret of random search that has trained as many "
    "blocks. Last column: blocks trained over those of the whole space in one trie."
)


def outcome_table(outcomes: Sequence[Outcome]) -> Table:
    """A row a policy."""
    return Table(HEADINGS, [_cells(outcome) for outcome in outcomes], caption=NOTE)


def outcome_summary(outcome: Outcome) -> dict[str, Any]:
    """An outcome for `dsaccel replay --json`: estimates as mean, low and high."""
    policy = outcome.policy
    estimates = ("regret", "found", "blocks", "blocks_share")
    return {
        "strategy": policy.strategy,
        "cohort_size": policy.cohort_size,
        "n_trials": policy.n_trials,
        "pruning": policy.pruning.kind,
        "beam_width": policy.beam_width,
        "num_seeds": outcome.num_seeds,
        **{name: asdict(getattr(outcome, name)) for name in estimates},
        "random_regret": outcome.random and asdict(outcome.random),
    }


def write_replay(outcomes: Sequence[Outcome], landscape_name: str, path: Path) -> None:
    """Write the page, whole or not at all."""
    policy = outcomes[0].policy
    about = (
        f"{landscape_name}: {outcomes[0].num_seeds} search seeds, {policy.n_trials} trials, "
        f"pruning {policy.pruning.kind}"
    )
    more = (
        f"{NOTE} A band is the interval of the mean regret. A block that is trained for half of "
        "the schedule counts a half."
    )
    table = replace(outcome_table(outcomes), caption=more)
    sections = [Section(figure=replay_figure(outcomes), name="replay"), Section(table=table)]
    write_page(path, "Regret against blocks trained", sections, about=about)


def _cells(outcome: Outcome) -> tuple[str, ...]:
    return (
        " ".join(map(str, filter(None, (outcome.policy.strategy, outcome.policy.beam_width)))),
        str(outcome.policy.cohort_size),
        interval_text(outcome.regret, 100, 2),
        "-" if outcome.random is None else interval_text(outcome.random, 100, 2),
        interval_text(outcome.found, 100, 0),
        interval_text(outcome.blocks, 1, 1),
        f"{100 * outcome.blocks_share.mean:.0f} %",
    )
