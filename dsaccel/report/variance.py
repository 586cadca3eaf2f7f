"""Variance components in a table and in words."""

import math
from dataclasses import asdict
from typing import Any

from dsaccel.analysis.variance import Components
from dsaccel.report.table import Table
from dsaccel.statistics import ROUNDING

MEANINGS = {
    "prefix": "which prefix a hierarchy has",
    "suffix": "which suffix follows it",
    "seed": "the seed, on all hierarchies alike (cancels in pairs)",
    "prefix_seed": "the seed, on those that share a prefix",
    "suffix_seed": "the seed, on one hierarchy: the residual",
}


def variance_table(components: Components) -> Table:
    """A row a component: standard deviation in points, and its share of the variance."""
    variances = {name: getattr(components, name) for name in MEANINGS}
    total = sum(variances.values())
    rows = []
    for name, variance in variances.items():
        share = "-" if total == 0 else f"{100 * variance / total:.1f} %"
        std = f"{100 * math.sqrt(variance):.3f}"
        if name in components.truncated:
            std = "0 (estimate < 0)"
        rows.append((name.replace("_", " x "), std, share, MEANINGS[name]))
    return Table(("source", "std, points", "variance", "of"), rows, words=(0, 3))


def variance_sentences(components: Components, resolution: float) -> list[str]:
    """Say how many seeds a resolution (0..1) needs."""
    needed = components.seeds_for(resolution)
    stds = (components.paired_std_siblings, components.paired_std, components.unpaired_std)
    what = (
        "two hierarchies that share their prefix, seed by seed",
        "any two, seed by seed",
        "any two, each with seeds of its own",
    )
    lines = [
        f"From {components.num_hierarchies} hierarchies with {components.num_prefixes} prefixes "
        f"and {components.num_seeds} seeds. A true difference of {100 * resolution:g} points is "
        "found at the 5 % level with 80 % power between"
    ]
    for name, std, (key, n) in zip(what, stds, needed.items(), strict=True):
        del key
        if std < ROUNDING:
            found = "cannot be judged: the differences do not vary over these seeds"
        else:
            seeds = "more than 10,000 seeds" if n is None else f"{n} seeds"
            found = f"with {seeds} (std of the difference {100 * std:.3f} points)"
        lines.append(f"  {name}: {found}")
    if components.num_seeds < 5:
        lines.append(
            f"With {components.num_seeds} seeds the variances over seeds are rough estimates."
        )
    return lines


def variance_summary(components: Components, resolution: float) -> dict[str, Any]:
    """What `--json` prints: variances in squares of accuracies within 0..1."""
    return asdict(components) | {
        "paired_std": components.paired_std,
        "paired_std_siblings": components.paired_std_siblings,
        "unpaired_std": components.unpaired_std,
        "resolution": resolution,
        "seeds_needed": components.seeds_for(resolution),
    }
