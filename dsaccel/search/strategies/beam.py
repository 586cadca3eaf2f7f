"""Beam search: grow networks stage by stage, and go on from the best beginnings only.

Under the sequential schedule a beginning (the first stages of a hierarchy) is trained to its end
before anything is built on it. It is extended by one more block or by a downsampling. Beginnings of
different length are not compared where they end, for there the deeper one is ahead by its depth:
each is given the first unit after the downsampling, and these are compared at one resolution.
"""

import math
from collections.abc import Mapping

from dsaccel.config.study import PruningConfig, StudyConfig
from dsaccel.errors import ConfigError
from dsaccel.parts import part_of
from dsaccel.schedules import Schedule
from dsaccel.schedules.looking_ahead import ahead_of
from dsaccel.schedules.sequential import Sequential
from dsaccel.search.strategies import Strategy
from dsaccel.spec.hierarchy import Blocks, Hierarchy


class Beam(Strategy):
    """All hierarchies, but only the best beginnings are built on."""

    takes_all = True
    decides = True

    beam_width: int = 4
    """Beginnings that are built on after each stage, and the best of each block count."""

    def prepared(self, config: StudyConfig) -> StudyConfig:
        return beam_config(config)

    def schedule(self, schedule: Schedule) -> Schedule:
        """Its rungs come after the first unit of the next stage."""
        return ahead_of(schedule)

    def losers(self, step: int, values: Mapping[Hierarchy, float]) -> list[Hierarchy]:
        return beam_losers(values, step, self.beam_width)


def beam_survivors(accuracies: Mapping[Hierarchy, float], width: int) -> set[Hierarchy]:
    """The beginnings that are built on: the best `width`, and the best of each block count.

    The count is that of the stage just ended, so that no count is given up for what it looks like
    one unit later. Equal accuracies rank by hierarchy; what is not finite ranks last.

    Args:
        accuracies: of the first unit after each beginning.
        width: how many go on, whatever their counts.
    """
    ranked = sorted(accuracies, key=lambda start: _rank(start, accuracies[start]))
    of_count: dict[int, Hierarchy] = {}
    for start in ranked:
        of_count.setdefault(start.blocks[-1], start)
    return {*ranked[:width], *of_count.values()}


def beam_losers(values: Mapping[Hierarchy, float], num_stages: int, width: int) -> list[Hierarchy]:
    """The hierarchies whose beginning is not built on, in the order of the mapping.

    Args:
        values: accuracy of the first unit after the first `num_stages` stages of each.
        num_stages: that have ended.
        width: of the beam.
    """
    beginnings = {h: h.beginning(num_stages) for h in values}
    survivors = beam_survivors({beginnings[h]: values[h] for h in values}, width)
    return [h for h in values if beginnings[h] not in survivors]


def beam_config(config: StudyConfig) -> StudyConfig:
    """The settings of a study with strategy `beam`, which prunes in its own way.

    Raises:
        ConfigError: if stages do not begin with a unit of their own, trained after what is below.
    """
    if not isinstance(part_of(config.training, "schedule"), Sequential):
        raise ConfigError(
            "strategy beam builds on finished stages, so training.schedule must be sequential, but "
            f"got {config.training.schedule}; add --schedule sequential"
        )
    granularity, searched = config.network.granularity, config.space.settings
    may_be = {granularity} if isinstance(granularity, str) else {*granularity}
    for choices in (searched.of("granularity"), searched.of("granularity_per_stage")):
        may_be |= {*",".join(choices.ends).split(",")} if choices else set()
    if may_be & {"stage", "none"}:
        raise ConfigError(
            "strategy beam compares the first unit of a stage, so network.granularity must be conv "
            f"or block, but got {', '.join(sorted(may_be))}"
        )
    if config.network.first_loss > 1 or searched.of("first_loss"):
        first_loss = "a searched one" if searched.of("first_loss") else config.network.first_loss
        raise ConfigError(
            "strategy beam needs a local loss on every unit, so network.first_loss must be 1, but "
            f"got {first_loss}"
        )
    named = "kind" in config.pruning.model_fields_set
    if named and config.pruning.kind != "none":
        raise ConfigError(
            "strategy beam decides by itself who goes on, so pruning.kind must be none, but got "
            f"{config.pruning.kind}; add --pruning none"
        )
    return config.model_copy(update={"pruning": PruningConfig(kind="none")})


def _rank(start: Hierarchy, value: float) -> tuple[bool, float, Blocks, str]:
    finite = math.isfinite(value)
    return (not finite, -value if finite else 0.0, start.blocks, str(start))
