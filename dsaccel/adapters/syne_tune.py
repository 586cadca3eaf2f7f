"""A landscape as a blackbox of Syne Tune. It needs `pip install 'dsaccel[syne-tune]'`."""

from pathlib import Path

import numpy as np
import pandas  # pyright: ignore[reportMissingImports]
from syne_tune.blackbox_repository.blackbox_tabular import (  # pyright: ignore[reportMissingImports]
    BlackboxTabular,
)
from syne_tune.config_space import randint  # pyright: ignore[reportMissingImports]

from dsaccel.analysis.landscape_files import read_landscape
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.rung import Exit

ACCURACY, COST = "val_accuracy", "seconds"
"""Objectives: accuracy, and the time of training the network alone, each step an equal share of it.
Where an earlier version did not record the time, FLOPs stand for it, and an epoch of the cheapest
network takes a second: counted in FLOPs a simulation would not end, whose clock goes on by seconds.
"""


def blackbox(path: str | Path, exit: Exit | None = None) -> BlackboxTabular:
    """What `UserBlackboxBackend(blackbox, elapsed_time_attr=COST)` simulates.

    Its hyperparameters are the blocks of each stage, `blocks_1` first; epochs are its fidelity, and
    its seed 0 is the landscape's first. What the space forbids is not in it: Syne Tune's
    `add_surrogate` guesses that.

    Args:
        path: of the landscape.
        exit: where networks are read; None: where the study reads them.
    """
    landscape = read_landscape(path)
    steps, step_name = range(1, landscape.num_steps + 1), landscape.config.training.step_name
    cheapest = min(network.flops for network in landscape.networks.values())
    feasible = [h for h, network in landscape.networks.items() if network.is_feasible]

    seconds = landscape.seconds
    is_timed = all(h in seconds.get(seed, {}) for seed in landscape.accuracies for h in feasible)

    def measured(hierarchy: Hierarchy, seed: int, step: int) -> tuple[float, float]:
        accuracy = landscape.query(hierarchy, seed=seed, epoch=step, exit=exit)
        if is_timed:
            return accuracy, seconds[seed][hierarchy] * step / landscape.num_steps
        return accuracy, step * landscape.networks[hierarchy].flops / cheapest

    bounds = landscape.config.space.num_blocks
    stages = [f"blocks_{stage}" for stage in range(1, len(bounds) + 1)]
    return BlackboxTabular(
        pandas.DataFrame([hierarchy.blocks for hierarchy in feasible], columns=stages),
        configuration_space={s: randint(*bound) for s, bound in zip(stages, bounds, strict=True)},
        fidelity_space={step_name: randint(1, landscape.num_steps)},
        objectives_evaluations=np.array(
            [[[measured(h, s, t) for t in steps] for s in landscape.accuracies] for h in feasible]
        ),
        objectives_names=[ACCURACY, COST],
    )
