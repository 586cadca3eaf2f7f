"""Accuracy by depth: how it grows from head to head."""

from itertools import accumulate, cycle

import plotly.graph_objects as go
from optuna import Study

from dsaccel.report.figures.heads import heads_rows
from dsaccel.report.figures.style import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    PERCENT,
    PURPLE,
    SKY,
    VERMILION,
    StudyFigure,
    blank_figure,
    label,
    whole_numbers,
)
from dsaccel.spec.hierarchy import parse_hierarchy, settings_of


def depth_figure(study: Study, num_best: int = 4) -> go.Figure:
    """How accuracy grows from head to head: the best few, and the first references."""
    rows = [row for row in heads_rows(study) if row.is_complete and row.accuracy is not None]
    references = [row for row in rows if row.kind == "reference"][:2]
    rows = [row for row in rows if row not in references][:num_best] + references
    figure = blank_figure("head, from shallow to deep", "validation accuracy", height=440)
    figure.update_yaxes(**PERCENT)
    num_heads = max((len(row.head_accuracies[-1]) for row in rows), default=0)
    figure.update_xaxes(**whole_numbers(num_heads), range=[0.5, num_heads + 0.5])
    colors = cycle((VERMILION, BLUE, GREEN, SKY, ORANGE, PURPLE, BLACK))
    for row in rows:
        heads = row.head_accuracies[-1]
        borders = stage_borders(row.hierarchy, len(heads), study)
        is_reference = row.kind == "reference"
        figure.add_scatter(
            x=list(range(1, len(heads) + 1)),
            y=heads,
            mode="lines+markers",
            name=label(row.hierarchy) + (" (reference)" if is_reference else ""),
            line={"color": next(colors), "width": 2, "dash": "dot" if is_reference else "solid"},
            marker={
                "size": [12 if depth in borders else 5 for depth in range(1, len(heads))] + [13],
                "symbol": ["circle"] * (len(heads) - 1) + ["star"],
                "line": {"width": 0},
                # plotly dims markers of unequal sizes
                "opacity": 1,
            },
            hovertemplate=f"{label(row.hierarchy)}<br>head %{{x}}: %{{y:.2%}}<extra></extra>",
        )
    return figure


def stage_borders(hierarchy: str, num_heads: int, study: Study) -> list[int]:
    """The last local head (1-based) of each stage; empty if the settings do not tell."""
    config = study.user_attrs.get("config") or {}
    family = str(config.get("space", {}).get("family", ""))
    try:
        blocks = parse_hierarchy(hierarchy)
    except ValueError:
        return []
    network = config.get("network", {}) | settings_of(blocks)
    # other granularities or a later first loss: heads no longer count blocks evenly
    if (
        network.get("granularity", "conv") not in ("conv", "block")
        or network.get("first_loss", 1) > 1
    ):
        return []
    num_local = num_heads - 1
    if family.startswith("resnet"):
        num_stem, (per_block, rest) = 1, divmod(num_local - 1, sum(blocks))
    elif family.startswith("vgg"):
        # a conv a block, then the fully connected units
        num_stem, per_block, rest = 0, 1, 0
    else:
        return []
    borders = [num_stem + per_block * total for total in accumulate(blocks)]
    return borders if per_block and not rest and borders[-1] <= num_local else []


DEPTH = StudyFigure(
    "depth",
    "Accuracy by depth",
    "Each head at the end of training. A large dot is the last head of a stage, the star the "
    "output layer.",
    depth_figure,
)
