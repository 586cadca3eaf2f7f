"""What follows from how a search ended: what to say, whether to confirm, what is missing."""

from collections.abc import Iterator

from dsaccel.config.study import RuntimeConfig, StudyConfig
from dsaccel.errors import NoResultError
from dsaccel.search.engine import Search
from dsaccel.search.suggestions import MAX_DRAWS
from dsaccel.study.folder import StudyDir
from dsaccel.study.record import StudyRecord
from dsaccel.study.rows import best_trial
from dsaccel.training.device import num_cores


def before_training(searching: Search) -> Iterator[str]:
    """Tell the user what is worth knowing before training begins."""
    yield from searching.bench.notes
    yield from crowding(searching.config.runtime)
    if not searching.data.has_test:
        name = searching.config.data.name
        yield f"{name}: no test split; results are validation accuracies"
    if searching.is_finished:
        stands = "has nothing to propose" if searching.meets_no_more else "is finished"
        name, trained = searching.directory.name, f"{searching.num_trained} hierarchies trained"
        yield f"study {name} {stands}: {trained}; nothing to do"


def crowding(runtime: RuntimeConfig) -> Iterator[str]:
    """Warn if workers take each other's cores; fewer threads would be another study."""
    threads, cores = (runtime.workers or 1) * (runtime.threads or 1), num_cores()
    if runtime.workers is not None and runtime.workers > 1 and threads > cores:
        yield (
            f"{runtime.workers} workers of {runtime.threads} threads share {cores} cores: a new "
            f"study is faster with --threads {max(1, cores // runtime.workers)}"
        )


def after_training(searching: Search) -> Iterator[str]:
    """Why no more hierarchies are trained, if that is not for the budget."""
    if searching.is_exhausted:
        yield f"all {searching.space.size} feasible hierarchies are trained"
    if searching.meets_no_more:
        way_out = (
            "widen its measured bounds, or narrow num_blocks and settings to where they hold, "
            "under another --study-name"
            if searching.space.is_measured
            else "all that differ may be trained"
        )
        yield (
            f"of {MAX_DRAWS} hierarchies drawn none was feasible and new, and the space is too "
            f"large to list; {way_out}"
        )


def should_confirm(searching: Search) -> bool:
    """Whether the winner is to be confirmed now, as the settings ask for."""
    asked = searching.config.confirm.enabled
    return asked and searching.is_finished and best_trial(searching.ledger.record()) is not None


def check_winner(searching: Search) -> None:
    """Refuse to call a search done that has no winner.

    Raises:
        NoResultError: if it has none, and how to get one.
    """
    if not searching.is_finished or best_trial(searching.ledger.record()) is not None:
        return
    trained = searching.ledger.record().trained
    if trained and all(trial.why for trial in trained):
        raise NoResultError(
            f"study {searching.directory.name} must end with a network that was trained, but all "
            f"{len(trained)} failed, {trained[0].name} first: {trained[0].why}; mend that and "
            "begin anew under another --study-name"
        )
    if trained and all(trial.diverged for trial in trained):
        raise NoResultError(
            f"study {searching.directory.name} must end with a network whose weights are finite, "
            f"but the training of all {len(trained)} hierarchies diverged; set a smaller "
            "training.learning_rate under another --study-name"
        )
    more = "train more with a larger --n-trials, or "
    if searching.meets_no_more:
        more = "widen the measured bounds or " if searching.space.is_measured else ""
    elif searching.is_exhausted:
        more = ""
    raise NoResultError(
        f"study {searching.directory.name} must end with a finished hierarchy within its "
        f"constraint, but none of {searching.num_trained} is; {more}prune less under another "
        "--study-name"
    )


def missing_winner(directory: StudyDir, config: StudyConfig, study: StudyRecord) -> NoResultError:
    """The error of a study without a winner, with the command that trains more."""
    is_spent = len(study.trained) >= config.budget.n_trials
    options = ("--n-trials", str(2 * config.budget.n_trials)) if is_spent else ()
    return NoResultError(
        f"study {directory.name} has no finished trial within its constraint; train more with: "
        f"{directory.search_command(*options)}"
    )
