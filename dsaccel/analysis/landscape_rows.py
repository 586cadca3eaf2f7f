"""The rows of a landscape's file, in any order, checked and put together.

A file may have been through other programs: what a row says twice must agree, and nothing may be
missing or doubled.
"""

import functools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import Field

from dsaccel.analysis.landscape import Landscape, Network, Tested
from dsaccel.config.section import Section
from dsaccel.config.study import StudyConfig
from dsaccel.families import check_hierarchy
from dsaccel.spec.hierarchy import Hierarchy


class Head(NamedTuple):
    """What a row says of a head."""

    accuracy: float
    is_output: bool
    ensemble: float | None
    """This, the seconds and the test accuracy of the ensemble are those of all heads of a step."""
    seconds: float | None
    test_accuracy: float | None
    test_ensemble: float | None

    @property
    def shared(self) -> tuple[float | None, ...]:
        """What all heads of a step have in common."""
        return self.ensemble, self.seconds, self.test_ensemble

    @property
    def accuracies(self) -> Iterator[float]:
        """All that must be within 0..1."""
        read = (self.accuracy, self.ensemble, self.test_accuracy, self.test_ensemble)
        return (accuracy for accuracy in read if accuracy is not None)


Heads = dict[int, Head]
"""By number, 1-based."""


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
        _add_further(landscape, seed, table)
    if not any(network.is_feasible for network in networks.values()):
        raise ValueError("none of its hierarchies is feasible")
    return landscape


def _add_further(
    landscape: Landscape, seed: int, table: Mapping[Hierarchy, Mapping[int, Heads]]
) -> None:
    """Add what later formats have beside the accuracies of heads."""
    landscape.ensembles[seed] = {
        hierarchy: {
            step: ensemble
            for step, heads in steps.items()
            if (ensemble := heads[1].ensemble) is not None
        }
        for hierarchy, steps in table.items()
    }
    ends = {hierarchy: steps[landscape.num_steps] for hierarchy, steps in table.items()}
    seconds = {h: heads[1].seconds for h, heads in ends.items()}
    landscape.seconds[seed] = {h: s for h, s in seconds.items() if s is not None}
    tests = {h: _tested(heads, f"{h}, seed {seed}") for h, heads in ends.items()}
    landscape.tests[seed] = {h: tested for h, tested in tests.items() if tested}


def _by_place(
    rows: Iterable[Sequence[Any]], step_name: str
) -> tuple[dict[int, dict[Hierarchy, dict[int, Heads]]], dict[Hierarchy, Network]]:
    """The heads by seed, hierarchy and step, and the networks in their order."""
    networks: dict[Hierarchy, Network] = {}
    found: dict[int, dict[Hierarchy, dict[int, Heads]]] = {}
    read = functools.cache(_read)
    for text, seed, step, head, is_output, accuracy, *rest in rows:
        hierarchy, figures, further = read(text), rest[:4], rest[4:]
        network = networks.setdefault(hierarchy, Network(*figures))
        if network != Network(*figures):
            raise ValueError(f"its rows of {hierarchy} differ in what the network costs")
        heads = found.setdefault(seed, {}).setdefault(hierarchy, {}).setdefault(step, {})
        if head in heads:
            place = f"{hierarchy}, seed {seed}, {step_name} {step}, head {head}"
            raise ValueError(f"it has two rows of {place}")
        heads[head] = Head(accuracy, is_output, *further)
        if not 0 <= (heads[head].seconds or 0) < math.inf:
            raise ValueError(f"the seconds of {hierarchy} must be a time, but are {rest[5]}")
        for accuracy in heads[head].accuracies:
            if not 0 <= accuracy <= 1:
                raise ValueError(
                    f"the accuracy of {hierarchy} must be within 0..1, but is {accuracy}"
                )
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
        outputs = [head for head, row in steps[step].items() if row.is_output]
        if outputs != ([num] if has_output and landscape.has_end(step) else []):
            raise ValueError(f"{place}, {word} {step} has another output layer than its last head")
        if len({row.shared for row in steps[step].values()}) > 1:
            raise ValueError(f"{place}, {word} {step} has several ensembles, or times")
        if step < landscape.num_steps and any(
            row.test_accuracy is not None or row.test_ensemble is not None
            for row in steps[step].values()
        ):
            raise ValueError(f"{place} must have test accuracies at its last {word} alone")
    if len({row.seconds for heads in steps.values() for row in heads.values()}) > 1:
        raise ValueError(f"{place} has several times")
    return {
        step: tuple(steps[step][head].accuracy for head in range(1, num + 1))
        for step, num in wanted.items()
    }


def _tested(heads: Heads, place: str) -> Tested | None:
    """What was read on the test split of all heads of a last step, if it was."""
    tests = [heads[head].test_accuracy for head in sorted(heads)]
    read = tuple(accuracy for accuracy in tests if accuracy is not None)
    if 0 < len(read) < len(tests) or (not read and heads[1].test_ensemble is not None):
        raise ValueError(f"{place} must have a test accuracy of all heads or of none, but has not")
    return Tested(read, heads[1].test_ensemble) if read else None
