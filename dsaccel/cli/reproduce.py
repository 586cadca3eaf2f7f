"""`dsaccel reproduce`: a table or a figure of the paper, trained again."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from dsaccel.cli.options import Given, takes
from dsaccel.errors import ConfigError, NoResultError

if TYPE_CHECKING:
    from dsaccel.paper.rows import Row
    from dsaccel.paper.scale import Held


Hybrids = Annotated[
    bool,
    typer.Option(
        "--hybrids",
        help="separability: also freeze each network after each stage and train the rest anew, "
        "layer-wise and by back-propagation (deep probes); takes about four times as long.",
    ),
]
ProtocolName = Annotated[
    str,
    typer.Option(
        metavar="ours|paper",
        help="ours: accuracies are of held-out training images; paper: train on all training "
        "images and read the test split after every epoch.",
    ),
]


@takes(
    *("data.name", "data.dir", "--download", "runtime.device", "runtime.threads"),
    *("runtime.memory_mib", "--json", "--quiet", "--verbose"),
)
def reproduce(
    experiment: Annotated[
        str,
        typer.Argument(
            metavar="EXPERIMENT",
            help="table1 to table6, figure1, figure4, figure5, separability, factors.",
        ),
    ],
    *,
    scale: Annotated[
        str, typer.Option(metavar="tiny|small|adapted|paper", help="How much of it is trained.")
    ] = "small",
    rows: Annotated[
        str | None, typer.Option(help="Only these rows, as ResNet18,ResNet18_r4.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, max=1000, help="Seeds of each network.")] = 3,
    hybrids: Hybrids = False,
    no_train: Annotated[
        bool, typer.Option("--no-train", help="Train nothing: show what is trained so far.")
    ] = False,
    protocol: ProtocolName = "ours",
    given: Given,
) -> None:
    """Train the networks of a table or a figure of the paper.

    Each row is trained with the paper's own hierarchy, learning rate and dropout, layer-wise and
    by back-propagation. Run again to continue; tables that share a network share its training.
    """
    if protocol not in ("ours", "paper"):
        raise ConfigError(f"protocol must be ours or paper, but got {protocol!r}")
    if hybrids and experiment != "separability":
        raise ConfigError(f"--hybrids must be left out but for separability, not {experiment}")
    from dsaccel.paper.factors import arms
    from dsaccel.paper.rows import rows_of
    from dsaccel.paper.scale import find_scale, open_sources

    size, names = find_scale(scale), rows.split(",") if rows else ()
    chosen = arms(size, names) if experiment == "factors" else rows_of(experiment, names)
    settings = given.settings
    sources = open_sources(
        chosen,
        size,
        data=settings.get("data.name"),
        data_dir=settings.get("data.dir"),
        protocol="paper" if protocol == "paper" else "ours",
        download=given.download,
    )
    _reproduce(
        experiment, scale, chosen, sources, seeds, given, hybrids=hybrids, trains=not no_train
    )


def _reproduce(
    experiment: str,
    scale: str,
    rows: "Sequence[Row]",
    sources: "Mapping[str, Held]",
    seeds: int,
    given: Given,
    *,
    hybrids: bool,
    trains: bool,
) -> None:
    """Train what is missing, and show it."""
    from dsaccel.config.study import RuntimeConfig
    from dsaccel.paper.scale import find_scale
    from dsaccel.paper.train import Reproduction
    from dsaccel.report.factors import FactorsReport
    from dsaccel.report.reproduction import Report
    from dsaccel.report.separability import SeparabilityReport
    from dsaccel.study.folder import StudyDir

    is_layers, size = experiment == "separability", find_scale(scale)
    names = (key for key in given.settings if key.startswith("runtime."))
    runtime = RuntimeConfig(**{key.removeprefix("runtime."): given.settings[key] for key in names})
    reproduction = Reproduction(
        rows,
        size,
        sources,
        directory=StudyDir(f"paper-{scale}"),
        num_seeds=seeds,
        runtime=runtime,
        measured_epochs=size.measured_epochs if is_layers else (),
        hybrids=hybrids,
    )
    output = given.output()
    if trains:
        output.run(reproduction.run())
    elif not reproduction.is_begun:
        raise NoResultError(f"none of these networks is trained in {reproduction.directory.path}")
    report: Report | FactorsReport | SeparabilityReport
    if experiment == "factors":
        report = FactorsReport(scale, reproduction)
    elif is_layers:
        report = SeparabilityReport(scale, reproduction)
    else:
        report = Report(experiment, scale, reproduction)
    files = report.write()
    if output.as_json:
        output.show_json(report.summary() | {"files": files})
        return
    output.show(report.title, report.about, report.table(), *report.sentences())
    output.show_files(files)
