"""Pictures of the heads: how accuracy grows over the rungs and from layer to layer."""

from itertools import accumulate, cycle, zip_longest

import plotly.graph_objects as go
from optuna import Study
from plotly.colors import sample_colorscale

from dsaccel.report.figures import (
    BLACK,
    BLUE,
    DEPTH_COLORS,
    GREEN,
    ORANGE,
    PERCENT,
    PURPLE,
    SKY,
    VERMILION,
    blank_figure,
    color_bar,
    label,
    whole_numbers,
)
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.study.rows import Row, best_row, read_rows, read_step_name


def heads_figure(study: Study, limit: int = 20) -> go.Figure:
    """Each head's accuracy over the rungs; only the best trial's traces are visible.

    A head that was trained at a later stage's end (sequential schedule) has no point before it.
    A trace's `meta` is the number of its trial, for choosing another one.
    """
    rows = heads_rows(study, limit)
    step_name = read_step_name(study)
    figure = blank_figure(step_name, "validation accuracy", height=440)
    figure.update_yaxes(**PERCENT)
    figure.update_xaxes(**whole_numbers(max((row.step or 0 for row in rows), default=0)))
    for row in rows:
        # a head may be read first at a later rung, but from then on at each
        first = (row.step or 0) - len(row.head_accuracies) + 1
        heads = list(zip_longest(*row.head_accuracies))
        num_local = len(heads) - row.has_output
        for depth, accuracies in enumerate(heads):
            is_output = depth == num_local
            name = "output layer" if is_output else f"local head {depth + 1} of {num_local}"
            color = VERMILION if is_output else _depth_color(depth, num_local)
            num_read = sum(accuracy is not None for accuracy in accuracies)
            figure.add_scatter(
                x=list(range(first, first + len(accuracies))),
                y=list(accuracies),
                # a line of one point is not drawn
                mode="lines" if num_read > 1 else "markers",
                name=name,
                meta=row.number,
                visible=row is rows[0],
                line={"color": color, "width": 3 if is_output else 1.8},
                marker={"color": color},
                hovertemplate=f"{name}<br>{step_name} %{{x}}: %{{y:.2%}}<extra></extra>",
                showlegend=is_output,
            )
    if rows:
        _add_depth_bar(figure)
    return figure


def heads_rows(study: Study, limit: int = 20) -> list[Row]:
    """The trials of `heads_figure`: the best, then the next best, and every reference."""
    rows = [row for row in read_rows(study) if row.head_accuracies]
    best = best_row(rows)
    rows.sort(key=lambda row: row is not best)
    return [row for rank, row in enumerate(rows) if rank < limit or row.kind == "reference"]


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
            name=label(row) + (" (reference)" if is_reference else ""),
            line={"color": next(colors), "width": 2, "dash": "dot" if is_reference else "solid"},
            marker={
                "size": [12 if depth in borders else 5 for depth in range(1, len(heads))] + [13],
                "symbol": ["circle"] * (len(heads) - 1) + ["star"],
                "line": {"width": 0},
                # plotly dims markers of unequal sizes
                "opacity": 1,
            },
            hovertemplate=f"{label(row)}<br>head %{{x}}: %{{y:.2%}}<extra></extra>",
        )
    return figure


def stage_borders(hierarchy: str, num_heads: int, study: Study) -> list[int]:
    """The last local head (1-based) of each stage; empty if the settings do not tell."""
    config = study.user_attrs.get("config") or {}
    family = str(config.get("space", {}).get("family", ""))
    try:
        parsed = Hierarchy.parse(hierarchy)
    except ValueError:
        return []
    network = config.get("network", {}) | dict(parsed.settings)
    # other granularities or a later first loss: heads no longer count blocks evenly
    if (
        network.get("granularity", "conv") not in ("conv", "block")
        or network.get("first_loss", 1) > 1
    ):
        return []
    num_local = num_heads - 1
    if family.startswith("resnet"):
        num_stem, (per_block, rest) = 1, divmod(num_local - 1, parsed.num_blocks)
    elif family.startswith("vgg"):
        # a conv a block, then the fully connected units
        num_stem, per_block, rest = 0, 1, 0
    else:
        return []
    borders = [num_stem + per_block * total for total in accumulate(parsed.blocks)]
    return borders if per_block and not rest and borders[-1] <= num_local else []


def _depth_color(depth: int, num_local: int) -> str:
    position = depth / (num_local - 1) if num_local > 1 else 1.0
    return str(sample_colorscale(DEPTH_COLORS, [position])[0])


def _add_depth_bar(figure: go.Figure) -> None:
    """One colour bar in place of a legend line for each head."""
    bar = color_bar("local heads") | {"tickvals": [0, 1], "ticktext": ["shallow", "deep"]}
    scale = [[i / 8, color] for i, color in enumerate(DEPTH_COLORS)]
    figure.add_scatter(
        x=[None],
        y=[None],
        mode="markers",
        marker={"color": [0, 1], "colorscale": scale, "colorbar": bar},
        hoverinfo="skip",
        showlegend=False,
    )
