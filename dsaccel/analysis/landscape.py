"""A landscape: an exhaustive study as a table, a row for each hierarchy, seed, epoch and head.

Nothing is estimated or left out: every feasible hierarchy was trained to its end, so a search can
be replayed on the table (`replay.py`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from optuna import Study
from optuna.trial import FrozenTrial, TrialState

from dsaccel.config.study import BudgetConfig, ConfirmConfig, PruningConfig, StudyConfig
from dsaccel.config.toml import differences
from dsaccel.errors import ConfigError, MismatchError, NoResultError
from dsaccel.planner import Planner
from dsaccel.space.space import SearchSpace
from dsaccel.spec.hierarchy import format_hierarchy, parse_hierarchy
from dsaccel.study.folder import StudyDir


@dataclass(frozen=True)
class Network:
    """What a hierarchy costs, and whether it may be called the best."""

    num_parameters: int
    flops: int
    shallow_scale: float
    is_feasible: bool


@dataclass(frozen=True)
class Landscape:
    config: StudyConfig
    """The study's, without what says where it was kept; of several studies the first one's."""
    num_classes: int
    num_val: int | None
    """Validation images behind each accuracy."""
    networks: dict[str, Network]
    """Every feasible hierarchy, and the references."""
    accuracies: dict[int, dict[str, dict[int, tuple[float, ...]]]]
    """Seed -> hierarchy -> step -> validation accuracy (0..1) of each trained head in order of
    depth, the output layer's last."""

    @property
    def num_steps(self) -> int:
        """The last step, at which the output layer's accuracy is the objective."""
        if self.config.training.schedule == "sequential":
            return len(self.config.space.num_blocks)
        return self.config.training.epochs

    @cached_property
    def space(self) -> SearchSpace:
        references = [parse_hierarchy(text) for text in self.config.references]
        # planned only where it is measured: a landscape need not say what its images were
        return SearchSpace.planned(self.config.space, lambda h: self.plan(h), references)

    @property
    def plan(self) -> Planner:
        """The networks that were trained."""
        return Planner.of(self.config, self.num_classes)

    def has_output(self, step: int) -> bool:
        """Whether the last accuracy of a step is the output layer's."""
        return self.config.training.schedule == "simultaneous" or step == self.num_steps

    def objective(self, seed: int, hierarchy: str) -> float:
        """The output layer's accuracy after the last step."""
        return self.accuracies[seed][hierarchy][self.num_steps][-1]

    def optimum(self, seed: int) -> float:
        """The highest objective of a feasible hierarchy."""
        feasible = [name for name, network in self.networks.items() if network.is_feasible]
        return max(self.objective(seed, name) for name in feasible)


# ------------------------------------------------------------------ from studies


def check_hierarchies_alone(config: StudyConfig, name: str) -> None:
    """Refuse a study that searches settings too.

    Raises:
        ConfigError: if it does.
    """
    if config.space.settings.names:
        raise ConfigError(
            f"a landscape is of hierarchies alone, but study {name} also searches "
            f"{', '.join(config.space.settings.names)}; search a space without settings"
        )


def record_landscape(
    studies: Sequence[tuple[StudyConfig, Study]],
    *,
    is_sample: bool = False,
    names: Sequence[str] | None = None,
) -> Landscape:
    """The landscape of exhaustive studies that differ in their seed alone.

    Args:
        studies: settings and trials.
        is_sample: the references, which were drawn from the space, stand for all of it.
        names: of the studies' folders; None: as Optuna knows the studies.

    Raises:
        NoResultError: if a feasible hierarchy has not been trained to its end.
        MismatchError: if the studies differ in more than their seed, or not in their seed.
        ConfigError: if the space is too large to list, or settings are searched too.
    """
    config, first = studies[0]
    _check_comparable(studies)
    names = names or [study.study_name for _, study in studies]
    check_hierarchies_alone(config, names[0])
    num_classes = _num_classes(config, _complete(first))
    landscape = Landscape(
        _portable(config),
        num_classes,
        first.user_attrs.get("num_val"),
        networks={},
        accuracies={},
    )
    for (other, study), name in zip(studies, names, strict=True):
        trials = _complete(study)
        _check_exhaustive(landscape.space, trials, other, name, is_sample)
        if is_sample:
            # harvested ones were not drawn: they have fewer blocks in the last stage
            trials = {name: trials[name] for name in config.references}
        heads: dict[str, dict[int, tuple[float, ...]]] = {}
        for name, trial in trials.items():
            attributes = trial.user_attrs
            landscape.networks[name] = Network(
                attributes["num_parameters"],
                attributes["flops"],
                attributes["shallow_scale"],
                landscape.space.violation(parse_hierarchy(name)) is None,
            )
            steps = sorted(trial.intermediate_values)
            rows = map(tuple, attributes["head_accuracies"])
            heads[name] = dict(zip(steps, rows, strict=True))
        landscape.accuracies[other.seed] = heads
    return landscape


def _complete(study: Study) -> dict[str, FrozenTrial]:
    """The trials that were trained to their end, by hierarchy, in lexicographic order."""
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    by_name = {trial.user_attrs["hierarchy"]: trial for trial in trials}
    return {name: by_name[name] for name in sorted(by_name, key=parse_hierarchy)}


def _check_comparable(studies: Sequence[tuple[StudyConfig, Study]]) -> None:
    config, first = studies[0]
    seeds: dict[int, str] = {}
    for other, study in studies:
        if other.seed in seeds:
            raise MismatchError(
                "each study of a landscape must have a seed of its own, but "
                f"{seeds[other.seed]} and {study.study_name} both have {other.seed}"
            )
        seeds[other.seed] = study.study_name
        lines = differences(_deciding(config), _deciding(other))
        if lines:
            raise MismatchError(
                f"the studies of a landscape must differ in their seed alone, but "
                f"{first.study_name} ('in the study') and {study.study_name} ('asked for') "
                "differ:\n  " + "\n  ".join(lines)
            )


def _check_exhaustive(
    space: SearchSpace,
    trials: Mapping[str, FrozenTrial],
    config: StudyConfig,
    study: str,
    is_sample: bool,
) -> None:
    feasible = [] if is_sample else space.feasible()
    if feasible is None:
        raise ConfigError(
            "a landscape needs a space that can be trained exhaustively, but that of study "
            f"{study} is too large to list; narrow space.num_blocks"
        )
    names = [format_hierarchy(h) for h in dict.fromkeys([*feasible, *space.references])]
    missing = [name for name in names if name not in trials]
    if not missing:
        return
    shown = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
    options = ["--n-trials", str(len(names))]
    if config.pruning.kind != "none" or config.budget.strategy == "beam":
        # neither can be changed within a study
        options += ["--strategy", "exhaustive", "--cohort-size", str(len(names)), "--no-confirm"]
        options += ["--set", _no_pruning(config), "--study-name", f"{study}-landscape"]
    command = StudyDir(study).search_command(*options)
    raise NoResultError(
        f"a landscape needs all {len(names)} hierarchies of study {study} trained to their end, "
        f"but {len(missing)} are missing ({shown}); train them, without pruning, with: {command}"
    )


def _no_pruning(config: StudyConfig) -> str:
    """The override; what belongs to one kind of pruning alone must go with it."""
    is_special = config.pruning.options or config.pruning.percentile is not None
    return 'pruning={kind="none"}' if is_special else "pruning.kind=none"


def _num_classes(config: StudyConfig, trials: Mapping[str, FrozenTrial]) -> int:
    """Not recorded in a study, but told by the size of the output layer.

    Raises:
        NoResultError: if nothing is complete.
        ConfigError: if the trials' parameters are not those of these settings.
    """
    if not trials:
        raise NoResultError("a landscape needs a study with hierarchies trained to their end")
    name, trial = next(iter(trials.items()))
    hierarchy, recorded = parse_hierarchy(name), trial.user_attrs["num_parameters"]
    two, three = (Planner.of(config, num)(hierarchy).num_parameters for num in (2, 3))
    num_classes = 2 + (recorded - two) // (three - two)
    if num_classes < 2 or Planner.of(config, num_classes)(hierarchy).num_parameters != recorded:
        raise ConfigError(
            f"{name} must have the parameters that the study's settings give, but {recorded} are "
            "recorded; was the study written by another version?"
        )
    return num_classes


def _portable(config: StudyConfig) -> StudyConfig:
    """Without paths, and without a storage URL, which may hold a password."""
    data = config.data.model_copy(update={"dir": None, "name": Path(config.data.name).name})
    return config.model_copy(update={"data": data, "storage": None})


def _deciding(config: StudyConfig) -> StudyConfig:
    """Without the seed, and without what says only how the study was searched."""
    update = {
        "seed": 1,
        "budget": BudgetConfig(),
        "pruning": PruningConfig(),
        "confirm": ConfirmConfig(),
    }
    return _portable(config).model_copy(update=update)
