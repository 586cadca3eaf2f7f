"""What the strategies have in common that ask one of Optuna's samplers."""

from abc import abstractmethod
from collections.abc import Hashable, Iterator, Mapping, Sequence

from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from dsaccel.search.strategies import Strategy
from dsaccel.search.suggestions import suggest
from dsaccel.space.space import SearchSpace
from dsaccel.spec.costs import Cost
from dsaccel.spec.hierarchy import Hierarchy


class Sampled(Strategy):
    """A sampler's suggestions."""

    learns = True

    @abstractmethod
    def sampler(self, seed: int) -> BaseSampler:
        """A new one."""

    def suggestions(
        self,
        space: SearchSpace,
        finished: Sequence[FrozenTrial],
        values: Mapping[Hashable, float | None],
        taken: set[Hashable],
        *,
        seed: int,
        cost: Cost | None = None,
    ) -> Iterator[Hierarchy | None]:
        return suggest(space, finished, values, taken, make=self.sampler, seed=seed, cost=cost)
