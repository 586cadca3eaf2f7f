"""What the heads of a network are called in tables and files."""

from collections.abc import Iterator

from dsaccel.spec.plan import Block, Plan


def head_names(plan: Plan) -> tuple[str, ...]:
    """A name for each head in order of depth: `stem`, `s2.1 conv 2`, `fc 1`, and `output`, last."""
    last = plan.hierarchy.num_stages
    return (*(name for block in plan.blocks for name in _names(block, last)), "output")


def _names(block: Block, num_stages: int) -> Iterator[str]:
    if block.stage == 0:
        place = "stem"
    else:
        place = (
            f"s{block.stage}.{block.index}" if block.stage <= num_stages else f"fc {block.index}"
        )
    for number, layer in enumerate(block.layers, 1):
        if layer.head is not None:
            yield place if len(block.layers) == 1 else f"{place} conv {number}"
