"""`dsaccel variance`: where accuracies differ, and how many seeds that asks for."""

from typing import Annotated

import typer

from dsaccel.cli.options import Given, LandscapeFile, takes
from dsaccel.errors import ConfigError, NoResultError


@takes("--trust-part", "--json")
def variance(
    table: LandscapeFile,
    prefix_stages: Annotated[
        int | None,
        typer.Option(help="First stages that are the prefix. Default: the shallow ones.", min=1),
    ] = None,
    resolution: Annotated[
        float, typer.Option(help="The difference to be resolved, in points of accuracy.")
    ] = 0.5,
    *,
    given: Given,
) -> None:
    """Take a landscape's variance apart: prefix, suffix, seed.

    Says how many seeds it takes to find a difference.
    """
    from dsaccel.analysis.landscape_files import read_landscape
    from dsaccel.analysis.variance import variance_components
    from dsaccel.report.variance import variance_sentences, variance_summary, variance_table

    if not resolution > 0:
        raise ConfigError(f"--resolution must be above 0 points, but got {resolution}")
    recorded = read_landscape(table)
    stages = prefix_stages or recorded.space.num_shallow
    if stages >= recorded.space.num_stages:
        raise ConfigError(
            f"--prefix-stages must be within 1..{recorded.space.num_stages - 1}, but got {stages}"
        )
    components = variance_components(recorded.objectives(), stages)
    if components is None:
        raise NoResultError(
            f"variance components need at least 2 seeds and 2 prefixes, one of them with 2 "
            f"hierarchies, but {table} has {len(recorded.accuracies)} seeds and "
            f"{len(recorded.networks)} hierarchies; give dsaccel landscape studies of more seeds"
        )
    output = given.output()
    if given.as_json:
        output.show_json(variance_summary(components, resolution / 100))
    else:
        output.show(variance_table(components), *variance_sentences(components, resolution / 100))
