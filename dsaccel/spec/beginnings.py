"""The networks within a network: each ends at a local head, whose classifier reads it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from dsaccel.spec.blocks import Block
from dsaccel.spec.local import HeadPlan
from dsaccel.spec.plan import Plan
from dsaccel.spec.unit_names import head_names


@dataclass(frozen=True)
class Beginning:
    """A network up to one of its heads."""

    head: str
    """`stem`, `s2.1 conv 2`."""
    num_parameters: int
    """The parameters with the head's classifier, as of a network that is read there."""
    flops: int


def beginnings(plan: Plan) -> tuple[Beginning, ...]:
    """The beginnings of a network, the shortest first."""
    parts = (
        Beginning(
            name,
            sum(block.num_parameters for block in blocks) + classifier.num_parameters,
            sum(block.flops for block in blocks) + classifier.flops,
        )
        for name, (blocks, classifier) in zip(head_names(plan), _cut(plan), strict=False)
    )
    return tuple(parts)


def _cut(plan: Plan) -> Iterator[tuple[list[Block], HeadPlan]]:
    """The blocks below each head, and its classifier."""
    below: list[Block] = []
    for block in plan.blocks:
        for num, layer in enumerate(block.layers, 1):
            if layer.head is not None:
                is_whole = num == len(block.layers)
                part = replace(block, layers=block.layers[:num], shortcut="none")
                yield [*below, block if is_whole else part], layer.head.classifier
        below.append(block)
