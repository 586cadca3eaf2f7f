"""What the paper could not tell apart: fewer shallow convolutions, fewer shallow losses, or a lower
resolution. A factorial study of ResNet18 by its recipe of Table V.

Three factors are crossed: the hierarchy, the granularity of the shallow stages, and the first unit
with a loss. Beside them: deep supervision (all losses, no cuts), and networks of one depth and
width in which the strides alone move, once as they are and once with equal FLOPs.
"""

import bisect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dsaccel.config.study import NetworkConfig
from dsaccel.errors import ConfigError
from dsaccel.families import build_plan
from dsaccel.families.resnet import STEM_WIDTH
from dsaccel.paper.effects import Effect
from dsaccel.paper.rows import WAYS, Row, Way
from dsaccel.paper.scale import Scale
from dsaccel.paper.train import Reproduction
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.statistics import summarise
from dsaccel.text import counted

STANDARD, FEW, LATE, EARLY = "2-2-2-2", "1-1-2-2", "1-1-3-3", "3-3-1-1"
"""The standard hierarchy, fewer shallow blocks, as many blocks of which fewer are shallow, more."""
COARSE = ("stage", "stage", "conv", "conv")
UNIFORM = {"widening": 1.0}
BOTH: tuple[Way, Way] = ("local", "global")


def arms(scale: Scale, models: Sequence[str] = ()) -> list[Row]:
    """The networks of the study, or those of these names.

    Raises:
        ConfigError: if there is none of a name.
    """
    rows = [*_crossed(), _row(LATE, LATE, ways=BOTH)]
    for name in (STANDARD, LATE, EARLY):
        rows.append(_row(f"{name} uniform", name, ways=BOTH, family_options=UNIFORM))
    for name in (LATE, EARLY):
        own = {"family_options": UNIFORM, "width": matched_width(scale, name)}
        rows.append(_row(f"{name} uniform matched", name, ways=BOTH, **own))
    known = [row.model for row in rows]
    if unknown := [model for model in models if model not in known]:
        raise ConfigError(
            f"rows must be of factors, which has {', '.join(known)}, but got {', '.join(unknown)}"
        )
    return [row for row in rows if not models or row.model in models]


def matched_width(scale: Scale, hierarchy: str) -> float:
    """The width at which a uniform network has about the FLOPs of the standard hierarchy's."""
    wanted = _flops(scale, scale.width, STANDARD)
    most = 8 * max(1, round(STEM_WIDTH * scale.width))
    channels = range(1, most + 1)

    def flops(num: int) -> int:
        return _flops(scale, num / STEM_WIDTH, hierarchy)

    above = channels[min(bisect.bisect_left(channels, wanted, key=flops), most - 1)]
    return min((max(1, above - 1), above), key=lambda num: abs(flops(num) - wanted)) / STEM_WIDTH


@dataclass(frozen=True)
class Factors:
    """The accuracies of the arms."""

    rows: Sequence[Row]
    accuracies: Mapping[tuple[str, Way], Mapping[int, float]]
    """Name and way -> seed -> accuracy."""

    @classmethod
    def of(cls, reproduction: Reproduction) -> "Factors":
        accuracies: dict[tuple[str, Way], dict[int, float]] = {}
        for row in reproduction.rows:
            for way in row.ways:
                found = {seed: reproduction.trained(row, way, seed) for seed in reproduction.seeds}
                of_seed = {seed: trained.accuracy for seed, trained in found.items() if trained}
                accuracies[row.model, way] = of_seed
        return cls(reproduction.rows, accuracies)

    def effects(self) -> list[Effect]:
        """How much of the gap each change closes (points), where its networks are trained."""
        local, gap, uniform = self._local, self._gap, self._gap(f"{STANDARD} uniform")
        supervised = self._of(STANDARD, "supervised")
        fewer, coarse = "fewer shallow convolutions", (STANDARD, "coarse")
        compared = (
            (f"{fewer} and losses ({FEW})", gap(STANDARD), gap(FEW)),
            ("fewer shallow losses", local(f"{STANDARD} coarse"), local(STANDARD)),
            ("the first loss in the second stage", local(f"{STANDARD} late"), local(STANDARD)),
            (f"{fewer}, where shallow losses are few", gap(*coarse), gap(FEW, "coarse")),
            (
                f"lower resolution alone ({LATE} for {STANDARD}, one width)",
                uniform,
                gap(f"{LATE} uniform"),
            ),
            ("lower resolution alone, with equal FLOPs", uniform, gap(f"{LATE} uniform matched")),
            ("taking the cuts away, all losses kept", supervised, local(STANDARD)),
            ("taking the losses away, without cuts", self._of(STANDARD, "global"), supervised),
        )
        effects = [*(_effect(*each) for each in compared), *self._main_effects()]
        return [effect for effect in effects if effect.by_seed]

    def answer(self) -> list[str]:
        """The answer in words, by the measured effects alone."""
        effects = self.effects()
        if not effects:
            return ["Nothing of the study is trained yet."]
        told = [effect for effect in effects if effect.verdict == "holds"]
        worse = [effect for effect in effects if effect.verdict == "is contradicted"]
        num = max(len(effect.by_seed) for effect in effects)
        seeds = counted(num, "seed")
        if not told and not worse:
            return [f"With {seeds} no effect can be told from none: each interval holds zero."]
        lines = []
        if told:
            told.sort(key=lambda effect: -_mean(effect))
            shown = "; ".join(f"{each.claim}, {100 * _mean(each):+.1f}" for each in told)
            lines.append(f"With {seeds}, these close the gap (points, the largest first): {shown}.")
        if worse:
            shown = "; ".join(f"{each.claim}, {100 * _mean(each):+.1f}" for each in worse)
            lines.append(f"These widen it: {shown}.")
        lines.append("Of the others each interval holds zero. Intervals are for each effect alone.")
        return lines

    def _main_effects(self) -> list[Effect]:
        """The effect of each factor, averaged over all levels of the others."""
        levels = [(h, losses) for h in (STANDARD, FEW) for losses in ("", "coarse", "late", "both")]
        gaps = {level: self._gap(*level) for level in levels}
        if not all(gaps.values()):
            return []
        factors: dict[str, Callable[[tuple[str, str]], bool]] = {
            "the hierarchy": lambda level: level[0] == FEW,
            "the granularity of shallow stages": lambda level: level[1] in ("coarse", "both"),
            "the first loss": lambda level: level[1] in ("late", "both"),
        }
        return [
            _effect(
                f"main effect of {name}",
                _means([gap for level, gap in gaps.items() if not changed(level)]),
                _means([gap for level, gap in gaps.items() if changed(level)]),
            )
            for name, changed in factors.items()
        ]

    def _of(self, name: str, way: Way) -> Mapping[int, float]:
        return self.accuracies.get((name, way), {})

    def _local(self, name: str) -> Mapping[int, float]:
        return self._of(name, "local")

    def _gap(self, name: str, losses: str = "") -> dict[int, float]:
        """How far back-propagation leads; it does not know of the losses."""
        local, glob = self._local(f"{name} {losses}".strip()), self._of(name, "global")
        return {seed: glob[seed] - local[seed] for seed in local if seed in glob}


def _crossed() -> list[Row]:
    rows: list[Row] = []
    for name in (STANDARD, FEW):
        num_first = Hierarchy.parse(name).blocks[0]
        rows += [
            _row(name, name, ways=WAYS),
            _row(f"{name} coarse", name, granularity=COARSE),
            # the stem is a unit, and each of a block's two convolutions
            _row(f"{name} late", name, first_loss=2 + 2 * num_first),
            _row(f"{name} both", name, granularity=COARSE, first_loss=2),
        ]
    return rows


def _row(model: str, hierarchy: str, *, ways: tuple[Way, ...] = ("local",), **network: Any) -> Row:
    own = tuple(network.items())
    return Row("factors", "cifar10", model, 3e-4, 0.3, Hierarchy.parse(hierarchy), {}, own, ways)


def _flops(scale: Scale, width: float, hierarchy: str) -> int:
    network = NetworkConfig(width=width, family_options=UNIFORM)
    plan = build_plan(
        "resnet18",
        Hierarchy.parse(hierarchy),
        network,
        channels=3,
        side=scale.image_size,
        num_classes=10,
        mode="global",
    )
    return plan.flops


def _effect(claim: str, more: Mapping[int, float], less: Mapping[int, float]) -> Effect:
    return Effect(claim, {seed: more[seed] - less[seed] for seed in more if seed in less})


def _means(series: Sequence[Mapping[int, float]]) -> dict[int, float]:
    seeds = [seed for seed in series[0] if all(seed in each for each in series)]
    return {seed: summarise([each[seed] for each in series]).mean for seed in seeds}


def _mean(effect: Effect) -> float:
    assert effect.measured is not None
    return effect.measured.mean
