"""A confirmation in words: what was decided, what is a lead and what is a tie."""

from collections.abc import Iterator

from dsaccel.confirm.margin import against_global, over_images
from dsaccel.confirm.result import Against, Comparison, Confirmation, Result, Role, Split
from dsaccel.statistics import Summary, seeds_needed
from dsaccel.text import amount, counted

RESOLUTION = 0.005
"""The difference whose price in seeds is told, where no other is asked for."""

ROLES: dict[Role, str] = {
    "finalist": "finalist",
    "reference": "reference",
    "fewer parameters": "best with at most the reference's parameters",
    "fewer losses": "best with at most the reference's local losses",
    "widened to parameters": "reference widened to the winner's parameters",
    "widened to FLOPs": "reference widened to the winner's FLOPs",
    "deep supervision": "best whose gradients are not cut (deep supervision)",
    "ensemble without cuts": "ensemble of the search's winner, trained without cuts",
    "best by back-propagation": "best that back-propagation has found in the search",
}
UNCUT: tuple[Role, ...] = ("deep supervision", "ensemble without cuts")
"""Gradients pass from each unit to those below: back-propagation of all losses."""
VAL_IMAGES = {
    False: "each seed's own validation images",
    True: "the validation images that the search chose by, the same for every seed",
}
"""The validation images in words, by whether they are given."""
SPLIT_NAMES: dict[Split, str] = {"val": "validation", "test": "test"}


def sentences(confirmation: Confirmation, resolution: float) -> list[str]:
    """The outcome, one statement a line.

    Args:
        confirmation: what was measured.
        resolution: a difference (0..1) whose price in seeds is to be told.
    """
    rows = [result for result in confirmation.results() if result.mode == "local"]
    best = next((row for row in rows if row.entry.name == confirmation.best), None)
    if best is None:
        return ["Nothing is decided yet: the confirmation is not finished."]
    return [
        *_winner(confirmation, best),
        *_against_finalists(best, rows),
        *_against_reference(confirmation, best, rows),
        *_against_global(confirmation, best),
        *_depth(confirmation, best),
        *_not_inferior(confirmation, best),
        *_unjudged(confirmation),
        *_how_fine(best, rows, resolution),
        *_how_tuned(confirmation),
        "Intervals are 95 % t intervals of paired differences, each for itself; a lead is called "
        "one only if it is significant at 5 % after Holm's correction for all networks that are "
        "compared with the same one in the same mode.",
    ]


def summary_text(summary: Summary | None) -> str:
    """`91.20 ± 0.31 %`."""
    if summary is None:
        return "-"
    spread = "" if summary.std is None else f" ± {100 * summary.std:.2f}"
    return f"{100 * summary.mean:.2f}{spread} %"


def difference_text(comparison: Comparison | None) -> str:
    """`+0.40 (-0.21 to +1.01) tie`: points, 95 % interval; `+0.40 ?`: it cannot be judged."""
    if comparison is None:
        return "-"
    d = comparison.paired
    if d.low is None or d.high is None:
        return f"{_points(d.mean)} ?"
    tie = " tie" if comparison.is_tie else ""
    return f"{_points(d.mean)} ({_points(d.low)} to {_points(d.high)}){tie}"


def role_text(result: Result) -> str:
    return ", ".join(ROLES[role] for role in result.entry.roles)


def _winner(confirmation: Confirmation, best: Result) -> Iterator[str]:
    val, test = best.accuracies["val"], best.accuracies.get("test")
    num_val = f"{confirmation.num_images['val']:,} validation images"
    images = (
        f"all seeds share the {num_val} that the search chose by"
        if confirmation.val_is_given
        else f"each seed has its own split of {num_val}"
    )
    yield (
        f"Decided on validation: {best.entry.name}, {summary_text(val)} over "
        f"{counted(val.n, 'fresh seed')} (mean ± standard deviation; {images})."
    )
    if test is not None:
        yield (
            f"Test, read once after that decision: {summary_text(test)} over "
            f"{counted(test.n, 'seed')} ({confirmation.num_images['test']:,} images)."
        )
    else:
        yield "No test split was read: all figures are validation accuracies."
    if confirmation.val_is_given:
        fresh = "no figure is of fresh images" if test is None else "the test split alone is fresh"
        yield f"Validation is biased in favour of the finalists, chosen on these images: {fresh}."


def _against_finalists(best: Result, rows: list[Result]) -> Iterator[str]:
    for result in rows:
        if result.entry.name != best.entry.name and "finalist" in result.entry.roles:
            yield from _told(result, "best", f"Finalist {result.entry.name}", "the best finalist")


def _against_reference(
    confirmation: Confirmation, best: Result, rows: list[Result]
) -> Iterator[str]:
    is_reference = best.entry.name == confirmation.reference
    if is_reference:
        yield f"The best finalist is the reference {best.entry.name} itself."
    else:
        name = f"the reference {confirmation.reference}"
        yield from _told(best, "reference", best.entry.name, name)
    for result in rows:
        for role in result.entry.roles:
            if role in ("finalist", "reference", "best by back-propagation"):
                continue
            name = f"The {ROLES[role]}, {result.entry.name} "
            name += f"({amount(result.entry.num_parameters)} parameters),"
            if role in UNCUT or (role.startswith("widened") and not is_reference):
                yield from _told(result, "best", name, "the best finalist")
            elif not is_reference:
                yield from _told(result, "reference", name, "the reference")


def _against_global(confirmation: Confirmation, best: Result) -> Iterator[str]:
    network = "global back-propagation on the same network"
    yield from _told(best, "global", f"Layer-wise, {best.entry.name}", network)
    rivals = [
        result
        for result in confirmation.results()
        if result.mode == "global" and "best by back-propagation" in result.entry.roles
    ]
    if rivals:  # several, if the search went on since the first confirmation
        rival = max(rivals, key=lambda result: result.accuracies["val"].mean)
        name = f"Back-propagation on {rival.entry.name}, its own best of the search,"
        yield from _told(rival, "best", name, f"layer-wise {best.entry.name}")


def _depth(confirmation: Confirmation, best: Result) -> Iterator[str]:
    """Whether the winner's exit is above its own earlier heads; else which network counts."""
    depth = confirmation.depth(best.entry.name)
    if depth is None:
        return
    d, cut = depth.paired, depth.beginning
    interval = ""
    if d.low is not None and d.high is not None:
        interval = f", 95 % interval {_points(d.low)} to {_points(d.high)}"
    found = f"its exit is {_points(d.mean)} points from its best earlier head, {cut.head}{interval}"
    if depth.helps:
        yield f"Depth helps {best.entry.name}: {found}."
        return
    yield (
        f"That depth helps {best.entry.name} is not shown: {found}. What counts is the network up "
        f"to that head: {amount(cut.num_parameters)} parameters and {amount(cut.flops)} FLOPs, "
        f"not {amount(best.entry.num_parameters)} and {amount(best.entry.flops)} "
        f"(with weights of all heads: dsaccel export STUDY --hierarchy '{best.entry.hierarchy}' "
        f"--up-to '{cut.head}' --torch FILE)."
    )


def _not_inferior(confirmation: Confirmation, best: Result) -> Iterator[str]:
    """The one primary comparison, if a margin was set."""
    if confirmation.margin is None:
        return
    points, planned = confirmation.margin["points"], confirmation.margin["seeds"]
    split: Split = "test" if "test" in best.accuracies else "val"
    d = against_global(confirmation, split)
    over = over_images(confirmation) if split == "test" else None
    name = f"{best.entry.name} against global back-propagation, {SPLIT_NAMES[split]}"
    if d is None or d.low is None:
        yield f"{name}: nothing can be said of a margin of {points:g} points yet."
        return
    too_few = planned is not None and d.n < planned
    low = d.low if over is None else over.low
    found = f"lower 95 % limit {_points(low)} points at {d.n} seeds that were no pilot"
    if over is not None:
        found += f", over seeds and {confirmation.num_images['test']:,} images"
    if too_few:
        found += f", of {planned} planned"
    if 100 * low > -points and not too_few:
        yield f"{name}: not inferior by a margin of {points:g} points ({found})."
    else:
        yield (
            f"{name}: that it is not inferior by a margin of {points:g} points is not shown "
            f"({found}), which does not say that it is inferior."
        )


def _unjudged(confirmation: Confirmation) -> Iterator[str]:
    """Explain a difference that is the same at every seed, if there is one."""
    comparisons = [c for result in confirmation.results() for c in result.comparisons.values()]
    if any(c.paired.n > 1 and not c.is_judged for c in comparisons):
        yield (
            "A difference that is the same at every seed cannot be judged and is no lead: "
            "accuracies are counts of images, so a few differences are often equal by chance. More "
            "seeds (--seeds) tell."
        )


def _how_fine(best: Result, rows: list[Result], resolution: float) -> Iterator[str]:
    """Say what so many seeds can find, by the noisiest layer-wise difference from the best."""
    judged = [
        comparison
        for result in rows
        if (comparison := result.comparisons.get(("val", "best"))) and comparison.is_judged
    ]
    if best.accuracies["val"].n == 1:
        yield "With 1 seed there is no interval: every lead is a tie until there are more."
        return
    if not judged:
        yield "No difference from the best varies with the seed: what could be detected is unknown."
        return
    noisiest = max(judged, key=lambda comparison: comparison.paired.std or 0.0)
    std, detectable = noisiest.paired.std, noisiest.detectable
    assert std is not None
    assert detectable is not None
    needed = seeds_needed(std, resolution, alpha=noisiest.alpha)
    seeds = "more than 10,000" if needed is None else f"{needed}"
    yield (
        f"Smallest detectable difference: {100 * detectable:.2f} points, the true difference that "
        f"{noisiest.paired.n} seeds show to be a lead, among "
        f"{counted(noisiest.num, 'comparison')}, in at least 80 % of such experiments, at the "
        f"largest standard deviation of a difference from the best ({100 * std:.2f} points). To "
        f"find {100 * resolution:g} points takes {seeds} seeds."
    )


def _how_tuned(confirmation: Confirmation) -> Iterator[str]:
    tuning = confirmation.tuning
    if tuning is None:
        return
    trials, layerwise = tuning["num_trials"], tuning["num_layerwise"]
    settings = f"learning rate {tuning['learning_rate']:.3g}, dropout {tuning['dropout']:.3g}"
    if trials == 1:
        how = "was not tuned"
    else:
        how = f"was tuned on {tuning['tuned_on']} with the search's seed, {trials} settings tried"
    side = "1 setting, the study's" if layerwise == 1 else f"{layerwise} settings"
    yield f"Global back-propagation {how} ({settings}); the layer-wise side had {side}."


def _told(result: Result, against: Against, name: str, other: str) -> Iterator[str]:
    """One comparison on validation, and on test where it was read."""
    val = result.comparisons.get(("val", against))
    if val is None:
        return
    verb = _word(val, "ties with", "cannot be told from", "leads", "trails")
    parts = [f"{name} {verb} {other}{_figures(val)}"]
    test = result.comparisons.get(("test", against))
    if test is not None:
        noun = _word(test, "a tie", "not to be told", "a lead", "behind")
        parts.append(f"on test {noun}{_figures(test)}")
    yield "; ".join(parts) + "."


def _word(comparison: Comparison, tie: str, unknown: str, lead: str, behind: str) -> str:
    if comparison.is_tie:
        return tie if comparison.is_judged else unknown
    return lead if comparison.paired.mean > 0 else behind


def _figures(comparison: Comparison) -> str:
    d = comparison.paired
    text = f" ({_points(d.mean)} points"
    if not comparison.is_judged and d.n > 1:
        text += f" at each of {d.n} seeds"
    if d.low is not None and d.high is not None:
        text += f", 95 % interval {_points(d.low)} to {_points(d.high)}"
    if comparison.p_holm is not None:
        text += f", p = {comparison.p_holm:.2g} after Holm"
    if d.ahead is not None:
        text += f", ahead at {100 * d.ahead:.0f} % of seeds"
    return text + ")"


def _points(difference: float) -> str:
    return f"{100 * difference:+.2f}"
