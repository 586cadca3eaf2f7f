"""Costs that a trial records, to be weighed against accuracy; less is better."""

from collections.abc import Iterable
from dataclasses import dataclass

from dsaccel.errors import ConfigError


@dataclass(frozen=True)
class Cost:
    title: str
    attribute: str
    """The trial's user attribute."""
    needs: str = "search it further"
    """The way for a study to have it."""


COSTS = {
    "parameters": Cost("parameters", "num_parameters"),
    "flops": Cost("forward FLOPs an image", "flops"),
    "losses": Cost("local losses", "num_local_losses"),
    "shallow_scale": Cost("shallow scale", "shallow_scale"),
    "memory": Cost(
        "peak memory of training, bytes",
        "peak_memory_bytes",
        "it is measured in a search with --against memory",
    ),
    "time": Cost(
        "time of a training step, seconds",
        "step_s",
        "it is measured in a search with --against time",
    ),
    "gap": Cost(
        "gap to global back-propagation",
        "gap_to_global",
        "every hierarchy is trained by back-propagation too in a search with --against gap",
    ),
}


def find_costs(names: Iterable[str]) -> tuple[Cost, ...]:
    """Costs by their names.

    Raises:
        ConfigError: if there is none of a name, or one is named twice.
    """
    found = tuple(names)
    for name in found:
        if name not in COSTS or found.count(name) > 1:
            raise ConfigError(
                f"--against must be one of {', '.join(COSTS)}, or several of them joined by "
                f"commas, each once, but got {','.join(found)!r}"
            )
    return tuple(COSTS[name] for name in found)
