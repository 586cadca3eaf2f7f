"""What a confirmation has measured, and what may be said of it.

It is read from the study's attributes: `confirmation` (entries, validation accuracies, decisions)
and `test_readings` (each look at the test split). Decisions are made on validation; what the test
split says is shown beside them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from dsaccel.analysis.variance import Components, variance_components
from dsaccel.confirm.depth import Depth, depth_of
from dsaccel.families import MODES, Mode
from dsaccel.spec.beginnings import Beginning
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.statistics import (
    ALPHA,
    Paired,
    Summary,
    holm,
    paired,
    smallest_detectable,
    summarise,
)
from dsaccel.study.record import StudyRecord

Split = Literal["val", "test"]
Against = Literal["best", "reference", "global"]
SPLITS: tuple[Split, ...] = ("val", "test")
AGAINST: tuple[Against, ...] = ("best", "reference", "global")
Role = Literal[
    "finalist",
    "reference",
    "fewer parameters",
    "fewer losses",
    "widened to parameters",
    "widened to FLOPs",
    "deep supervision",
    "ensemble without cuts",
    "best by back-propagation",
]


@dataclass(frozen=True)
class Entry:
    """One network of the confirmation."""

    name: str
    """The hierarchy, with a width that is not the study's: `2-2-2-2@1.34`,
    `2-2-2-2 width=1.34`. A network without cuts is written `1-1-2-2@uncut`."""
    hierarchy: str
    settings: Mapping[str, Any]
    """The settings in which it differs from the study: `{"network.width": 1.34}`."""
    roles: tuple[Role, ...]
    num_parameters: int
    """Local heads not counted."""
    flops: int
    num_local_losses: int
    beginnings: tuple[Beginning, ...] = ()
    """The networks within it, each up to a head; none in what an earlier version recorded."""

    @property
    def key(self) -> Hierarchy:
        """The hierarchy with all that the entry has of its own: no two entries have the same."""
        hierarchy = Hierarchy.parse(self.hierarchy)
        own = {key.split(".")[1]: value for key, value in self.settings.items()}
        return hierarchy.with_settings(dict(hierarchy.settings) | own)

    @property
    def modes(self) -> tuple[Mode, ...]:
        """Controls speak about layer-wise learning only, and back-propagation's own best about it
        alone.
        """
        globally = {"finalist", "reference", "best by back-propagation"} & set(self.roles)
        locally = set(self.roles) - {"best by back-propagation"}
        return (*(("local",) if locally else ()), *(("global",) if globally else ()))


@dataclass(frozen=True)
class Comparison:
    """A paired difference with what it is worth among the others of its kind."""

    paired: Paired
    p_holm: float | None
    """Adjusted for all comparisons of its kind; None: the noise is unknown, so judge nothing."""
    num: int
    """How many comparisons those are."""

    @property
    def alpha(self) -> float:
        """The level at which this one is a lead whatever the others come to (Bonferroni)."""
        return ALPHA / self.num

    @property
    def detectable(self) -> float | None:
        """The true difference that is found as a lead in at least 80 % of such experiments."""
        paired = self.paired
        if not self.is_judged or paired.std is None:
            return None
        return smallest_detectable(paired.std, paired.n, alpha=self.alpha)

    @property
    def is_tie(self) -> bool:
        """Whether this is no lead: not significant at 5 % after Holm, or not to be judged."""
        return self.p_holm is None or self.p_holm > ALPHA

    @property
    def is_judged(self) -> bool:
        """Whether the noise is known: the difference was measured more than once, and varies."""
        return self.p_holm is not None


@dataclass(frozen=True)
class Result:
    """An entry trained in one mode, over all its seeds."""

    entry: Entry
    mode: Mode
    accuracies: Mapping[Split, Summary]
    comparisons: Mapping[tuple[Split, Against], Comparison]
    """Against the best finalist and the reference trained layer-wise, and (for layer-wise rows)
    against global back-propagation on the same network."""


@dataclass(frozen=True)
class Confirmation:
    entries: tuple[Entry, ...]
    accuracies: Mapping[Split, Mapping[tuple[str, Mode], Mapping[int, float]]]
    """Split -> (entry, mode) -> seed -> accuracy (0..1) of the output layer, last epoch."""
    reference: str | None
    """The entry that finalists are compared with."""
    best: str | None
    """The finalist that was decided for, on validation; None: not decided yet."""
    tuning: Mapping[str, Any] | None
    """How the settings of global back-propagation were found."""
    num_images: Mapping[Split, int]
    val_is_given: bool
    """Whether validation is on the images that the finalists were chosen by, at every seed."""
    margin: Mapping[str, Any] | None = None
    """What `planned` said when a margin was set; None: none is."""
    heads: Mapping[tuple[str, Mode], Mapping[int, Sequence[float]]] = field(default_factory=dict)
    """(entry, mode) -> seed -> validation accuracies of all heads in order of depth."""
    times_s: Mapping[tuple[str, Mode], Mapping[int, float]] = field(default_factory=dict)
    """(entry, mode) -> seed -> its share of the training time; of an earlier version, none."""
    looks: Sequence[Mapping[str, Any]] = ()
    """Every look at the test split."""
    folder: Path | None = None
    """The folder of what was read of each test image; None: it is not known."""

    def depth(self, name: str, mode: Mode = "local") -> Depth | None:
        """An entry at its exit against its best earlier head; None: that is not recorded."""
        heads = self.heads.get((name, mode), {})
        return depth_of(self.entry(name).beginnings, heads, self.series("val", name, mode))

    def series(self, split: Split, name: str | None, mode: Mode) -> Mapping[int, float]:
        """Seed -> accuracy; empty if nothing is measured."""
        return {} if name is None else self.accuracies[split].get((name, mode), {})

    def entry(self, name: str) -> Entry:
        return next(entry for entry in self.entries if entry.name == name)

    def best_finalist(self) -> str | None:
        """The highest mean validation accuracy layer-wise; of equals the higher ranked one."""
        finalists = [entry.name for entry in self.entries if "finalist" in entry.roles]
        measured = [name for name in finalists if self.series("val", name, "local")]
        if not measured:
            return None
        means = {n: summarise([*self.series("val", n, "local").values()]).mean for n in measured}
        return max(measured, key=means.__getitem__)

    def results(self) -> list[Result]:
        """A row for each entry and mode that has been trained, layer-wise ones first."""
        rows: list[tuple[Entry, Mode]] = [
            (entry, mode)
            for mode in MODES
            for entry in self.entries
            if self.series("val", entry.name, mode)
        ]
        comparisons = self._comparisons(rows)
        return [
            Result(entry, mode, self._summaries(entry.name, mode), comparisons[entry.name, mode])
            for entry, mode in rows
        ]

    def components(self) -> Components | None:
        """Variance components of the layer-wise entries at the study's settings, or None, as where
        settings are searched: block counts do not tell those entries apart.

        Their prefix is the first half of the stages. Finalists are few and chosen, so this says
        little about the space; a landscape says more (`dsaccel variance`).
        """
        table = {
            hierarchy: dict(series)
            for entry in self.entries
            if not entry.settings
            and not (hierarchy := Hierarchy.parse(entry.hierarchy)).settings
            and (series := self.series("val", entry.name, "local"))
        }
        return variance_components(table, next(iter(table)).num_stages // 2) if table else None

    def _summaries(self, name: str, mode: Mode) -> dict[Split, Summary]:
        found: dict[Split, Summary] = {}
        for split in SPLITS:
            if series := self.series(split, name, mode):
                found[split] = summarise(list(series.values()))
        return found

    def _comparisons(
        self, rows: list[tuple[Entry, Mode]]
    ) -> dict[tuple[str, Mode], dict[tuple[Split, Against], Comparison]]:
        comparisons: dict[tuple[str, Mode], dict[tuple[Split, Against], Comparison]] = {
            (entry.name, mode): {} for entry, mode in rows
        }
        for split in SPLITS:
            for against in AGAINST:
                for mode in MODES:
                    names = [entry.name for entry, row_mode in rows if row_mode == mode]
                    family = {
                        name: difference
                        for name in names
                        if (difference := self._difference(split, against, name, mode))
                    }
                    for name, comparison in _adjusted(family).items():
                        comparisons[name, mode][split, against] = comparison
        return comparisons

    def _difference(self, split: Split, against: Against, name: str, mode: Mode) -> Paired | None:
        if against == "global":
            other: tuple[str | None, Mode] = (name, "global")
        else:
            other = (self.best if against == "best" else self.reference, "local")
        if other == (name, mode):
            return None
        return paired(self.series(split, name, mode), self.series(split, *other))


def read_confirmation(study: StudyRecord) -> Confirmation | None:
    """The confirmation of a study as far as it has come; None if there is none."""
    if study.confirmation is None:
        return None
    return confirmation_of(study.confirmation, study.test_readings, study.folder)


def confirmation_of(
    record: Mapping[str, Any], readings: Sequence[Mapping[str, Any]], folder: Path | None = None
) -> Confirmation:
    """The confirmation that a study's attributes hold, and its folder of what was read."""
    val: dict[tuple[str, Mode], dict[int, float]] = {}
    heads: dict[tuple[str, Mode], dict[int, Sequence[float]]] = {}
    times: dict[tuple[str, Mode], dict[int, float]] = {}
    for result in record["results"]:
        key = (result["name"], result["mode"])
        val.setdefault(key, {})[result["seed"]] = result["val_accuracy"]
        heads.setdefault(key, {})[result["seed"]] = result.get("heads", ())
        if "time_s" in result:
            times.setdefault(key, {})[result["seed"]] = result["time_s"]
    test: dict[tuple[str, Mode], dict[int, float]] = {}
    for reading in readings:
        key = (reading["name"], reading["mode"])
        test.setdefault(key, {})[reading["seed"]] = reading["accuracy"]
    decisions = record["decisions"]
    return Confirmation(
        entries=tuple(map(_entry, record["entries"])),
        accuracies={"val": val, "test": test},
        reference=record["reference"],
        best=decisions[-1]["best"] if decisions else None,
        tuning=record["tuning"],
        num_images=record["num_images"],
        val_is_given=record.get("val_is_given", False),  # recorded since images can be given
        margin=record.get("margin"),
        heads=heads,
        times_s=times,
        looks=readings,
        folder=folder,
    )


def _entry(stored: Mapping[str, Any]) -> Entry:
    within = tuple(Beginning(**each) for each in stored.get("beginnings", ()))
    return Entry(**{**stored, "roles": tuple(stored["roles"]), "beginnings": within})


def entry_record(entry: Entry) -> dict[str, Any]:
    """An entry as it is stored."""
    return asdict(entry) | {"roles": list(entry.roles), "settings": dict(entry.settings)}


def _adjusted(family: Mapping[str, Paired]) -> dict[str, Comparison]:
    # what cannot be judged was compared all the same: it counts among the others
    p_values = [1.0 if d.p_value is None else d.p_value for d in family.values()]
    return {
        name: Comparison(difference, None if difference.p_value is None else p_holm, len(family))
        for (name, difference), p_holm in zip(family.items(), holm(p_values), strict=True)
    }
