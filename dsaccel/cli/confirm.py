"""`dsaccel confirm`: a study's winner, trained again with fresh seeds."""

from contextlib import closing, suppress
from typing import TYPE_CHECKING, Annotated

import typer

from dsaccel.cli.common import StudyName, stored_study
from dsaccel.cli.options import Given, takes
from dsaccel.cli.output import Output
from dsaccel.errors import ConfigError, UserError

if TYPE_CHECKING:
    from dsaccel.confirm.run import Confirm


@takes(
    *("confirm.top", "confirm.num_seeds", "confirm.controls", "confirm.tuning_trials"),
    *("--download", "--json", "--quiet"),
)
def confirm(
    study: StudyName,
    *,
    resolution: Annotated[
        float, typer.Option(help="Say how many seeds this many points would need.")
    ] = 0.5,
    given: Given,
) -> None:
    """Train the best again with fresh seeds; say what is noise.

    Run again to continue, or with more seeds or finalists to train what is missing. The decision
    is made on validation; the test split is read once for each network after it.
    """
    if not resolution > 0:
        raise ConfigError(f"--resolution must be above 0 points, but got {resolution}")
    from dsaccel.config.study import StudyConfig
    from dsaccel.config.toml import parse_config
    from dsaccel.confirm.run import Confirm
    from dsaccel.report.study_page import write_report
    from dsaccel.study.storage import quiet_optuna

    quiet_optuna()
    directory, config, stored = stored_study(study)
    tables = config.model_dump(mode="json", exclude_none=True)
    given.apply(tables)
    asked = parse_config(StudyConfig, tables, "the command line").confirm
    command = f"dsaccel confirm {study}"
    confirming = Confirm(config, directory, stored, asked, command=command, download=given.download)
    output = Output(as_json=given.as_json, quiet=given.quiet)
    run_confirmation(confirming, output, resolution / 100)
    write_report(stored, directory.report)
    show_confirmation(confirming, output, resolution / 100)


def run_confirmation(confirming: "Confirm", output: Output, resolution: float) -> None:
    """Run with progress; files are written as far as it came, also when it is cut off."""
    from dsaccel.report.confirmation import progress_line, progress_panel, write_confirmation
    from dsaccel.report.live import LiveView

    if confirming.is_finished:
        output.say("all of it is trained and read: the recorded confirmation is shown")
    elif not confirming.entrants.has_test:
        fresh = ", and no image is fresh" if confirming.entrants.val_is_given else ""
        output.say(f"no test split: the confirmation is on validation alone{fresh}")
    view = LiveView(output.progress, quiet=output.quiet)
    with view, closing(confirming.run()) as run:
        try:
            for progress in run:
                view.show(progress_panel(progress), progress_line(progress))
        except BaseException:
            with suppress(UserError):  # the first error is the one to tell
                write_confirmation(confirming, resolution)
            raise
    write_confirmation(confirming, resolution)


def show_confirmation(confirming: "Confirm", output: Output, resolution: float) -> None:
    """The outcome, as JSON or as a table with sentences."""
    from dsaccel.report.confirmation import (
        confirmation_summary,
        write_confirmation,
    )
    from dsaccel.report.confirmation_table import confirmation_table
    from dsaccel.report.verdict import sentences

    files = write_confirmation(confirming, resolution)
    files["report"] = confirming.directory.report.as_posix()
    if output.as_json:
        output.show_json(confirmation_summary(confirming, resolution) | {"files": files})
        return
    # the last column is for the width of a page
    table = confirmation_table(confirming.result).without_column(9)
    output.show(table, *sentences(confirming.result, resolution))
    output.show_files(files, width=18)
