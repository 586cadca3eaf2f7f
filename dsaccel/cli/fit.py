"""`dsaccel fit`: the best network for some images, a memory and a time."""

from typing import Annotated, Any

import typer

from dsaccel.cli.new import BUDGET, MEMORY, design_study, name_of
from dsaccel.cli.options import Given, takes
from dsaccel.errors import ConfigError


@takes(
    *("space.family", "runtime.device", "runtime.threads", "network.width", "training.epochs"),
    *("budget.n_trials", "--set", "--download", "--json", "--quiet"),
)
def fit(
    *,
    data: Annotated[
        str, typer.Option(help="A folder with train/CLASS/, or the name of a data set.")
    ],
    budget: Annotated[str, typer.Option(metavar="TIME", help=BUDGET)] = "1h",
    memory: Annotated[str | None, typer.Option(metavar="SIZE", help=MEMORY)] = None,
    name: Annotated[
        str | None, typer.Option(help="Writes to studies/NAME/. Default: the folder's name, -fit.")
    ] = None,
    given: Given,
) -> None:
    """Find and train the best network that fits a memory and a time.

    Searches a hierarchy layer-wise, and trains it and the family's standard by back-propagation,
    with checkpointing where that needs too much memory, and the winner with fewer cuts. The highest
    validation accuracy is chosen, whoever has it.
    """
    import time

    from dsaccel.api import Study
    from dsaccel.fit import SEARCH_SHARE, Fit
    from dsaccel.text import read_seconds

    output, seconds = given.output(), read_seconds(budget)
    started, study_name = time.perf_counter(), name or f"{name_of(data)}-fit"
    share = f"{SEARCH_SHARE * seconds:.3f}s"
    made = design_study(study_name, data, given, output, None, share, memory)
    made.tables["budget"]["baseline"] = False  # it is one of the contenders
    made.write()
    settings = {"budget.timeout_s": seconds * SEARCH_SHARE}
    study = Study.open(made.path, settings=settings, download=given.download)
    if study.folder.exists():
        raise ConfigError(f"{study.folder} exists already; choose another --name")
    output.run(study.search())
    study.check_winner()
    fitted = Fit(made, study, started + seconds)
    with output.watching():
        fitted.contend(output.say)
    files: dict[str, Any] = {
        "weights": fitted.weights.as_posix(),
        "config": fitted.config.as_posix(),
        "report": (study.folder / "report.html").as_posix(),
    }
    if given.as_json:
        told = [vars(outcome) for outcome in fitted.outcomes]
        output.show_json({"chosen": fitted.chosen.name, "outcomes": told, "files": files})
        return
    output.show(fitted.sentence())
    output.show_files(files)
