"""`dsaccel reproduce`: a table or a figure of the paper, trained again."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from dsaccel.cli.options import WORKERS, Given, takes
from dsaccel.errors import ConfigError, NoResultError

if TYPE_CHECKING:
    from dsaccel.paper.train import Reproduction
    from dsaccel.report.experiment import Report

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


Experiment = Annotated[
    str,
    typer.Argument(
        metavar="EXPERIMENT",
        help="table1 to table6, figure1, figure4, figure5, separability, factors.",
    ),
]


@takes(
    *("data.name", "data.dir", "--download", "runtime.device", "runtime.threads"),
    *("runtime.memory_mib", *WORKERS, "--json", "--quiet", "--verbose"),
)
def reproduce(
    experiment: Experiment,
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
    names, output = rows.split(",") if rows else (), given.output()
    reproduction = _open(experiment, scale, names, protocol, seeds, hybrids, given)
    if not no_train:
        output.run(reproduction.run())
    elif not reproduction.is_begun:
        raise NoResultError(f"none of these networks is trained in {reproduction.directory.path}")
    report = _report(experiment, scale, reproduction)
    files = report.write()
    if output.as_json:
        output.show_json(report.summary() | {"files": files})
        return
    output.show(report.title, report.about, report.table, *report.sentences)
    output.show_files(files)


def _open(
    experiment: str,
    scale: str,
    names: Sequence[str],
    protocol: str,
    seeds: int,
    hybrids: bool,
    given: Given,
) -> "Reproduction":
    """What is trained, and what of it is trained already."""
    from dsaccel.config.study import RuntimeConfig
    from dsaccel.config.toml import parse_config
    from dsaccel.paper.factors import arms
    from dsaccel.paper.rows import rows_of
    from dsaccel.paper.scale import find_scale, open_sources
    from dsaccel.paper.train import Reproduction
    from dsaccel.study.folder import StudyDir

    size = find_scale(scale)
    chosen = arms(size, names) if experiment == "factors" else rows_of(experiment, names)
    sources = open_sources(
        chosen,
        size,
        data=given.settings.get("data.name"),
        data_dir=given.settings.get("data.dir"),
        protocol="paper" if protocol == "paper" else "ours",
        download=given.download,
    )
    return Reproduction(
        chosen,
        size,
        sources,
        directory=StudyDir(f"paper-{scale}"),
        num_seeds=seeds,
        runtime=parse_config(RuntimeConfig, given.section("runtime"), "runtime"),
        measured_epochs=size.measured_epochs if experiment == "separability" else (),
        hybrids=hybrids,
    )


def _report(experiment: str, scale: str, reproduction: "Reproduction") -> "Report":
    from dsaccel.report.factors import factors_report
    from dsaccel.report.reproduction import rows_report
    from dsaccel.report.separability import separability_report

    if experiment == "factors":
        return factors_report(scale, reproduction)
    if experiment == "separability":
        return separability_report(scale, reproduction)
    return rows_report(experiment, scale, reproduction)
