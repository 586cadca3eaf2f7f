"""`dsaccel replay`: searches on a landscape, without training."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dsaccel.cli.options import Given, LandscapeFile, takes
from dsaccel.cli.output import Output
from dsaccel.errors import ConfigError
from dsaccel.files import check_target, check_writable

if TYPE_CHECKING:
    from dsaccel.analysis.replay_policies import Outcome


@takes(
    *("pruning.by", "pruning.reduction_factor", "pruning.grace_epochs"),
    *("--set", "--jobs", "--trust-part", "--json", "--quiet"),
)
def replay(
    table: LandscapeFile,
    strategy: Annotated[str, typer.Option(help="One or more: tpe,random,beam.")] = "tpe,random",
    n_trials: Annotated[int, typer.Option(help="Distinct hierarchies to train.", min=1)] = 40,
    cohort_size: Annotated[str, typer.Option(help="One or more: 1,4,8.")] = "1,4,8",
    beam_width: Annotated[str, typer.Option(help="Of strategy beam: 1,2,4.")] = "4",
    seeds: Annotated[int, typer.Option(help="Searches of each kind.", min=1)] = 100,
    pruning: Annotated[str, typer.Option(help="none, halving, or an Optuna pruner.")] = "none",
    *,
    given: Given,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Draw regret against blocks: .html.")
    ] = None,
) -> None:
    """Replay searches on a landscape, without training.

    Shows regret (how far the best found is from the best) against blocks trained. The settings of
    pruning are the study's unless they are given.
    """
    from dsaccel.analysis.landscape_files import read_landscape
    from dsaccel.analysis.replay_policies import policies, replay_policies

    if output is not None:
        check_target(output)
        check_writable(output)
    recorded = read_landscape(table)
    rules = _pruning(given) | {"kind": pruning}
    asked = policies(recorded, strategy, cohort_size, n_trials, rules, beam_width)
    shown = given.output()
    outcomes = []
    for outcome in replay_policies(recorded, asked, seeds, given.jobs or os.cpu_count() or 1):
        outcomes.append(outcome)
        name = f"{outcome.policy.strategy}, cohorts of {outcome.policy.cohort_size}"
        shown.say(f"{len(outcomes)}/{len(asked)}  {name}")
    _show(outcomes, table, output, shown)


def _show(outcomes: "list[Outcome]", table: Path, output: Path | None, shown: Output) -> None:
    from dsaccel.report.replay import outcome_summary, outcome_table, write_replay

    if output is not None:
        write_replay(outcomes, table.name, output)
    if shown.as_json:
        summaries = list(map(outcome_summary, outcomes))
        shown.show_json({"landscape": str(table), "outcomes": summaries})
        return
    shown.show(outcome_table(outcomes))
    if output is not None:
        shown.show(str(output))


def _pruning(given: Given) -> dict[str, Any]:
    """The settings of `[pruning]` that were given."""
    tables: dict[str, Any] = {"pruning": {}}
    given.apply(tables)
    if others := sorted(tables.keys() - {"pruning"}):
        raise ConfigError(
            f"a replay prunes anew and trains nothing: --set takes pruning.KEY=VALUE, but got "
            f"{', '.join(others)}"
        )
    return tables["pruning"]
