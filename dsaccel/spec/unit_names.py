"""The names of a network's layers and heads in tables and files."""

from collections.abc import Iterator

from dsaccel.spec.blocks import Block, Layer
from dsaccel.spec.plan import Plan


def head_names(plan: Plan) -> tuple[str, ...]:
    """A name for each head in order of depth: `stem`, `s2.1 conv 2`, `fc 1`, last `output`."""
    names = [name for name, layer in _named(plan) if layer.head is not None]
    return (*names, *(() if plan.output is None else ("output",)))


def layer_names(plan: Plan) -> tuple[str, ...]:
    """A name for each convolution and each fully connected layer, whether it has a head or not."""
    return tuple(name for name, _ in _named(plan))


def _named(plan: Plan) -> Iterator[tuple[str, Layer]]:
    for block in plan.blocks:
        place = _place(block, plan.hierarchy.num_stages)
        for number, layer in enumerate(block.layers, 1):
            yield place if len(block.layers) == 1 else f"{place} conv {number}", layer


def _place(block: Block, num_stages: int) -> str:
    if block.stage == 0:
        return "stem"
    return f"s{block.stage}.{block.index}" if block.stage <= num_stages else f"fc {block.index}"
