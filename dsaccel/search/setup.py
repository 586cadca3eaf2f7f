"""Set up a search: open the bench, resolve the settings, open the study."""

from dsaccel.config.study import StudyConfig
from dsaccel.data.source import DataSource
from dsaccel.parts import part_of
from dsaccel.search.engine import Search
from dsaccel.search.pruners import find_pruner
from dsaccel.search.strategy import check_strategy, resolve_budget
from dsaccel.space.space import SearchSpace
from dsaccel.study.folder import StudyDir
from dsaccel.study.record import StudyRecord
from dsaccel.study.resume import as_recorded, begin_study, check_same, recorded_study
from dsaccel.study.storage import open_study
from dsaccel.training.workbench import Workbench


def open_search(
    config: StudyConfig,
    directory: StudyDir,
    *,
    download: bool = False,
    source: DataSource | None = None,
) -> Search:
    """The search of a study, from wherever it stands; trains nothing.

    Raises:
        ConfigError: settings, data or a space that cannot be used.
        MismatchError: the study exists with settings that would give other results.
        StorageError: the storage cannot be reached, or another process trains in the study.
    """
    bench, _ = _bench(config, directory, download=download, source=source)
    return Search(bench, directory, begin_study(directory, bench.config, bench.data))


def look_into(
    config: StudyConfig,
    directory: StudyDir,
    *,
    download: bool = False,
    source: DataSource | None = None,
) -> tuple[Workbench, StudyRecord]:
    """The same, but for reading alone: nothing is written, and a study need not be begun."""
    bench, is_begun = _bench(config, directory, download=download, source=source)
    if not is_begun:
        return bench, StudyRecord(directory.name, (), {})
    return bench, StudyRecord.read(open_study(directory, bench.config), directory)


def _bench(
    config: StudyConfig, directory: StudyDir, *, download: bool, source: DataSource | None
) -> tuple[Workbench, bool]:
    """The bench of a study, and whether the study is begun already."""
    recorded = recorded_study(directory, config)
    if recorded is not None:
        config = as_recorded(config, recorded.config)
    bench = Workbench.open(config, download=download, source=source)
    bench = bench.with_config(resolve(bench.config, bench.space, is_new=recorded is None))
    if recorded is not None:
        check_same(directory, recorded, bench.config, bench.data.fingerprint)
    return bench, recorded is not None


def check_parts(config: StudyConfig) -> None:
    """Make each part of a study once.

    Raises:
        ConfigError: options that one of them has not; found later, they would be an error of every
            network.
    """
    part_of(config.network, "family", config.space.family)
    for kind in ("head", "loss"):
        part_of(config.network, kind)
    for kind in ("optimizer", "lr_schedule", "schedule"):
        part_of(config.training, kind)


def resolve(config: StudyConfig, space: SearchSpace, *, is_new: bool) -> StudyConfig:
    """Choose what a study leaves open, and refuse what does not go together.

    Raises:
        ConfigError: of a new study, a strategy that cannot do what its name says; of any, a beam
            without stages to build on, or a pruner of Optuna that cannot be made.
    """
    if config.budget.strategy is not None:
        config = part_of(config.budget, "strategy").prepared(config)
    check_parts(config)
    find_pruner(config.pruning)
    if is_new:
        check_strategy(config.budget, space)
    by = config.pruning.ranked_by(config.network.output)
    pruning = config.pruning.model_copy(update={"by": by})
    budget = resolve_budget(config.budget, space)
    return config.model_copy(update={"budget": budget, "pruning": pruning})
