"""`dsaccel search`: run or continue a study."""

from contextlib import closing, suppress
from typing import TYPE_CHECKING, Annotated

import typer

from dsaccel.cli.common import StudyName
from dsaccel.cli.confirm import run_confirmation, show_confirmation
from dsaccel.cli.options import Given, takes
from dsaccel.cli.output import Output
from dsaccel.errors import UserError

if TYPE_CHECKING:
    from dsaccel.confirm.run import Confirm
    from dsaccel.search.engine import Search


@takes(
    *("space.family", "data.name", "data.dir", "--download", "data.train_images"),
    *("budget.n_trials", "budget.strategy", "budget.cohort_size", "pruning.kind"),
    *("budget.against", "budget.timeout_s", "training.epochs", "training.batch_size"),
    *("training.learning_rate", "training.schedule", "network.granularity", "network.loss"),
    *("network.width", "network.dropout", "runtime.device", "training.precision"),
    *("runtime.threads", "seed", "storage", "confirm.enabled"),
    *("--set", "--json", "--quiet", "--verbose"),
)
def search(
    study: StudyName = "digits",
    *,
    space: Annotated[str | None, typer.Option(help="A search space file, or its name.")] = None,
    study_name: Annotated[str | None, typer.Option(help="Write to studies/NAME/.")] = None,
    given: Given,
) -> None:
    """Search the best hierarchy; run again to continue. Default: handwritten digits.

    Settings that are not given are those of the study's file, else the defaults shown here.
    """
    searching = _open(study, space, study_name, given)

    from dsaccel.confirm.run import Confirm
    from dsaccel.report.results import write_results
    from dsaccel.report.verdict import RESOLUTION
    from dsaccel.search.outcome import after_training, check_winner, should_confirm

    output = Output(as_json=given.as_json, quiet=given.quiet, verbose=given.verbose)
    _train(searching, output)
    for line in after_training(searching):
        output.say(line)
    confirming = None
    if should_confirm(searching):
        write_results(searching)
        confirming = Confirm(
            searching.config,
            searching.directory,
            searching.study,
            searching.config.confirm,
            command=searching.directory.search_command("--confirm"),
            download=given.download,
        )
        run_confirmation(confirming, output, RESOLUTION)
    files = write_results(searching)
    (_show_json if given.as_json else _show)(searching, confirming, files, output)
    check_winner(searching)


def _open(study: str, space: str | None, study_name: str | None, given: Given) -> "Search":
    from dsaccel.config.study import StudyConfig
    from dsaccel.config.toml import parse_config
    from dsaccel.study.folder import StudyDir, find_space, find_study

    name, tables = find_study(study)
    directory = StudyDir(name if study_name is None else study_name)
    if space is not None:
        tables["space"] = find_space(space)
    given.apply(tables)
    config = parse_config(StudyConfig, tables, study)

    from dsaccel.search.setup import open_search
    from dsaccel.study.storage import quiet_optuna

    quiet_optuna()
    return open_search(config, directory, download=given.download)


def _train(searching: "Search", output: Output) -> None:
    """Run with progress; files are written as far as it came, also when it is cut off."""
    from dsaccel.report.live import ProgressView
    from dsaccel.report.results import write_results
    from dsaccel.search.outcome import before_training

    for line in before_training(searching):
        output.say(line)
    if searching.is_finished:
        stands = "has nothing to propose" if searching.meets_no_more else "is finished"
        name, trained = searching.directory.name, f"{searching.num_trained} hierarchies trained"
        output.progress.print(f"study {name} {stands}: {trained}; nothing to do")
        return
    view = ProgressView(output.progress, quiet=output.quiet, verbose=output.verbose)
    with view, closing(searching.run()) as run:
        try:
            for progress in run:
                view.update(progress)
        except BaseException:
            with suppress(UserError):  # the first error is the one to tell
                write_results(searching)
            raise


def _show_json(
    searching: "Search", confirming: "Confirm | None", files: dict[str, str], output: Output
) -> None:
    from dsaccel.analysis.pareto import find_cost, pareto_points
    from dsaccel.report.confirmation import confirmation_summary
    from dsaccel.report.pareto import front_summary
    from dsaccel.report.results import search_summary
    from dsaccel.report.verdict import RESOLUTION
    from dsaccel.study.rows import best_trial

    summary = search_summary(searching, files)
    if confirming is not None:
        summary["confirmation"] = confirmation_summary(confirming, RESOLUTION)
    against = searching.config.budget.against
    if against is not None and best_trial(searching.study) is not None:
        points = pareto_points(searching.study, find_cost(against))
        front = front_summary(points, searching.directory.name, against)
        summary |= {key: front[key] for key in ("against", "front")}
    output.show_json(summary)


def _show(
    searching: "Search", confirming: "Confirm | None", files: dict[str, str], output: Output
) -> None:
    from dsaccel.analysis.pareto import find_cost, pareto_points
    from dsaccel.report.pareto import front_table
    from dsaccel.report.study_table import headline, trials_table
    from dsaccel.report.verdict import RESOLUTION
    from dsaccel.study.rows import best_trial
    from dsaccel.study.storage import redact

    output.show(trials_table(searching.study), headline(searching.study))
    against = searching.config.budget.against
    if against is not None and best_trial(searching.study) is not None:
        cost = find_cost(against)
        output.show(front_table(pareto_points(searching.study, cost), cost))
    output.show_files(files | {"dashboard": f"optuna-dashboard {redact(searching.url)}"})
    if confirming is not None:
        show_confirmation(confirming, output, RESOLUTION)
