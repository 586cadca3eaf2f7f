"""`dsaccel confirm`: a study's winner, trained again with fresh seeds."""

from contextlib import closing, suppress
from typing import TYPE_CHECKING, Annotated

import typer

from dsaccel.cli import options
from dsaccel.cli.common import StudyName, consoles, print_json, stored_study
from dsaccel.errors import ConfigError, UserError

if TYPE_CHECKING:
    from rich.console import Console

    from dsaccel.confirm.run import Confirm
    from dsaccel.search.engine import Search


def confirm(
    study: StudyName,
    top: Annotated[int | None, typer.Option(help="Finalists. Default: 3.")] = None,
    seeds: Annotated[int | None, typer.Option(help="Fresh seeds. Default: 5.")] = None,
    controls: Annotated[
        bool | None,
        typer.Option(
            "--controls/--no-controls", help="Controls for parameters, local losses and width."
        ),
    ] = None,
    tuning_trials: Annotated[
        int | None,
        typer.Option(
            help="Settings tried for global back-propagation. Default: as many as layer-wise."
        ),
    ] = None,
    resolution: Annotated[
        float, typer.Option(help="Say how many seeds this many points would need.")
    ] = 0.5,
    download: options.Download = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train the best again with fresh seeds; say what is noise.

    Run again to continue, or with more seeds or finalists to train what is missing. The decision
    is made on validation; the test split is read once for each network after it.
    """
    if not resolution > 0:
        raise ConfigError(f"--resolution must be above 0 points, but got {resolution}")
    from dsaccel.config.study import ConfirmConfig
    from dsaccel.config.toml import parse_config
    from dsaccel.confirm.run import Confirm
    from dsaccel.report.study_page import write_report
    from dsaccel.study.storage import quiet_optuna

    quiet_optuna()
    directory, config, stored = stored_study(study)
    given = {
        "top": top,
        "num_seeds": seeds,
        "controls": controls,
        "tuning_trials": tuning_trials,
    }
    tables = config.confirm.model_dump(exclude_none=True)
    tables |= {key: value for key, value in given.items() if value is not None}
    asked = parse_config(ConfirmConfig, tables, "the command line")
    command = f"dsaccel confirm {study}"
    confirming = Confirm(config, directory, stored, asked, command=command, download=download)
    console, out = consoles(as_json)
    run_confirmation(confirming, console, resolution / 100, quiet=quiet)
    write_report(stored, directory.report)
    show_confirmation(confirming, out, resolution / 100, as_json=as_json)


def confirm_search(
    searching: "Search", console: "Console", *, download: bool, quiet: bool
) -> "Confirm":
    """Confirm a search that has just been finished."""
    from dsaccel.confirm.run import Confirm
    from dsaccel.report.verdict import RESOLUTION

    confirming = Confirm(
        searching.config,
        searching.directory,
        searching.study,
        searching.config.confirm,
        command=searching.directory.search_command("--confirm"),
        download=download,
    )
    run_confirmation(confirming, console, RESOLUTION, quiet=quiet)
    return confirming


def run_confirmation(
    confirming: "Confirm", console: "Console", resolution: float, *, quiet: bool
) -> None:
    """Run with progress; files are written as far as it came, also when it is cut off."""
    from dsaccel.report.confirmation import progress_line, progress_panel, write_confirmation
    from dsaccel.report.live import LiveView

    if confirming.is_finished:
        if not quiet:
            console.print("all of it is trained and read: the recorded confirmation is shown")
    elif not confirming.entrants.has_test and not quiet:
        fresh = ", and no image is fresh" if confirming.entrants.val_is_given else ""
        console.print(f"no test split: the confirmation is on validation alone{fresh}")
    with LiveView(console, quiet=quiet) as view, closing(confirming.run()) as run:
        try:
            for progress in run:
                view.show(progress_panel(progress), progress_line(progress))
        except BaseException:
            with suppress(UserError):  # the first error is the one to tell
                write_confirmation(confirming, resolution)
            raise
    write_confirmation(confirming, resolution)


def show_confirmation(
    confirming: "Confirm", out: "Console", resolution: float, *, as_json: bool
) -> None:
    """The outcome, as JSON or as a table with sentences."""
    from dsaccel.report.confirmation import (
        confirmation_summary,
        write_confirmation,
    )
    from dsaccel.report.confirmation_table import confirmation_table
    from dsaccel.report.verdict import sentences

    files = write_confirmation(confirming, resolution)
    files["report"] = confirming.directory.report.as_posix()
    if as_json:
        print_json(confirmation_summary(confirming, resolution) | {"files": files})
        return
    # the last column is for the width of a page
    out.print(confirmation_table(confirming.result).without_column(9).on_terminal())
    for line in sentences(confirming.result, resolution):
        out.print(line, highlight=False)
    for label, path in files.items():
        out.print(f"{label:>18}  {path}", highlight=False, soft_wrap=True)
