"""The meaning of a calibration, in sentences."""

from dsaccel.analysis.agreement import MIN_SEEDS, RankAgreement, StageAgreement
from dsaccel.analysis.pruning_advice import Calibrated
from dsaccel.config.study import PruningConfig
from dsaccel.report.table import interval_text
from dsaccel.search.pruners import rung_steps
from dsaccel.spec.rung import RankedBy

NAMES: dict[RankedBy, str] = {
    "head": "the deepest local head",
    "output": "the output layer",
    "ensemble": "the ensemble of heads",
}


def verdict(result: Calibrated) -> list[str]:
    """Say in sentences what a calibration means."""
    ranks, advice = result.ranks, result.advice
    num_seeds, step = len(ranks.seeds), ranks.step_name
    words = [
        f"{len(ranks.hierarchies)} hierarchies, {num_seeds} seeds; the best {ranks.num_top} "
        "of a final ranking count as its top."
    ]
    if num_seeds < MIN_SEEDS:
        return [*words, f"Nothing is called trustworthy on fewer than {MIN_SEEDS} seeds."]
    words += [
        f"Intervals are 95 % t intervals over {num_seeds} seeds.",
        f"A seed moves a hierarchy's final accuracy by {100 * ranks.noise:.2f} points (standard "
        f"deviation). The final rankings of two seeds agree with tau-b "
        f"{ranks.between_seeds():.2f}; one seed's with the mean of the others with "
        f"{interval_text(result.ceiling)}: no rung can tell much more of another run.",
    ]
    for by, first in advice.first.items():
        on = f"from {step} {first} on" if first is not None else f"at no {step}"
        words.append(f"Ranked by {NAMES[by]}, halving by factor 2 can be trusted {on}.")
    if advice.cheapest is None:
        words.append("No settings that were tried can be trusted: do not prune.")
    else:
        setting = advice.cheapest
        words.append(
            f"The settings below ({_rungs_words(setting.pruning, ranks)}) would have trained "
            f"{100 * setting.work:.0f} % of all, each hierarchy counted by itself (where blocks "
            f"are shared less is saved), and kept {interval_text(setting.kept)} of the top; their "
            f"best trails the best of all by {interval_text(setting.loss, 100)} points. They were "
            "chosen on these same runs."
        )
    for row in result.stages[:-1]:
        words.append(_stage_words(row))
    return words


def _rungs_words(pruning: PruningConfig, ranks: RankAgreement) -> str:
    """The factor and its rungs: with another one there are fewer or more rungs at which to err."""
    config = ranks.landscape.config
    steps = rung_steps(pruning, config.training, len(config.space.num_blocks))
    at = f"rungs at {ranks.step_name} {', '.join(map(str, steps))}"
    return f"factor {pruning.reduction_factor:g}, {at}"


def _stage_words(row: StageAgreement) -> str:
    own = row.agreement.own
    if own.high < 0:
        verb = "misleads: what ranks high there ends low"
    elif own.low <= 0:
        verb = "says nothing of the final ranking"
    else:
        verb = "foretells the final ranking in part"
    return f"The last head of stage {row.stage} {verb} (tau-b {interval_text(own)})."
