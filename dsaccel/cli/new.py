"""`dsaccel new`: a study file for one's own images."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dsaccel.cli.options import Given, takes
from dsaccel.cli.output import Output
from dsaccel.errors import ConfigError

if TYPE_CHECKING:
    from dsaccel.search.new_study import NewStudy

BUDGET = "Time that the search may take, as 2h or 90min: chooses epochs and, if need be, width."
MEMORY = "What training may take, as 4GiB: networks that need more are left out."


@takes("space.family", "runtime.device", "--download", "--json", "--quiet")
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Writes studies/NAME.toml.")],
    *,
    data: Annotated[
        str, typer.Option(help="A folder with train/CLASS/, or the name of a data set.")
    ],
    space: Annotated[
        str | None,
        typer.Option(help="A search space; default: the family's, of stages that fit the images."),
    ] = None,
    budget: Annotated[str, typer.Option(metavar="TIME", help=BUDGET)] = "1h",
    memory: Annotated[str | None, typer.Option(metavar="SIZE", help=MEMORY)] = None,
    force: Annotated[bool, typer.Option(help="Write over an existing file.")] = False,
    given: Given,
) -> None:
    """Write a study file that fits your images, time and memory.

    Reads the images, times three training steps, and says what to run next.
    """
    output = given.output()
    made = design_study(name, data, given, output, space, budget, memory, force=force)
    made.write(force=force)
    if given.as_json:
        output.show_json(
            {"file": made.path.as_posix(), "forecast": made.forecast.summary()}
            | {"command": made.command, "remark": made.remark}
        )
        return
    if made.remark is not None:
        output.say(made.remark)
    output.show(*made.bench.notes, f"plan: {made.forecast.sentence()}")
    output.show(f"wrote {made.path.as_posix()}; next: {made.command}")


def design_study(
    name: str,
    data: str,
    given: Given,
    output: Output,
    space: str | None,
    budget: str = "1h",
    memory: str | None = None,
    *,
    force: bool = False,
) -> "NewStudy":
    """The study of a name, not written yet."""
    from dsaccel.search.new_study import Wish, check_new, design
    from dsaccel.study.storage import quiet_optuna
    from dsaccel.text import read_mebibytes, read_seconds

    seconds, mebibytes = read_seconds(budget), memory and read_mebibytes(memory)
    check_new(name, force=force)
    settings = given.values()
    wish = Wish(
        data,
        settings.pop("space.family", "resnet18"),
        space,
        seconds,
        mebibytes or None,
        {key: value for key, value in settings.items() if key != "data.name"},
        given.download,
    )
    quiet_optuna()
    with output.watching():
        return design(name, wish)


def study_of_images(
    given: Given, space: str | None, study_name: str | None, output: Output, *, dry_run: bool
) -> tuple[str, str | dict[str, Any]]:
    """The name, and the file or the tables, of a search that names images, a family or a space and
    no study: the one that was written for them before, otherwise a new one.
    """
    from dsaccel.config.toml import read_toml
    from dsaccel.study.folder import STUDIES

    data = str(given.settings.get("data.name", "digits"))
    asked = given.settings.get("data.name") or space or given.settings["space.family"]
    name = study_name or name_of(asked)
    path = STUDIES / f"{name}.toml"
    if not path.is_file():
        made = design_study(name, data, given, output, space)
        if made.remark is not None:
            output.say(made.remark)
        if dry_run:
            return name, made.tables
        output.say(
            f"wrote {made.write().as_posix()}, which fits {data}: dsaccel new has more options"
        )
    elif (known := (read_toml(path).get("data") or {}).get("name")) != data:
        raise ConfigError(
            f"{path} is a study of {known}, not of {data}: name it to search it (dsaccel search "
            f"{name}), or choose another --study-name"
        )
    return name, path.as_posix()


def name_of(data: Any) -> str:
    """A study's name: that of the images' folder, of what may stand in one."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(str(data)).resolve().stem).strip("-._")
    return name[:100] or "images"
