"""`dsaccel fit`: the best network for some images, a memory and a time."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from dsaccel.cli.new import BUDGET, MEMORY, design_study, name_of
from dsaccel.cli.options import Given, takes
from dsaccel.errors import ConfigError

if TYPE_CHECKING:
    from dsaccel.api import Study
    from dsaccel.fit import Begun


@takes(
    *("space.family", "runtime.device", "runtime.threads", "network.width", "training.epochs"),
    *("budget.n_trials", "runtime.all_heads", "--set", "--download", "--json", "--quiet"),
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
    validation accuracy is chosen, whoever has it. Run again to continue what was stopped, with the
    whole time anew.
    """
    import time

    from dsaccel.fit import SEARCH_SHARE, Fit
    from dsaccel.text import read_seconds

    started, output = time.perf_counter(), given.output()
    seconds = read_seconds(budget)
    begun, study = _begin(
        name or f"{name_of(data)}-fit", data, given, SEARCH_SHARE * seconds, memory
    )
    output.run(study.search())
    study.check_winner()
    fitted = Fit(begun, study, started + seconds)
    with output.watching():
        fitted.contend(output.say)
    if given.as_json:
        told = [vars(outcome) for outcome in fitted.outcomes]
        output.show_json({"chosen": fitted.chosen.name, "outcomes": told, "files": fitted.files})
        return
    output.show(fitted.sentence())
    output.show_files(fitted.files)


def _begin(
    name: str, data: str, given: Given, seconds: float, memory: str | None
) -> "tuple[Begun, Study]":
    """Write the study that is searched, unless it was before, and open it."""
    from dsaccel.api import Study
    from dsaccel.fit import Begun
    from dsaccel.study.folder import STUDIES, StudyDir

    asked = {"data": data, "seconds": seconds, "memory": memory, "settings": given.values()}
    path, begun = STUDIES / f"{name}.toml", Begun.read(StudyDir(name), asked)
    if begun is None or not path.is_file():
        begun = _new(name, data, given, seconds, memory, asked, is_begun=begun is not None)
    settings = {"budget.timeout_s": seconds}
    return begun, Study.open(path, settings=settings, download=given.download)


def _new(
    name: str,
    data: str,
    given: Given,
    seconds: float,
    memory: str | None,
    asked: dict[str, Any],
    *,
    is_begun: bool,
) -> "Begun":
    from dsaccel.fit import Begun
    from dsaccel.study.folder import StudyDir

    folder = StudyDir(name).path
    if folder.exists() and not is_begun:
        raise ConfigError(f"{folder} exists already; choose another --name")
    made = design_study(name, data, given, given.output(), None, f"{seconds:.3f}s", memory)
    made.tables["budget"]["baseline"] = False  # it is one of the contenders
    begun = Begun(folder / "fit.json", asked, made.forecast.pace)
    begun.write()  # first: what is asked again goes on from wherever this ends
    made.write()
    if made.remark is not None:
        given.output().say(made.remark)
    return begun
