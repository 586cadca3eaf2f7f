"""Options that several commands have.

Most are settings of a study: a command names their keys, and what the config says of a field is the
option, its type, its help and its default. They are made when the command is called, because the
config takes long to import.
"""

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

import typer

from dsaccel.cli.output import Output

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from dsaccel.report.logs import Log


def study_names(incomplete: str) -> list[str]:
    """The studies whose names begin like this, for completion."""
    from dsaccel.study.folder import known_studies

    return [name for name in known_studies() if name.startswith(incomplete)]


_STUDY = typer.Argument(
    metavar="STUDY",
    help="A study file, its name, or a study that was run.",
    autocompletion=study_names,
)
StudyName = Annotated[str, _STUDY]
OptionalStudyName = Annotated[str | None, _STUDY]
LandscapeFile = Annotated[
    Path, typer.Argument(metavar="LANDSCAPE", help="What dsaccel landscape wrote.")
]
NAMES = {
    "data.name": "data",
    "data.dir": "data-dir",
    "budget.timeout_s": "timeout",
    "pruning.kind": "pruning",
    "pruning.by": "prune-by",
    "network.output": "exit",
    "confirm.enabled": "confirm",
    "confirm.num_seeds": "seeds",
}
"""Options that are not called as the last word of their key."""

WORKERS = (
    *("runtime.workers", "runtime.devices", "runtime.cluster", "runtime.scratch"),
    *("runtime.cluster_insecure", "runtime.tls_ca", "runtime.tls_cert", "runtime.tls_key"),
)
"""Who trains."""

SHARED = {
    "--set": Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any setting, as training.lr_decay=0.5."),
    ],
    "--trust-part": Annotated[
        list[str] | None,
        typer.Option(
            "--trust-part",
            metavar="NAME",
            help="Import this part, which weights, an exported config or a recorded study names.",
        ),
    ],
    "--jobs": Annotated[
        int | None,
        typer.Option("--jobs", help="Processes; changes no result. Default: one a core.", min=1),
    ],
    "--download": Annotated[bool, typer.Option("--download", help="Fetch a torchvision data set.")],
    "--json": Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")],
    "--quiet": Annotated[
        bool, typer.Option("--quiet", "-q", help="Print errors and the result only.")
    ],
    "--verbose": Annotated[
        bool, typer.Option("--verbose", "-v", help="Print a line for each rung.")
    ],
}
"""Options that are no settings."""
SWITCHES = ("--download", "--json", "--quiet", "--verbose")


LOG = "Log there: CSV and TensorBoard events by unit, JSON lines; records curves of all networks."


@contextmanager
def logged(folder: Path | None) -> "Iterator[tuple[Log, ...]]":
    """A log that is called at each rung, if a folder is given."""
    if folder is None:
        yield ()
        return
    from dsaccel.report.logs import Log

    with Log(folder) as log:
        yield (log,)


@dataclass(frozen=True)
class Given:
    """The options that a command was given."""

    settings: dict[str, Any] = field(default_factory=dict)
    """Key in a study file -> value; those that were left out are not in it."""
    changes: tuple[str, ...] = ()
    """The arguments of `--set`."""
    jobs: int | None = None
    download: bool = False
    as_json: bool = False
    quiet: bool = False
    verbose: bool = False

    def values(self) -> dict[str, Any]:
        """All settings that were given, also by `--set`."""
        from dsaccel.config.toml import parse_override

        return self.settings | dict(map(parse_override, self.changes))

    def section(self, name: str) -> dict[str, Any]:
        """The settings of a section that were given as options."""
        keys = (key.partition(".") for key in self.settings)
        return {key: self.settings[f"{name}.{key}"] for of, _, key in keys if of == name}

    def apply(self, tables: dict[str, Any]) -> None:
        """Override a study's tables, in place."""
        from dsaccel.config.toml import set_value
        from dsaccel.imports import trust, words_of

        for key, value in self.values().items():
            set_value(tables, key, value)
        trust(words_of(self.values()), Path())

    def output(self) -> Output:
        """An output that shows as much as was asked for."""
        return Output(as_json=self.as_json, quiet=self.quiet, verbose=self.verbose)


def takes(*options: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command options: keys of a study file, and names of `SHARED`. It gets them as `given`,
    a `Given`; the other options of a command are its own parameters.
    """

    def note(command: Callable[..., None]) -> Callable[..., None]:
        command.__dict__["takes"] = options
        return command

    return note


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command as Typer reads it: a parameter for each option."""
    options: tuple[str, ...] = command.__dict__.get("takes", ())
    if not options:
        return command
    added = {option.replace("-", "_").replace(".", "__"): option for option in options}

    @functools.wraps(command)
    def run(**values: Any) -> None:
        own = {name: value for name, value in values.items() if name not in added}
        said = {added[name]: value for name, value in values.items() if name in added}
        settings = {k: _read(k, v) for k, v in said.items() if k not in SHARED and v is not None}
        if said.get("--trust-part"):
            from dsaccel.imports import trust

            trust(said["--trust-part"], Path())
        given = Given(
            settings,
            tuple(said.get("--set") or ()),
            said.get("--jobs"),
            *(said.get(name, False) for name in SWITCHES),
        )
        command(**own, given=given)

    parameters = []
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        if parameter.name == "given":
            parameters += [_parameter(name, option) for name, option in added.items()]
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
    run.__dict__["__signature__"] = inspect.Signature(parameters)
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run


def _parameter(name: str, option: str) -> inspect.Parameter:
    annotation = SHARED.get(option) or _of_setting(option)
    default = False if option in SWITCHES else None
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
    )


def _of_setting(key: str) -> Any:
    """A setting as an option; None stands for one that is not given."""
    setting = _find(key)
    name = NAMES.get(key, key.rpartition(".")[2].replace("_", "-"))
    kind = next((k for k in _kinds(setting.annotation) if k in (bool, int, float)), str)
    words = _words(setting.annotation) or _parts(setting)
    option = typer.Option(
        f"--{name}/--no-{name}" if kind is bool else f"--{name}",
        help=_help(setting),
        metavar="|".join(words) if words else None,
        autocompletion=(lambda: words) if words else None,
    )
    return Annotated[kind | None, option]


def _find(key: str) -> "FieldInfo":
    """The field of a key of a study's config, or of a run's."""
    from dsaccel.config.study import RunConfig, StudyConfig

    *sections, name = key.split(".")
    model: Any = StudyConfig if key.split(".")[0] in StudyConfig.model_fields else RunConfig
    for section in sections:
        model = model.model_fields[section].annotation
    return model.model_fields[name]


def _help(setting: "FieldInfo") -> str:
    """A field's docstring, which calls the value that is chosen for the user None."""
    text = " ".join((setting.description or "").split()).replace("`", "")
    text = text.replace("; None: ", "; default: ").replace(". None: ", ". Default: ")
    default = setting.default
    if default is None or setting.is_required():
        return text
    shown = {True: "yes", False: "no"}[default] if isinstance(default, bool) else default
    return f"{text} [default: {shown}]"


def _kinds(annotation: Any) -> Iterator[Any]:
    """The types that a field may have."""
    if get_args(annotation) and get_origin(annotation) not in (Literal, tuple):
        for member in get_args(annotation):
            yield from _kinds(member)
    else:
        yield annotation


def _words(annotation: Any) -> list[str]:
    """The words that may be chosen from."""
    literals = (kind for kind in _kinds(annotation) if get_origin(kind) is Literal)
    return [str(word) for kind in literals for word in get_args(kind)]


def _parts(setting: "FieldInfo") -> list[str]:
    """The shipped parts, where a setting names one."""
    from dsaccel.parts import BUILTIN, NamesPart

    marks: list[NamesPart] = [m for m in setting.metadata if isinstance(m, NamesPart)]
    return [name for mark in marks for name in BUILTIN[mark.kind]]


def _read(key: str, value: Any) -> Any:
    """A list of words, where a setting takes one and the text has commas."""
    if isinstance(value, str) and "," in value:
        takes_list = any(get_origin(kind) is tuple for kind in _kinds(_find(key).annotation))
        return value.split(",") if takes_list else value
    return value
