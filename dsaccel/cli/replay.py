"""`dsaccel replay`: searches on a landscape, without training."""

import os
from pathlib import Path
from typing import Annotated

import typer

from dsaccel.cli import options
from dsaccel.cli.common import consoles, print_json
from dsaccel.errors import ConfigError


def replay(
    table: Annotated[
        Path, typer.Argument(metavar="LANDSCAPE", help="What dsaccel landscape wrote.")
    ],
    strategy: Annotated[str, typer.Option(help="One or more: tpe,random,beam.")] = "tpe,random",
    n_trials: Annotated[int, typer.Option(help="Distinct hierarchies to train.", min=1)] = 40,
    cohort_size: Annotated[str, typer.Option(help="One or more: 1,4,8.")] = "1,4,8",
    beam_width: Annotated[str, typer.Option(help="Of strategy beam: 1,2,4.")] = "4",
    seeds: Annotated[int, typer.Option(help="Searches of each kind.", min=1)] = 100,
    pruning: Annotated[str, typer.Option(help="none, halving, or an Optuna pruner.")] = "none",
    prune_by: Annotated[
        str | None, typer.Option(help="head or output. Default: the study's.")
    ] = None,
    pruner_options: Annotated[
        list[str] | None,
        typer.Option("--pruner-option", metavar="KEY=VALUE", help="Of an Optuna pruner."),
    ] = None,
    reduction_factor: Annotated[
        float | None, typer.Option(help="Of halving. Default: the study's.")
    ] = None,
    grace_epochs: Annotated[
        int | None, typer.Option(help="The first rung. Default: the study's.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(help="Processes; changes no result. Default: one a core.", min=1)
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Draw regret against blocks: .html.")
    ] = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Replay searches on a landscape, without training.

    Shows regret (how far the best found is from the best) against blocks trained.
    """
    from dsaccel.analysis.landscape_files import read_landscape
    from dsaccel.analysis.replay_policies import policies, replay_policies
    from dsaccel.config.toml import parse_override
    from dsaccel.files import check_writable
    from dsaccel.report.replay import outcome_summary, outcome_table, write_replay

    if output is not None and not output.parent.is_dir():
        raise ConfigError(f"folder {output.parent} must exist to write {output.name} into it")
    if output is not None:
        check_writable(output)
    recorded = read_landscape(table)
    given = {
        "kind": pruning,
        "by": prune_by,
        "options": dict(map(parse_override, pruner_options or [])) or None,
        "reduction_factor": reduction_factor,
        "grace_epochs": grace_epochs,
    }
    asked = policies(recorded, strategy, cohort_size, n_trials, given, beam_width)
    console, out = consoles(as_json)
    outcomes = []
    for outcome in replay_policies(recorded, asked, seeds, jobs or os.cpu_count() or 1):
        outcomes.append(outcome)
        if not quiet:
            name = f"{outcome.policy.strategy}, cohorts of {outcome.policy.cohort_size}"
            console.print(f"{len(outcomes)}/{len(asked)}  {name}", highlight=False)
    if output is not None:
        write_replay(outcomes, table.name, output)
    if as_json:
        print_json({"landscape": str(table), "outcomes": list(map(outcome_summary, outcomes))})
        return
    out.print(outcome_table(outcomes).on_terminal())
    if output is not None:
        print(output)
