"""`dsaccel confirm`: a study's winner, trained again with fresh seeds."""

import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from dsaccel.cli.options import WORKERS, Given, StudyName, takes
from dsaccel.cli.output import Output
from dsaccel.errors import ConfigError

if TYPE_CHECKING:
    from dsaccel.confirm.run import Confirm


@takes(
    *("confirm.top", "confirm.num_seeds", "confirm.controls", "confirm.tuning_trials"),
    "confirm.margin",
    *WORKERS,
    *("--trust-part", "--download", "--json", "--quiet"),
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
    from dsaccel.api import Study

    confirmed = Study.load(study, download=given.download)
    output, command = given.output(), shlex.join(["dsaccel", "confirm", study])
    steps = confirmed.confirm(
        resolution=resolution / 100,
        command=command,
        runtime=given.section("runtime"),
        **given.section("confirm"),
    )
    output.run(steps)
    assert confirmed.confirmer is not None
    show_confirmation(confirmed.confirmer, output, resolution / 100)


def show_confirmation(confirming: "Confirm", output: Output, resolution: float) -> None:
    """The outcome, as JSON or as a table with sentences."""
    from dsaccel.report.confirmation import confirmation_summary, write_confirmation
    from dsaccel.report.confirmation_table import confirmation_table
    from dsaccel.report.verdict import sentences

    files = write_confirmation(confirming, resolution)
    files["report"] = confirming.directory.report.as_posix()
    if output.as_json:
        output.show_json(confirmation_summary(confirming, resolution) | {"files": files})
        return
    output.show(
        confirmation_table(confirming.record.result),
        *sentences(confirming.record.result, resolution),
    )
    output.show_files(files, width=18)
