"""Whether depth helps: a network at its exit against the best of its own earlier heads.

Where it does not, what lies above that head is no part of what should be deployed, and the network
that ends there is the one to be counted. Heads of one network and seed see the same images, so the
difference is paired. The head is the best of many by the same accuracies, which favours it: that
depth helps is said too seldom rather than too often.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dsaccel.spec.beginnings import Beginning
from dsaccel.statistics import Paired, paired, summarise


@dataclass(frozen=True)
class Depth:
    """What a network's exit is worth beside its best earlier head."""

    beginning: Beginning
    """The network up to that head."""
    paired: Paired
    """The exit's accuracy minus the head's, over seeds."""

    @property
    def helps(self) -> bool:
        """Whether the 95 % interval lies above 0."""
        return self.paired.low is not None and self.paired.low > 0


def depth_of(
    beginnings: Sequence[Beginning],
    heads: Mapping[int, Sequence[float]],
    exits: Mapping[int, float],
) -> Depth | None:
    """Compare an exit with the heads before it; None: there is none, or they are not recorded.

    Args:
        beginnings: of the network.
        heads: seed -> accuracies of all heads in order of depth; the last one is the exit, or a
            part of it.
        exits: seed -> accuracy of the exit.
    """
    earlier = {seed: read[:-1] for seed, read in heads.items() if seed in exits}
    num = min(map(len, earlier.values()), default=0)
    if not 0 < num <= len(beginnings):
        return None
    means = [summarise([read[i] for read in earlier.values()]).mean for i in range(num)]
    best = max(range(num), key=means.__getitem__)
    difference = paired(exits, {seed: read[best] for seed, read in earlier.items()})
    return difference and Depth(beginnings[best], difference)
