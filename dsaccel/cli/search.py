"""`dsaccel search`: run or continue a study."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dsaccel.cli.confirm import show_confirmation
from dsaccel.cli.new import study_of_images
from dsaccel.cli.options import LOG, WORKERS, Given, OptionalStudyName, logged, takes
from dsaccel.cli.output import Output

if TYPE_CHECKING:
    from dsaccel.api import Study


@takes(
    *("space.family", "data.name", "data.dir", "--download", "data.train_images"),
    *("budget.n_trials", "budget.strategy", "budget.cohort_size", "pruning.kind"),
    *("budget.against", "budget.timeout_s", "training.epochs", "training.batch_size"),
    *("training.learning_rate", "training.schedule", "network.granularity", "network.loss"),
    "network.output",
    *("network.width", "network.dropout", "runtime.device", "training.precision"),
    *("runtime.threads", "runtime.curves", "runtime.keep", "runtime.all_heads", "seed"),
    *("storage", "confirm.enabled"),
    *WORKERS,
    *("--set", "--trust-part", "--json", "--quiet", "--verbose"),
)
def search(
    study: OptionalStudyName = None,
    *,
    space: Annotated[str | None, typer.Option(help="A search space file, or its name.")] = None,
    study_name: Annotated[str | None, typer.Option(help="Write to studies/NAME/.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be trained, time and memory; no more.")
    ] = False,
    log: Annotated[Path | None, typer.Option(metavar="DIR", help=LOG)] = None,
    given: Given,
) -> None:
    """Search the best hierarchy; run again to continue.

    Settings that are not given are those of the study's file, else the defaults shown here. With
    --data, --family or --space and without a STUDY, a study file that fits the images is written
    first, as dsaccel new does. With none of them: handwritten digits, a minute and a half.
    """
    from dsaccel.api import Study
    from dsaccel.study.folder import StudyDir

    output = given.output()
    source: str | dict[str, Any] = study or "digits"
    if study is None and (space or {"data.name", "space.family"} & given.settings.keys()):
        names = given, space, study_name
        study_name, source = study_of_images(*names, output, dry_run=dry_run)
        space = None
    folder = None if study_name is None else StudyDir(study_name).path
    settings = given.values() | ({"runtime.curves": True} if log else {})
    searched = Study.open(
        source, folder=folder, space=space, settings=settings, download=given.download
    )
    if dry_run:
        _show_forecast(searched, output)
        return
    with logged(log) as callbacks:
        output.run(searched.search(callbacks=callbacks))
    (_show_json if given.as_json else _show)(searched, output)
    searched.check_winner()


def _show_forecast(study: "Study", output: Output) -> None:
    """Show what a search would do."""
    from dsaccel.report.forecast import forecast_table

    with output.watching():
        forecast = study.forecast()
    if output.as_json:
        output.show_json({"study": study.name} | forecast.summary())
    else:
        output.show(forecast_table(forecast), forecast.sentence())


def _show_json(study: "Study", output: Output) -> None:
    from dsaccel.analysis.pareto import read_front
    from dsaccel.report.confirmation import confirmation_summary
    from dsaccel.report.pareto import front_summary
    from dsaccel.report.results import search_summary
    from dsaccel.report.verdict import RESOLUTION

    summary: dict[str, Any] = search_summary(study.engine)
    if study.confirmer is not None:
        summary["confirmation"] = confirmation_summary(study.confirmer, RESOLUTION)
    costs = study.config.budget.costs
    if costs and study.best is not None:
        front = front_summary(read_front(study.record, costs), study.name)
        summary |= {key: front[key] for key in ("against", "front", "rivals")}
    output.show_json(summary)


def _show(study: "Study", output: Output) -> None:
    from dsaccel.analysis.pareto import read_front
    from dsaccel.report.pareto import front_table
    from dsaccel.report.results import result_files
    from dsaccel.report.study_table import headline, trials_table
    from dsaccel.report.verdict import RESOLUTION

    output.show(trials_table(study.record), headline(study.record))
    costs = study.config.budget.costs
    if costs and study.best is not None:
        output.show(front_table(read_front(study.record, costs)))
    files = result_files(study.engine.directory)
    output.show_files(files | {"dashboard": f"dsaccel dashboard {study.name}"})
    if study.confirmer is not None:
        show_confirmation(study.confirmer, output, RESOLUTION)
