"""Why block counts are outside a space: one sentence for each bound or rule that they break."""

from collections.abc import Iterator

from dsaccel.config.study import SpaceConfig
from dsaccel.space.bounds import must_be
from dsaccel.spec.hierarchy import Blocks, Hierarchy


def outside_bounds(config: SpaceConfig, hierarchy: Hierarchy) -> Iterator[str]:
    if hierarchy.num_stages != len(config.num_blocks):
        yield f"a hierarchy must have {len(config.num_blocks)} stages, but got {hierarchy}"
        return
    for stage, (num_blocks, (low, high)) in enumerate(
        zip(hierarchy.blocks, config.num_blocks, strict=True), 1
    ):
        if not low <= num_blocks <= high:
            yield (f"num_blocks of stage {stage} must be within {low}..{high}, but got {hierarchy}")
    lowest, highest = config.min_total_blocks, config.max_total_blocks
    total = hierarchy.num_blocks
    if not (lowest or 0) <= total <= (highest or total):
        yield must_be("total blocks", lowest, highest, hierarchy, total)


def against_constraint(
    config: SpaceConfig, num_shallow: int, hierarchy: Hierarchy
) -> Iterator[str]:
    if _satisfies(config.constraint, hierarchy.blocks, num_shallow):
        return
    rule = {
        "accelerated": "no shallow stage may have more blocks than a deep one",
        "strict": "every shallow stage must have fewer blocks than every deep one",
        "total": "the deep stages must have at least as many blocks as the shallow ones",
    }[config.constraint]
    yield (
        f"constraint {config.constraint}: {rule} "
        f"(shallow: the first {num_shallow}), but got {hierarchy}"
    )


def _satisfies(constraint: str, blocks: Blocks, num_shallow: int) -> bool:
    shallow, deep = blocks[:num_shallow], blocks[num_shallow:]
    match constraint:
        case "accelerated":
            return max(shallow) <= min(deep)
        case "strict":
            return max(shallow) < min(deep)
        case "total":
            return sum(deep) >= sum(shallow)
    return True
