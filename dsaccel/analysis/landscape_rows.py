"""The rows of a landscape's file, in any order, checked and put together.

A file may have been through other programs: what a row says twice must agree, and nothing may be
missing or doubled.
"""

import functools
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import Field

from dsaccel.analysis.landscape import Landscape, Network
from dsaccel.config.section import Section
from dsaccel.config.study import StudyConfig
from dsaccel.families import check_hierarchy
from dsaccel.spec.hierarchy import Hierarchy

Heads = dict[int, tuple[float, bool, float | None]]
"""By number, 1-based: the accuracy, whether the head is an output layer, and what all heads of a
step have in common: the accuracy of their ensemble."""


class Metadata(Section):
    """The facts of a file that hold for all its rows."""

    format: int
    num_classes: int = Field(ge=2)
    num_val: int | None = Field(ge=1)
    config: StudyConfig


def landscape_of(metadata: Metadata, rows: Iterable[Sequence[Any]]) -> Landscape:
    """The landscape of rows with the values of `COLUMNS`.

    Raises:
        ValueError: what is wrong with them.
    """
    config = metadata.config
    if config.data.image_size is None or config.data.channels is None:
        raise ValueError("its config does not say the size and the channels of the images")
    found, networks = _by_place(rows, config.training.step_name)
    if not found:
        raise ValueError("it has no rows")
    landscape = Landscape(config, metadata.num_classes, metadata.num_val, networks, {})
    wanted = {hierarchy: _num_heads(landscape, hierarchy) for hierarchy in networks}
    for seed in sorted(found):
        table = found[seed]
        landscape.accuracies[seed] = {
            hierarchy: _steps(
                landscape,
                hierarchy,
                table[hierarchy],
                wanted[hierarchy],
                f"{hierarchy}, seed {seed}",
            )
            for hierarchy in wanted
            if hierarchy in table
        }
        landscape.ensembles[seed] = {
            hierarchy: {
                step: ensemble
                for step, heads in steps.items()
                if (ensemble := heads[1][2]) is not None
            }
            for hierarchy, steps in table.items()
        }
    if not any(network.is_feasible for network in networks.values()):
        raise ValueError("none of its hierarchies is feasible")
    return landscape


def _by_place(
    rows: Iterable[Sequence[Any]], step_name: str
) -> tuple[dict[int, dict[Hierarchy, dict[int, Heads]]], dict[Hierarchy, Network]]:
    """The heads by seed, hierarchy and step, and the networks in their order."""
    networks: dict[Hierarchy, Network] = {}
    found: dict[int, dict[Hierarchy, dict[int, Heads]]] = {}
    read = functools.cache(_read)
    for text, seed, step, head, is_output, accuracy, *figures, ensemble in rows:
        hierarchy = read(text)
        network = networks.setdefault(hierarchy, Network(*figures))
        if network != Network(*figures):
            raise ValueError(f"its rows of {hierarchy} differ in what the network costs")
        heads = found.setdefault(seed, {}).setdefault(hierarchy, {}).setdefault(step, {})
        if head in heads:
            place = f"{hierarchy}, seed {seed}, {step_name} {step}, head {head}"
            raise ValueError(f"it has two rows of {place}")
        if not (0 <= accuracy <= 1 and 0 <= (ensemble or 0) <= 1):
            raise ValueError(f"the accuracy of {hierarchy} must be within 0..1, but is {accuracy}")
        heads[head] = accuracy, is_output, ensemble
    return found, {h: networks[h] for h in sorted(networks)}


def _read(text: str) -> Hierarchy:
    """A hierarchy; one that is written in another way than ours might stand twice in the file."""
    hierarchy = Hierarchy.parse(text)
    if str(hierarchy) != text:
        raise ValueError(f"a hierarchy must be written {hierarchy}, but is {text}")
    return hierarchy


def _num_heads(landscape: Landscape, hierarchy: Hierarchy) -> dict[int, int]:
    """How many heads a hierarchy has at each step, the output layer's counted."""
    check_hierarchy(landscape.config.family, hierarchy)
    if len(hierarchy.blocks) != len(landscape.config.space.num_blocks):
        raise ValueError(f"{hierarchy} has not as many stages as the space of its config")
    plan, network = landscape.plan(hierarchy), landscape.networks[hierarchy]
    if plan.num_parameters != network.num_parameters:
        raise ValueError(
            f"{hierarchy} has {plan.num_parameters} parameters by its config, but "
            f"{network.num_parameters} in its rows"
        )
    whole = sum(segment.num_units for segment in plan.segments)
    return {
        step: whole if landscape.has_end(step) else plan.num_heads(step)
        for step in range(1, landscape.num_steps + 1)
    }


def _steps(
    landscape: Landscape,
    hierarchy: Hierarchy,
    steps: dict[int, Heads],
    wanted: dict[int, int],
    place: str,
) -> dict[int, tuple[float, ...]]:
    """The accuracies of one training, by step and in order of depth."""
    word = landscape.config.training.step_name
    has_output = landscape.has_output(hierarchy)
    if sorted(steps) != list(wanted):
        raise ValueError(f"{place} must have each {word} from 1 to {len(wanted)}, but has not")
    for step, num in wanted.items():
        if sorted(steps[step]) != list(range(1, num + 1)):
            raise ValueError(f"{place}, {word} {step} must have heads 1 to {num}, but has not")
        outputs = [head for head, (_, is_output, _) in steps[step].items() if is_output]
        if outputs != ([num] if has_output and landscape.has_end(step) else []):
            raise ValueError(f"{place}, {word} {step} has another output layer than its last head")
        if len({ensemble for _, _, ensemble in steps[step].values()}) > 1:
            raise ValueError(f"{place}, {word} {step} has several ensembles")
    return {
        step: tuple(steps[step][head][0] for head in range(1, num + 1))
        for step, num in wanted.items()
    }
