"""`dsaccel landscape`: an exhaustive study as a table."""

from pathlib import Path
from typing import Annotated

import typer

from dsaccel.cli.options import Given, takes
from dsaccel.cli.output import Output


@takes("--trust-part")
def landscape(
    studies: Annotated[
        list[str],
        typer.Argument(metavar="STUDY...", help="Exhaustive studies, equal but for the seed."),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help=".csv, .csv.gz or .parquet. Default: landscape.csv.gz."
        ),
    ] = None,
    test: Annotated[
        bool,
        typer.Option(
            "--test", help="Read the test split, too: needs weights of --keep N --all-heads."
        ),
    ] = False,
    *,
    given: Given,
) -> None:
    """Write an exhaustive study as a table of every accuracy.

    For `dsaccel replay`, `calibrate` and `variance`.
    """
    from dsaccel.analysis.landscape_files import check_output, write_landscape
    from dsaccel.analysis.recorded import record_landscape
    from dsaccel.analysis.tested import read_tests
    from dsaccel.api import Study

    path = output or Path("landscape.csv.gz")
    check_output(path)
    records = [Study.load(study).record for study in studies]
    recorded = record_landscape(records, tests=read_tests if test else None)
    write_landscape(recorded, path)
    num_feasible = sum(network.is_feasible for network in recorded.networks.values())
    seeds = ", ".join(map(str, recorded.accuracies))
    Output().show(f"{num_feasible} feasible hierarchies, seeds {seeds}", str(path))
