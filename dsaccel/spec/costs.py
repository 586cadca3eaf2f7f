"""Costs that a trial records, to be weighed against accuracy; less is better."""

from dataclasses import dataclass


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
    "gap": Cost(
        "gap to global back-propagation",
        "gap_to_global",
        "every hierarchy is trained by back-propagation too in a search with --against gap",
    ),
}
