"""The landscape of exhaustive studies, or an error that says what they lack."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from dsaccel.analysis.landscape import Landscape, Network, Tested
from dsaccel.config.study import BudgetConfig, ConfirmConfig, PruningConfig, StudyConfig
from dsaccel.config.toml import differences
from dsaccel.errors import ConfigError, MismatchError, NoResultError
from dsaccel.parts import load_class
from dsaccel.space.space import SearchSpace
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.study.folder import StudyDir
from dsaccel.study.record import StudyRecord
from dsaccel.study.trial_record import TrialRecord

Tests = Callable[
    [Sequence[tuple[StudyRecord, Sequence[TrialRecord]]]], Sequence[dict[Hierarchy, Tested]]
]


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
    studies: Sequence[StudyRecord], *, is_sample: bool = False, tests: Tests | None = None
) -> Landscape:
    """The landscape of exhaustive studies that differ in their seed alone.

    Args:
        studies: with the accuracies of their heads.
        is_sample: the references, which were drawn from the space, stand for all of it.
        tests: reads the networks of each study on the test split; None: they are not read.

    Raises:
        NoResultError: if a feasible hierarchy has not been trained to its end.
        MismatchError: if the studies differ in more than their seed, or not in their seed.
        ConfigError: if the space is too large to list, settings are searched too, or a study does
            not say what a landscape needs.
    """
    first = studies[0]
    _check_comparable(studies)
    check_hierarchies_alone(first.config, first.name)
    if first.num_classes is None:
        raise ConfigError(
            f"study {first.name} must say how many classes its images have, but was written by an "
            "earlier version, which did not; search it again under another --study-name"
        )
    config = _portable(first.config)
    landscape = Landscape(config, first.num_classes, first.num_val, networks={}, accuracies={})
    chosen: list[list[TrialRecord]] = []
    for study in studies:
        trials = {t.hierarchy: t for t in study.finished if t.is_complete}
        _check_exhaustive(landscape.space, trials, study, is_sample)
        # those harvested beside a sample were not drawn: they have fewer blocks in the last stage
        wanted = landscape.space.references if is_sample else sorted(trials)
        chosen.append([trials[h] for h in wanted])
        _add(landscape, study, chosen[-1])
    if tests is not None:
        read = tests(list(zip(studies, chosen, strict=True)))
        seeds = [study.config.seed for study in studies]
        landscape.tests.update(zip(seeds, read, strict=True))
    return landscape


def _add(landscape: Landscape, study: StudyRecord, trials: Sequence[TrialRecord]) -> None:
    """Add networks, what was read of them on validation, and the times."""
    for trial in trials:
        is_feasible = landscape.space.violation(trial.hierarchy) is None
        landscape.networks[trial.hierarchy] = _network(trial, is_feasible)
    seed, times = study.config.seed, {t.hierarchy: t.figure("alone_s") for t in trials}
    landscape.accuracies[seed] = {t.hierarchy: _heads(t, study) for t in trials}
    landscape.ensembles[seed] = {t.hierarchy: _ensembles(t) for t in trials}
    landscape.seconds[seed] = {h: time_s for h, time_s in times.items() if time_s is not None}
    landscape.tests[seed] = {}


def _network(trial: TrialRecord, is_feasible: bool) -> Network:
    num_parameters, flops, shallow_scale = map(
        trial.figure, ("num_parameters", "flops", "shallow_scale")
    )
    assert num_parameters is not None
    assert flops is not None
    assert shallow_scale is not None
    return Network(int(num_parameters), int(flops), shallow_scale, is_feasible)


def _heads(trial: TrialRecord, study: StudyRecord) -> dict[int, tuple[float, ...]]:
    """The accuracies by step."""
    rungs = trial.head_accuracies
    if len(rungs) != len(trial.by_step):
        raise ConfigError(
            f"the accuracies that {trial.name} read in study {study.name} must be in {study.folder}"
            ", but are lost or damaged; put the folder back, or search again under another "
            "--study-name"
        )
    return {
        step: tuple(accuracy or 0.0 for accuracy in rung)
        for step, rung in zip(sorted(trial.by_step), rungs, strict=True)
    }


def _ensembles(trial: TrialRecord) -> dict[int, float]:
    """The accuracies by step."""
    rungs = zip(sorted(trial.by_step), trial.ensembles, strict=False)
    return {step: accuracy or 0.0 for step, accuracy in rungs}


def _check_comparable(studies: Sequence[StudyRecord]) -> None:
    first = studies[0]
    seeds: dict[int, str] = {}
    for other in studies:
        seed = other.config.seed
        if seed in seeds:
            raise MismatchError(
                "each study of a landscape must have a seed of its own, but "
                f"{seeds[seed]} and {other.name} both have {seed}"
            )
        seeds[seed] = other.name
        lines = differences(_deciding(first.config), _deciding(other.config))
        if lines:
            raise MismatchError(
                f"the studies of a landscape must differ in their seed alone, but "
                f"{first.name} ('in the study') and {other.name} ('asked for') differ:\n  "
                + "\n  ".join(lines)
            )


def _check_exhaustive(
    space: SearchSpace, trials: Mapping[Hierarchy, TrialRecord], study: StudyRecord, is_sample: bool
) -> None:
    config = study.config
    feasible = [] if is_sample else space.feasible()
    if feasible is None:
        raise ConfigError(
            "a landscape needs a space that can be trained exhaustively, but that of study "
            f"{study.name} is too large to list; narrow space.num_blocks"
        )
    wanted = dict.fromkeys([*feasible, *space.references])
    missing = [str(h) for h in wanted if h not in trials]
    if not missing:
        return
    shown = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
    options = ["--n-trials", str(len(wanted))]
    strategy = config.budget.strategy
    decides = strategy is not None and load_class("strategy", strategy).decides
    if config.pruning.kind != "none" or decides:
        # neither can be changed within a study
        options += ["--strategy", "exhaustive", "--cohort-size", str(len(wanted)), "--no-confirm"]
        options += ["--set", _no_pruning(config), "--study-name", f"{study.name}-landscape"]
    command = StudyDir(study.name).search_command(*options)
    raise NoResultError(
        f"a landscape needs all {len(wanted)} hierarchies of study {study.name} trained to their "
        f"end, but {len(missing)} are missing ({shown}); train them, without pruning, with: "
        f"{command}"
    )


def _no_pruning(config: StudyConfig) -> str:
    """The override; what belongs to one kind of pruning alone must go with it."""
    is_special = config.pruning.options or config.pruning.percentile is not None
    return 'pruning={kind="none"}' if is_special else "pruning.kind=none"


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
