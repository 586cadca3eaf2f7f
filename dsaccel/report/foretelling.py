"""The words and the tables of two landscapes: does the one foretell the other?"""

import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from dsaccel.analysis.foretelling import Foretelling, Predictor
from dsaccel.report.table import Table, interval_text
from dsaccel.statistics import Interval


def foretelling_tables(found: Foretelling) -> list[Table]:
    """What ranks the second landscape, and what there is to be ranked in each."""
    rows = [("one run of it, another seed", _tau(found.one_run()), "")]
    rows += [(each.name, _tau(each.tau), _lead(each)) for each in found.predictors()]
    spreads = [found.spread(number) for number in (0, 1)]
    return [
        Table(
            ("ranked by", "tau-b with a run of the second", "the first leads it by"),
            rows,
            title=f"{len(found.hierarchies)} hierarchies in both",
            caption="Kendall's tau-b; 95 % intervals over the seeds of the second landscape",
        ),
        Table(
            ("", "first", "second"),
            [
                ("seeds", *(str(len(seeds)) for seeds in found.seeds)),
                ("between hierarchies, points", *(_points(each.between) for each in spreads)),
                ("noise of a seed, points", *(_points(each.noise) for each in spreads)),
                ("tau-b of two seeds", *(_number(each.seeds_agree) for each in spreads)),
            ],
            title="Spread of final accuracies (standard deviations)",
        ),
    ]


def foretelling_sentences(found: Foretelling) -> Iterator[str]:
    """Whether training the first says more than counting."""
    _, *known = found.predictors()
    best = max(known, key=lambda each: each.tau.mean)
    lead = best.lead
    if lead is None or lead.low is None or lead.high is None:
        yield "Too few seeds to say whether the first landscape foretells more than counting does."
    elif lead.low > 0:
        yield f"The first landscape foretells the second better than the best count, {best.name}."
    elif lead.high < 0:
        yield f"The best count, {best.name}, foretells the second better than the first landscape."
    else:
        yield (
            f"That the first landscape foretells the second better than the best count, "
            f"{best.name}, is not shown."
        )
    ceiling = found.spread(1).seeds_agree
    if not math.isnan(ceiling):
        yield f"Two seeds of the second agree with tau-b {ceiling:.2f}."


def foretelling_summary(found: Foretelling) -> dict[str, Any]:
    """The same, for `--json`."""
    return {
        "hierarchies": [str(h) for h in found.hierarchies],
        "seeds": list(map(list, found.seeds)),
        "one_run": _known(found.one_run()),
        "predictors": [_known(each) for each in found.predictors()],
        "spreads": [_known(found.spread(number)) for number in (0, 1)],
        "sentences": list(foretelling_sentences(found)),
    }


def _known(figures: Any) -> Any:
    """Plain, without what is no number."""
    plain = figures if isinstance(figures, dict) else asdict(figures)
    return {
        key: _known(value)
        if isinstance(value, dict)
        else None
        if isinstance(value, float) and math.isnan(value)
        else value
        for key, value in plain.items()
    }


def _tau(tau: Interval) -> str:
    if math.isnan(tau.mean):
        return "-"
    return interval_text(tau) if tau.low < tau.high else f"{tau.mean:.2f}"


def _lead(each: Predictor) -> str:
    lead = each.lead
    if lead is None:
        return ""
    ends = "" if lead.low is None else f" ({lead.low:+.2f} to {lead.high:+.2f})"
    return f"{lead.mean:+.2f}{ends}"


def _points(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.2f}"


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"
