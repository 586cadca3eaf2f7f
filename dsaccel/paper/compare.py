"""What the paper published beside what was reached here, row by row and in the order of rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

from dsaccel.families import MODES, Mode
from dsaccel.paper.kept import Trained
from dsaccel.paper.rows import Row
from dsaccel.paper.train import Reproduction
from dsaccel.statistics import Paired, Summary, paired, summarise, tau_b


@dataclass(frozen=True)
class RowResult:
    """One row, in both modes."""

    row: Row
    by_seed: Mapping[Mode, Mapping[int, Trained]]

    def accuracies(self, mode: Mode) -> dict[int, float]:
        """The output layer's accuracy after the last epoch, by seed."""
        return {seed: trained.accuracy for seed, trained in self.by_seed[mode].items()}

    def summary(self, mode: Mode) -> Summary | None:
        """None: the network is not trained yet."""
        accuracies = self.accuracies(mode)
        return summarise(list(accuracies.values())) if accuracies else None

    @property
    def gaps(self) -> dict[int, float]:
        """How far back-propagation leads, by seed."""
        local, glob = self.accuracies("local"), self.accuracies("global")
        return {seed: glob[seed] - local[seed] for seed in local if seed in glob}

    @property
    def gap(self) -> Paired | None:
        """How far back-propagation leads, paired by seed."""
        return paired(self.accuracies("global"), self.accuracies("local"))

    @property
    def published_gap(self) -> float:
        return self.row.published["global"] - self.row.published["local"]


@dataclass(frozen=True)
class RankAgreement:
    """How far rows of one family come in the paper's order, layer-wise: Kendall's tau-b by seed."""

    table: str
    family: str
    num_rows: int
    with_paper: tuple[float, ...]
    """One a seed; none: fewer than three rows, or rows that are equally accurate."""
    shallow_with_paper: float | None
    """The same if fewer blocks in the first half of the stages were predicted to be better."""


@dataclass(frozen=True)
class Comparison:
    """All rows of a table or a figure."""

    results: tuple[RowResult, ...]

    @classmethod
    def of(cls, reproduction: Reproduction) -> "Comparison":
        """What has been trained so far."""
        return cls(tuple(_result(reproduction, row) for row in reproduction.rows))

    @cached_property
    def rank_agreements(self) -> list[RankAgreement]:
        """One for each family of each table."""
        groups = groupby(self.results, lambda result: (result.row.table, result.row.family))
        return [_agreement(*key, list(group)) for key, group in groups]


def _result(reproduction: Reproduction, row: Row) -> RowResult:
    by_seed: dict[Mode, dict[int, Trained]] = {}
    for mode in MODES:
        found = {seed: reproduction.trained(row, mode, seed) for seed in reproduction.seeds}
        by_seed[mode] = {seed: trained for seed, trained in found.items() if trained is not None}
    return RowResult(row, by_seed)


def _agreement(table: str, family: str, results: Sequence[RowResult]) -> RankAgreement:
    published = [result.row.published["local"] for result in results]
    by_seed = [result.accuracies("local") for result in results]
    complete = [seed for seed in by_seed[0] if all(seed in each for each in by_seed)]
    if len(results) < 3:
        return RankAgreement(table, family, len(results), (), None)
    taus = (tau_b([each[seed] for each in by_seed], published) for seed in complete)
    shallow = tau_b([-float(result.row.num_shallow) for result in results], published)
    with_paper = tuple(tau for tau in taus if tau is not None)
    return RankAgreement(table, family, len(results), with_paper, shallow)
