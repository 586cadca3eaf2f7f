"""The costs of networks that are weighed against accuracy and cannot be read off a plan."""

from collections.abc import Collection

from dsaccel.config.study import TrainingConfig
from dsaccel.spec.costs import COSTS
from dsaccel.spec.plan import Plan
from dsaccel.ticks import unheard
from dsaccel.training.measured import step_seconds, training_peak_bytes
from dsaccel.training.memory import checkpointed
from dsaccel.training.workbench import Workbench


def measured_costs(
    names: Collection[str], plan: Plan, training: TrainingConfig, bench: Workbench
) -> dict[str, float]:
    """Those of the costs that are measured, of training one network alone, by their attributes."""
    found: dict[str, float] = {}
    with unheard():
        if "memory" in names:
            peak = training_peak_bytes(plan, training, bench.data, device=bench.device)
            found[COSTS["memory"].attribute] = peak
        if "time" in names:
            seconds = step_seconds(plan, training, bench.data, device=bench.device)
            found[COSTS["time"].attribute] = seconds
    return found


def rival_costs(
    names: Collection[str], plan: Plan, bench: Workbench
) -> dict[str, dict[str, float]]:
    """The costs of back-propagation through a network as it is, and with the checkpointing that
    takes least memory: both reach the same weights.
    """
    plain = bench.config.training.model_copy(update={"recompute": False})
    again = checkpointed(plan, plain)
    ways = {"back-propagation": plain, f"checkpointed ({again.recompute})": again}
    known = {
        "num_parameters": plan.num_parameters,
        "flops": plan.flops,
        "num_local_losses": plan.num_local_losses,
        "shallow_scale": plan.shallow_scale,
    }
    return {way: known | measured_costs(names, plan, each, bench) for way, each in ways.items()}
