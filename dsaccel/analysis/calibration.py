"""Train a cohort without pruning, with several seeds, to see how far rungs can be trusted.

Each seed is an ordinary study, `NAME-calibrate-SEED`, so it goes on where it was cut off. All train
the same hierarchies: the whole space where it fits the budget; otherwise a uniform sample, which
the studies have as references.
"""

from collections.abc import Iterator

from dsaccel.analysis.landscape import Landscape
from dsaccel.analysis.recorded import check_hierarchies_alone, record_landscape
from dsaccel.config.study import PruningConfig, StudyConfig
from dsaccel.errors import ConfigError
from dsaccel.search.engine import Search
from dsaccel.search.proposals import propose
from dsaccel.search.setup import open_search
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.study.folder import StudyDir
from dsaccel.training.workbench import Workbench


class Calibration:
    """The studies behind a calibration."""

    def __init__(
        self, config: StudyConfig, name: str, num_seeds: int, *, download: bool = False
    ) -> None:
        """Choose the hierarchies; trains nothing.

        Args:
            config: of the study that is to be pruned; its references are left out.
            name: the study's.
            num_seeds: the study's seed and those that follow it.
            download: fetch the data set.

        Raises:
            ConfigError: settings, data or a space that cannot be used.
        """
        check_hierarchies_alone(config, name)
        cohort, is_all = _choose(config.model_copy(update={"references": ()}), download)
        self.is_sample = not is_all
        """Whether the space does not fit the budget."""
        self.hierarchies = [str(hierarchy) for hierarchy in cohort]
        self.download = download
        self.studies = [
            (
                self._config(config.model_copy(update={"seed": config.seed + i})),
                StudyDir(f"{name}-calibrate-{config.seed + i}"),
            )
            for i in range(num_seeds)
        ]
        self.folder = StudyDir(f"{name}-calibrate").path
        """The folder of the outcome."""

    def searches(self) -> Iterator[Search]:
        """Each seed's study, from wherever it stands; to be run before the next one is asked for.

        Raises:
            MismatchError: a study exists with settings that would give other results.
            StorageError: a storage cannot be reached.
        """
        for config, directory in self.studies:
            yield open_search(config, directory, download=self.download)

    def landscape(self, searches: list[Search]) -> Landscape:
        """All that was read, when every study is finished."""
        return record_landscape(
            [search.ledger.record() for search in searches], is_sample=self.is_sample
        )

    def _config(self, config: StudyConfig) -> StudyConfig:
        budget = config.budget.model_copy(
            update={
                "n_trials": len(self.hierarchies),
                "cohort_size": len(self.hierarchies),
                # references come first, and there are no others to propose
                "strategy": "random" if self.is_sample else "exhaustive",
                "baseline": False,
                "timeout_s": None,
            }
        )
        references = tuple(self.hierarchies) if self.is_sample else ()
        pruning = PruningConfig(kind="none")
        return config.model_copy(
            update={"budget": budget, "references": references, "pruning": pruning}
        )


def _choose(config: StudyConfig, download: bool) -> tuple[list[Hierarchy], bool]:
    """The hierarchies to train, and whether these are all that are feasible."""
    space = Workbench.open(config, download=download).space
    drawn = propose(space, [], config.budget.n_trials, seed=config.seed, strategy="random")
    if not drawn:
        raise ConfigError(
            "none of the hierarchies drawn is feasible, and the space is too large to list; widen "
            "its measured bounds, or narrow num_blocks to where they hold"
        )
    return sorted(drawn), space.size == len(drawn)
