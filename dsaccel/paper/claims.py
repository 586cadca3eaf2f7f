"""The paper's claims as tests of what was trained here.

A claim of few epochs is none: while accuracies still rise, a deeper network is behind for being
slower. It is tested only where every network has reached a plateau before the learning rate decays
for the first time, which would flatten any curve.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby

from dsaccel.paper.compare import Comparison, RowResult
from dsaccel.paper.effects import Effect, slope
from dsaccel.paper.kept import Trained
from dsaccel.paper.rows import NUM_CLASSES
from dsaccel.statistics import summarise

PLATEAU = 0.01
"""The accuracy of a network on a plateau rises by no more than this."""
FEWEST_EPOCHS = 8
"""The fewest epochs before the first decay that can show a plateau."""
LEARNED = 2.0
"""A network that has learned is right at least so many times as often as by chance."""
FIRST_DECAY = 0.5
"""Share of the epochs after which the paper's learning rate decays for the first time."""


def claims_of(comparison: Comparison) -> list[Effect]:
    """Test the claims on each family of each table."""
    groups = groupby(comparison.results, lambda result: (result.row.table, result.row.family))
    return [effect for key, group in groups for effect in _claims(key, list(group))]


def rise(networks: Sequence[Trained]) -> float:
    """By how much accuracy still rises before the first decay: its mean over the last quarter of
    these epochs over that of the quarter before; the mean over networks that differ in the seed.
    """
    rises: list[float] = []
    for network in networks:
        accuracies = [1 - error for error in network.errors]
        end = max(2, int(FIRST_DECAY * len(accuracies)))
        quarter = max(1, end // 4)
        middle = end - quarter
        last, before = accuracies[middle:end], accuracies[middle - quarter : middle]
        rises.append(summarise(last or [0.0]).mean - summarise(before or last or [0.0]).mean)
    return summarise(rises).mean


def _claims(key: tuple[str, str], results: Sequence[RowResult]) -> Iterator[Effect]:
    where, why_not = f"{key[0]}, {key[1]}", _why_not(results)
    seeds = [
        seed
        for seed in results[0].accuracies("local")
        if all(seed in result.gaps for result in results)
    ]
    for claim, of_seed in _questions(results):
        found = {seed: of_seed(seed) for seed in seeds}
        by_seed = {seed: value for seed, value in found.items() if value is not None}
        yield Effect(f"{where}: {claim}", by_seed, why_not)


def _questions(results: Sequence[RowResult]) -> Iterator[tuple[str, Callable[[int], float | None]]]:
    """Each claim that the rows can be asked for, and what a seed says of it."""

    def gap(seed: int, rows: Sequence[RowResult] = results) -> float:
        return summarise([result.gaps[seed] for result in rows]).mean

    def cost(seed: int) -> float | None:
        lost = slope(shallow, [result.accuracies("local")[seed] for result in results])
        return None if lost is None else -lost

    yield "back-propagation leads (mean of rows)", gap
    shallow = [float(result.row.num_shallow) for result in results]
    if len(set(shallow)) > 1:
        yield "each shallow block costs layer-wise training", cost
        yield (
            "each shallow block costs it more than global",
            lambda seed: slope(shallow, [result.gaps[seed] for result in results]),
        )
    standard = next((result for result in results if result.row.is_standard), None)
    better = [r for r in results if standard and _is_accelerated(r, standard)]
    if standard and better:
        yield (
            f"fewer shallow and no fewer deep blocks close the gap of {standard.row.model}",
            lambda seed: standard.gaps[seed] - gap(seed, better),
        )


def _is_accelerated(result: RowResult, standard: RowResult) -> bool:
    row, other = result.row, standard.row
    return row.num_shallow < other.num_shallow and row.num_deep >= other.num_deep


def _why_not(results: Sequence[RowResult]) -> str | None:
    """Why the claims cannot be tested; None: they can."""
    rising: Mapping[str, float] = {
        f"{result.row.model} ({mode})": rise(list(trained.values()))
        for result in results
        for mode, trained in result.by_seed.items()
        if trained
    }
    if not rising:
        return "nothing is trained yet"
    num_epochs = min(
        len(trained.accuracies)
        for result in results
        for by_seed in result.by_seed.values()
        for trained in by_seed.values()
    )
    if int(FIRST_DECAY * num_epochs) < FEWEST_EPOCHS:
        return f"no plateau can be told from fewer than {FEWEST_EPOCHS} epochs before the decay"
    for result in results:
        for mode, trained in result.by_seed.items():
            chance = 1 / NUM_CLASSES[result.row.dataset]
            reached = [network.accuracy for network in trained.values()]
            if reached and summarise(reached).mean < LEARNED * chance:
                return f"{result.row.model} ({mode}) has hardly learned: less than twice by chance"
    name, most = max(rising.items(), key=lambda each: each[1])
    if most <= PLATEAU:
        return None
    return (
        f"no plateau: before the first decay {name} still rises by {100 * most:.1f} points from "
        f"quarter to quarter, more than {100 * PLATEAU:g}"
    )
