"""What follows from how a search ended: what to say, whether to confirm, what is missing."""

from collections.abc import Iterator

from dsaccel.errors import NoResultError
from dsaccel.search.engine import Search
from dsaccel.search.suggestions import MAX_DRAWS
from dsaccel.study.rows import best_trial


def before_training(searching: Search) -> Iterator[str]:
    """What a user should know before it trains."""
    yield from searching.bench.notes
    if not searching.data.has_test:
        name = searching.config.data.name
        yield f"{name}: no test split; results are validation accuracies"


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
    return asked and searching.is_finished and best_trial(searching.study) is not None


def check_winner(searching: Search) -> None:
    """Refuse to call a search done that has no winner.

    Raises:
        NoResultError: if it has none, and how to get one.
    """
    if not searching.is_finished or best_trial(searching.study) is not None:
        return
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
