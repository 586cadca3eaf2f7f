"""`dsaccel describe`: what a hierarchy is and costs, or what a search space holds."""

from typing import Annotated, Any

import typer

from dsaccel.cli import options
from dsaccel.cli.common import consoles, print_json
from dsaccel.errors import ConfigError


def describe(
    hierarchy: Annotated[
        str | None, typer.Argument(metavar="HIERARCHY", help="1-1-2-2; default: the family's own.")
    ] = None,
    family: options.Family = None,
    channels: Annotated[int, typer.Option(help="Of the images.", min=1)] = 3,
    image_size: Annotated[int, typer.Option(help="Side in pixels.", min=4)] = 32,
    num_classes: Annotated[int, typer.Option(help="Classes.", min=2)] = 10,
    granularity: options.Granularity = None,
    loss: options.Loss = None,
    width: options.Width = None,
    batch_size: options.BatchSize = None,
    schedule: options.Schedule = None,
    precision: options.Precision = None,
    settings: options.Settings = None,
    space: Annotated[
        str | None,
        typer.Option(help="A search space instead, with its family: a file, or its name."),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Show a hierarchy, or a search space, and what it costs.

    Trains nothing. Memory is estimated, on a CPU.
    """
    given = dict(locals()) | {"family": None}
    from functools import partial

    from dsaccel.config.study import RunConfig, SpaceConfig
    from dsaccel.config.toml import parse_config
    from dsaccel.families import MODES, build_plan, find_family
    from dsaccel.report.describe import (
        describe_plan,
        description_table,
        memory_summary,
        memory_table,
        training_memory,
    )
    from dsaccel.report.describe_space import describe_space, space_summary, space_table
    from dsaccel.spec.hierarchy import Hierarchy
    from dsaccel.study.folder import find_space

    searched = None
    if space is not None:
        if hierarchy is not None:
            raise ConfigError(f"describe {hierarchy} or --space {space}, but not both")
        own = {} if family is None else {"family": family}
        searched = parse_config(SpaceConfig, find_space(space) | own, space)
        family = searched.family
    family = family or "resnet18"
    if hierarchy is None:
        hierarchy = str(find_family(family).standard)
    tables: dict[str, Any] = {"family": family, "hierarchy": hierarchy}
    options.apply(tables, given)
    run = parse_config(RunConfig, tables, "the command line")
    build = partial(
        build_plan, run.family, channels=channels, side=image_size, num_classes=num_classes
    )
    if searched is not None:
        images = f"{image_size}x{image_size}x{channels}, {num_classes} classes"
        try:
            described = describe_space(searched, lambda h: build(h, run.network), run.training)
        except ConfigError as error:
            raise ConfigError(f"{space}, for images of {images}: {error}") from None
        if as_json:
            print_json(space_summary(described))
        else:
            consoles(as_json)[1].print(space_table(described, run.training, images))
        return
    local, whole = (build(Hierarchy.parse(run.hierarchy), run.network, mode=m) for m in MODES)
    memory = training_memory(local, whole, run.training)
    if as_json:
        print_json(describe_plan(local) | {"memory": memory_summary(memory)})
    else:
        out = consoles(as_json)[1]
        out.print(description_table(local))
        out.print(memory_table(memory, run.training))
