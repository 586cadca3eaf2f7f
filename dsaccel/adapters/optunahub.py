"""A landscape as a benchmark of OptunaHub. It needs `pip install 'dsaccel[optunahub]'`."""

from pathlib import Path
from typing import Any

from optuna import TrialPruned
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.study import StudyDirection
from optunahub.benchmarks import BaseProblem

from dsaccel.analysis.landscape_files import read_landscape
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.rung import Exit


class LandscapeProblem(BaseProblem):
    """The blocks of each stage are the parameters, `blocks_1` first; the measured accuracy is the
    value. A hierarchy that was not trained, because the space forbids it, is pruned.
    """

    def __init__(
        self, path: str | Path, *, seed: int, epoch: int | None = None, exit: Exit | None = None
    ) -> None:
        """
        Args:
            path: of the landscape.
            seed: of the training that is read.
            epoch: 1-based; None: the last one.
            exit: where networks are read; None: where the study reads them.
        """
        self.landscape = read_landscape(path)
        self.seed = seed
        self.exit: Exit | None = exit
        self.epoch = epoch or self.landscape.num_steps

    @property
    def search_space(self) -> dict[str, BaseDistribution]:
        bounds = self.landscape.config.space.num_blocks
        return {f"blocks_{s}": IntDistribution(*bound) for s, bound in enumerate(bounds, 1)}

    @property
    def directions(self) -> list[StudyDirection]:
        return [StudyDirection.MAXIMIZE]

    def evaluate(self, params: dict[str, Any]) -> float:
        hierarchy = Hierarchy(tuple(params[name] for name in self.search_space))
        network = self.landscape.networks.get(hierarchy)
        if network is None or not network.is_feasible:
            raise TrialPruned(f"{hierarchy} is outside of the space")
        return self.landscape.query(hierarchy, seed=self.seed, epoch=self.epoch, exit=self.exit)
