"""Why nothing is left of a search space, and the way out."""

from collections.abc import Iterable
from contextlib import suppress

from dsaccel.config.study import SpaceConfig
from dsaccel.errors import ConfigError
from dsaccel.space.bounds import MeasuredBounds, Measures, words_of_range
from dsaccel.spec.hierarchy import Hierarchy


def check_totals(config: SpaceConfig) -> None:
    """Raises ConfigError where `num_blocks` and the bounds of the total exclude each other."""
    fewest, most = (sum(column) for column in zip(*config.num_blocks, strict=True))
    lowest = max(fewest, config.min_total_blocks or fewest)
    highest = min(most, config.max_total_blocks or most)
    if lowest > highest:
        raise ConfigError(
            f"no hierarchy satisfies the bounds: num_blocks allow {fewest}..{most} blocks in "
            f"all, but got min_total_blocks = {config.min_total_blocks} and "
            f"max_total_blocks = {config.max_total_blocks}; widen one of them"
        )


def constraint_excludes_all(config: SpaceConfig, num_shallow: int) -> str:
    """The message where no counts are left within the bounds of blocks and the constraint."""
    ranges = ", ".join(f"{low}..{high}" for low, high in config.num_blocks)
    lowest, highest = config.min_total_blocks, config.max_total_blocks
    is_total_bounded = lowest is not None or highest is not None
    total = f" with {words_of_range(lowest, highest)} blocks in all" if is_total_bounded else ""
    return (
        f"constraint {config.constraint} with {num_shallow} shallow stages "
        f"excludes every hierarchy within num_blocks {ranges}{total}; allow "
        "fewer blocks in shallow stages, more in deep ones, or set constraint = 'none'"
    )


def measured_bounds_exclude_all(
    bounds: MeasuredBounds, candidates: Iterable[Hierarchy], num: int | None
) -> str:
    """The message where counts are left, but none satisfies the measured bounds.

    Args:
        bounds: the bounds.
        candidates: all that there are, or the smallest and the largest.
        num: how many there are; None: the candidates are all.
    """
    measures: list[Measures] = []
    problem = ""
    for hierarchy in candidates:
        problem = next(bounds.too_small(hierarchy), problem)
        with suppress(ConfigError):
            measures.append(bounds.of(hierarchy))
    if not measures:
        return f"no hierarchy is possible: {problem}"
    measured = []
    for name, lowest, highest in bounds.bounds:
        values = [getattr(measure, name) for measure in measures]
        measured.append(
            f"{name} {words_of_range(lowest, highest)}, but they have {min(values)}..{max(values)}"
        )
    return (
        f"none of the {num or len(measures)} hierarchies within num_blocks and constraint "
        f"satisfies the measured bounds: must have {'; must have '.join(measured)}; widen one of "
        "them"
    )
