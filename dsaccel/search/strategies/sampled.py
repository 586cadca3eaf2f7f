"""What the strategies have in common that ask one of Optuna's samplers."""

from abc import abstractmethod
from collections.abc import Iterator

from optuna.samplers import BaseSampler

from dsaccel.search.strategies import Strategy, Told
from dsaccel.search.suggestions import suggest
from dsaccel.spec.hierarchy import Hierarchy


class Sampled(Strategy):
    """A sampler's suggestions."""

    learns = True

    @abstractmethod
    def sampler(self, seed: int) -> BaseSampler:
        """A new one."""

    def suggestions(self, told: Told) -> Iterator[Hierarchy | None]:
        return suggest(told, self.sampler)
