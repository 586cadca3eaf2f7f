"""Features of frozen units, kept within a budget of bytes so that they need not be computed again.

The first to come is kept, on the device while there is room, then in host memory; what comes later
is computed again. A unit's epochs are read in turn, once for each unit above: throwing out the
least recently used would throw out just what is needed soonest. Nothing here changes a result.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from dsaccel.nn.units import Features
from dsaccel.spec.trie import Node


class Key(NamedTuple):
    """The training features that a frozen unit passes on."""

    node: Node
    unit: int
    """0-based, within the node."""
    epoch: int
    batch: int


@dataclass
class _Tier:
    device: torch.device
    free_bytes: int
    entries: dict[Key, Features] = field(default_factory=dict)

    def drop(self, key: Key) -> Features | None:
        features = self.entries.pop(key, None)
        if features is not None:
            self.free_bytes += _num_bytes(features)
        return features


class FeatureCache:
    """Features by unit, epoch and batch."""

    def __init__(self, device: torch.device, *, device_bytes: int, host_bytes: int) -> None:
        self._device = device
        self._tiers = (_Tier(device, device_bytes), _Tier(torch.device("cpu"), host_bytes))

    def __contains__(self, key: Key) -> bool:
        return any(key in tier.entries for tier in self._tiers)

    def put(self, key: Key, features: Features) -> bool:
        """Keep features if there is room; returns whether there was."""
        num_bytes = _num_bytes(features)
        for tier in self._tiers:
            if num_bytes <= tier.free_bytes:
                tier.entries[key] = _moved(features, tier.device)
                tier.free_bytes -= num_bytes
                return True
        return False

    def pop(self, key: Key) -> Features | None:
        """Take features out, onto the device; None if they are not here."""
        for tier in self._tiers:
            features = tier.drop(key)
            if features is not None:
                return _moved(features, self._device)
        return None

    def drop(self, key: Key) -> None:
        """Free features, if they are here."""
        for tier in self._tiers:
            tier.drop(key)

    def retain(self, nodes: Collection[Node]) -> None:
        """Free the features of all other nodes."""
        for tier in self._tiers:
            for key in [key for key in tier.entries if key.node not in nodes]:
                tier.drop(key)


def _num_bytes(features: Features) -> int:
    return sum(part.nbytes for part in features if part is not None)


def _moved(features: Features, device: torch.device) -> Features:
    x, skip = features
    return Features(x.to(device), None if skip is None else skip.to(device))
