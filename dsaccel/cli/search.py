"""`dsaccel search`: run or continue a study."""

from contextlib import closing, suppress
from typing import Annotated

import typer

from dsaccel.cli import options
from dsaccel.cli.common import StudyName, consoles, print_json
from dsaccel.errors import UserError


def search(
    study: StudyName = "digits",
    space: Annotated[str | None, typer.Option(help="A search space file, or its name.")] = None,
    family: options.Family = None,
    data: options.Data = None,
    data_dir: options.DataDir = None,
    download: options.Download = False,
    train_images: options.TrainImages = None,
    n_trials: Annotated[
        int | None, typer.Option(help="Distinct hierarchies to train, over all runs of the study.")
    ] = None,
    strategy: Annotated[
        str | None,
        typer.Option(
            help="exhaustive, tpe, gp, nsga2, random, beam. Default: exhaustive if the space fits "
            "n-trials, else tpe."
        ),
    ] = None,
    cohort_size: Annotated[
        int | None, typer.Option(help="Hierarchies trained together, sharing their prefixes.")
    ] = None,
    pruning: Annotated[
        str | None,
        typer.Option(help="halving, percentile, none, or an Optuna pruner, as MedianPruner."),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            help="Weigh accuracy against parameters, flops, losses, memory or gap (to global)."
        ),
    ] = None,
    timeout: Annotated[float | None, typer.Option(help="Stop after this many seconds.")] = None,
    epochs: options.Epochs = None,
    batch_size: options.BatchSize = None,
    learning_rate: options.LearningRate = None,
    schedule: options.Schedule = None,
    granularity: options.Granularity = None,
    loss: options.Loss = None,
    width: options.Width = None,
    dropout: options.Dropout = None,
    device: options.Device = None,
    precision: options.Precision = None,
    threads: options.Threads = None,
    seed: options.Seed = None,
    storage: Annotated[str | None, typer.Option(help="Optuna storage URL.")] = None,
    confirm: Annotated[
        bool | None,
        typer.Option(
            "--confirm/--no-confirm",
            help="Train the winners again with fresh seeds at the end, as dsaccel confirm does.",
        ),
    ] = None,
    study_name: Annotated[str | None, typer.Option(help="Write to studies/NAME/.")] = None,
    settings: options.Settings = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Search the best hierarchy; run again to continue. Default: handwritten digits."""
    given = dict(locals())
    from dsaccel.config.study import StudyConfig
    from dsaccel.config.toml import parse_config
    from dsaccel.study.folder import StudyDir, find_space, find_study

    name, tables = find_study(study)
    directory = StudyDir(study_name or name)
    if space is not None:
        tables["space"] = find_space(space)
    options.apply(tables, given)
    config = parse_config(StudyConfig, tables, study)

    from dsaccel.cli.confirm import confirm_search, show_confirmation
    from dsaccel.confirm.verdict import RESOLUTION
    from dsaccel.errors import NoResultError
    from dsaccel.report.confirm_tables import confirmation_summary
    from dsaccel.report.live import ProgressView
    from dsaccel.report.pareto import find_cost, front_summary, front_table, pareto_points
    from dsaccel.report.results import search_summary, write_results
    from dsaccel.report.study_table import headline, trials_table
    from dsaccel.search.engine import Search
    from dsaccel.search.suggestions import MAX_DRAWS
    from dsaccel.study.rows import best_trial
    from dsaccel.study.storage import quiet_optuna, redact

    console, out = consoles(as_json)
    quiet_optuna()
    searching = Search(config, directory, download=download)
    if not searching.data.has_test and not quiet:
        console.print(f"{config.data.name}: no test split; results are validation accuracies")
    if searching.is_finished:
        stands = "has nothing to propose" if searching.meets_no_more else "is finished"
        trained = f"{searching.num_trained} hierarchies"
        console.print(f"study {directory.name} {stands}: {trained} trained; nothing to do")
    else:
        with (
            ProgressView(console, quiet=quiet, verbose=verbose) as view,
            closing(searching.run()) as run,
        ):
            try:
                for progress in run:
                    view.update(progress)
            except BaseException:
                with suppress(UserError):  # the first error is the one to tell
                    write_results(searching)
                raise
    if searching.is_exhausted and not quiet:
        console.print(f"all {searching.space.size} feasible hierarchies are trained")
    meets_no_more = searching.meets_no_more
    if meets_no_more and not quiet:
        way_out = (
            "widen its measured bounds, or narrow num_blocks and settings to where they hold, "
            "under another --study-name"
            if searching.space.is_measured
            else "all that differ may be trained"
        )
        console.print(
            f"of {MAX_DRAWS} hierarchies drawn none was feasible and new, and the space is too "
            f"large to list; {way_out}"
        )
    confirming = None
    is_finished, best = searching.is_finished, best_trial(searching.study)
    if searching.config.confirm.enabled and is_finished and best is not None:
        write_results(searching)
        confirming = confirm_search(searching, console, download=download, quiet=quiet)
    files = write_results(searching)
    against = searching.config.budget.against
    if as_json:
        summary = search_summary(searching, files)
        if confirming is not None:
            summary["confirmation"] = confirmation_summary(confirming, RESOLUTION)
        if against is not None and best is not None:
            points = pareto_points(searching.study, find_cost(against))
            front = front_summary(points, directory.name, against)
            summary |= {key: front[key] for key in ("against", "front")}
        print_json(summary)
    else:
        out.print(trials_table(searching.study))
        out.print(headline(searching.study))
        if against is not None and best is not None:
            cost = find_cost(against)
            out.print(front_table(pareto_points(searching.study, cost), cost))
        for label, path in files.items():
            out.print(f"{label:>10}  {path}", highlight=False, soft_wrap=True)
        out.print(
            f"{'dashboard':>10}  optuna-dashboard {redact(searching.url)}",
            highlight=False,
            soft_wrap=True,
        )
        if confirming is not None:
            show_confirmation(confirming, out, RESOLUTION, as_json=False)
    if is_finished and best is None:
        more = "train more with a larger --n-trials, or "
        if meets_no_more:
            more = "widen the measured bounds or " if searching.space.is_measured else ""
        elif searching.is_exhausted:
            more = ""
        raise NoResultError(
            f"study {directory.name} must end with a finished hierarchy within its constraint, but "
            f"none of {searching.num_trained} is; {more}prune less under another --study-name"
        )
