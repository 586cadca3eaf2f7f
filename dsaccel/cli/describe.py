"""`dsaccel describe`: what a hierarchy is and costs, or what a search space holds."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from dsaccel.cli.options import Given, takes
from dsaccel.cli.output import Output
from dsaccel.errors import ConfigError

if TYPE_CHECKING:
    from dsaccel.config.study import RunConfig


@takes(
    *("family", "network.granularity", "network.loss", "network.width", "network.output"),
    *(
        "training.batch_size",
        "training.schedule",
        "training.precision",
        "--set",
        "--trust-part",
        "--json",
    ),
)
def describe(
    hierarchy: Annotated[
        str | None, typer.Argument(metavar="HIERARCHY", help="1-1-2-2; default: the family's own.")
    ] = None,
    *,
    channels: Annotated[int, typer.Option(help="Of the images.", min=1)] = 3,
    image_size: Annotated[int, typer.Option(help="Side in pixels.", min=4)] = 32,
    num_classes: Annotated[int, typer.Option(help="Classes.", min=2)] = 10,
    space: Annotated[
        str | None,
        typer.Option(help="A search space instead, with its family: a file, or its name."),
    ] = None,
    given: Given,
) -> None:
    """Show a hierarchy, or a search space, and what it costs.

    Trains nothing. Memory is estimated, on a CPU.
    """
    images = (channels, image_size, num_classes)
    output = given.output()
    if space is None:
        _describe_hierarchy(hierarchy, images, given, output)
    elif hierarchy is None:
        _describe_space(space, images, given, output)
    else:
        raise ConfigError(f"describe {hierarchy} or --space {space}, but not both")


def _describe_hierarchy(
    hierarchy: str | None, images: tuple[int, int, int], given: Given, output: Output
) -> None:
    from dsaccel.families import MODES
    from dsaccel.planner import Planner
    from dsaccel.report import describe
    from dsaccel.spec.hierarchy import Hierarchy

    run = _run_config(given.settings.get("family", "resnet18"), hierarchy, given)
    plan = Planner(run.family, run.network, *images, run.training)
    local, whole = (plan(Hierarchy.parse(run.hierarchy), mode) for mode in MODES)
    memory = describe.training_memory(local, whole, run.training)
    if output.as_json:
        summary = describe.describe_plan(local)
        output.show_json(summary | {"memory": describe.memory_summary(memory)})
    else:
        output.show(describe.description_table(local), describe.memory_table(memory, run.training))


def _describe_space(space: str, images: tuple[int, int, int], given: Given, output: Output) -> None:
    from dsaccel.config.study import SpaceConfig
    from dsaccel.config.toml import parse_config
    from dsaccel.planner import Planner
    from dsaccel.report.describe_space import describe_space, space_summary, space_table
    from dsaccel.study.folder import find_space

    own = {key: value for key, value in given.settings.items() if key == "family"}
    config = parse_config(SpaceConfig, find_space(space) | own, space)
    run = _run_config(config.family, None, given)
    channels, side, num_classes = images
    shown = f"{side}x{side}x{channels}, {num_classes} classes"
    try:
        plan = Planner(run.family, run.network, *images, run.training)
        described = describe_space(config, plan, run.training)
    except ConfigError as error:
        raise ConfigError(f"{space}, for images of {shown}: {error}") from None
    if output.as_json:
        output.show_json(space_summary(described))
    else:
        output.show(space_table(described, run.training, shown))


def _run_config(family: str, hierarchy: str | None, given: Given) -> "RunConfig":
    from dsaccel.config.study import RunConfig
    from dsaccel.config.toml import parse_config
    from dsaccel.families import find_family

    hierarchy = hierarchy or str(find_family(family).standard)
    tables: dict[str, Any] = {"family": family, "hierarchy": hierarchy}
    given.apply(tables)
    return parse_config(RunConfig, tables, "the command line")
