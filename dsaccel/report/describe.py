"""A plan in figures and words, stage by stage."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from itertools import groupby
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from dsaccel.config.study import TrainingConfig
from dsaccel.parts import part_of
from dsaccel.spec.blocks import Block
from dsaccel.spec.plan import Plan
from dsaccel.text import amount
from dsaccel.training.memory import Estimate, checkpointed, estimate_plans


def describe_plan(plan: Plan) -> dict[str, Any]:
    """What `dsaccel describe --json` prints."""
    return {
        "family": plan.family,
        "hierarchy": str(plan.hierarchy),
        "num_parameters": plan.num_parameters,
        "num_parameters_training": plan.num_parameters_training,
        "num_local_losses": plan.num_local_losses,
        "num_units": plan.num_units,
        "gradient_path": plan.gradient_path,
        "flops": plan.flops,
        "shallow_scale": plan.shallow_scale,
        "stages": [
            {
                "resolution": blocks[-1].layers[-1].side,
                "widths": [block.out_channels for block in blocks],
                "num_blocks": len(blocks),
            }
            for stage, blocks in _stages(plan)
            if 1 <= stage <= plan.hierarchy.num_stages
        ],
    }


def description_table(plan: Plan) -> Table:
    """A row a stage: resolution, widths, blocks, local losses, parameters, FLOPs."""
    table = Table(
        title=f"{plan.family} {plan.hierarchy}",
        caption=(
            "↓ downsampling; losses: local ones; parameters and FLOPs (forward, an image): "
            f"without heads{_read_at(plan)}\n"
            f"shallow scale {plan.shallow_scale:.3f}: mean side of the first "
            f"{plan.shallow_convs} convolutions' maps over the input's (eq. 8)\n"
            f"{plan.num_units} units; the longest gradient path is {plan.gradient_path:.2f} of the "
            "depth, heads counted (1: back-propagation)"
        ),
        show_footer=True,
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    columns = [
        ("stage", ""),
        ("resolution", ""),
        ("widths", ""),
        ("blocks", str(plan.hierarchy.num_blocks)),
        ("losses", str(plan.num_local_losses)),
        ("parameters", amount(plan.num_parameters)),
        ("with heads", amount(plan.num_parameters_training)),
        ("FLOPs", amount(plan.flops)),
    ]
    for name, footer in columns:
        text = name in ("stage", "resolution", "widths")
        table.add_column(
            name, footer, justify="left" if text else "right", no_wrap=name != "widths"
        )
    for row in _rows(plan):
        table.add_row(*row)
    if (output := plan.output) is not None:
        size, flops = amount(output.num_parameters), amount(output.flops)
        table.add_row("output", "", str(output.num_classes), "", "", size, size, flops)
    return table


def _rows(plan: Plan) -> Iterator[tuple[str, ...]]:
    side = plan.side
    for stage, members in _stages(plan):
        before, side = side, members[-1].layers[-1].side
        is_counted = 1 <= stage <= plan.hierarchy.num_stages
        heads = [layer.head for block in members for layer in block.layers if layer.head]
        num_parameters = sum(block.num_parameters for block in members)
        yield (
            _name(plan, stage),
            f"{side}x{side}" if before == side else f"{side}x{side} ↓",
            _widths(members),
            str(len(members)) if is_counted else "",
            str(len(heads)),
            amount(num_parameters),
            amount(num_parameters + sum(head.num_parameters for head in heads)),
            amount(sum(block.flops for block in members)),
        )


def training_memory(local: Plan, whole: Plan, training: TrainingConfig) -> dict[str, Estimate]:
    """The memory of training a network on a CPU (estimates): layer-wise, by back-propagation, and
    by the checkpointing of that which takes least.
    """
    plain = training.model_copy(update={"recompute": False})
    return {
        "local": estimate_plans({local.hierarchy: local}, training),
        "global": estimate_plans({whole.hierarchy: whole}, plain),
        "checkpointed": estimate_plans({whole.hierarchy: whole}, checkpointed(whole, training)),
    }


def memory_summary(memory: Mapping[str, Estimate]) -> dict[str, Any]:
    """The bytes, for `--json`."""
    shown: dict[str, Any] = {}
    for mode, held in memory.items():
        shown[mode] = asdict(held) | {"total_bytes": held.total_bytes}
        del shown[mode]["cache_bytes"]  # how many images there are is not known here
    return shown


def memory_table(memory: Mapping[str, Estimate], training: TrainingConfig) -> Table:
    """A row a way of training: what it holds at its peak."""
    table = Table(
        title=f"memory of training on a CPU, {training.precision}, batches of "
        f"{training.batch_size}, MiB (estimate"
        + (")" if part_of(training, "schedule").all_at_once else ", without feature caches)"),
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("")
    for name in ("weights", "Adam", "activations, gradients", "total"):
        table.add_column(name, justify="right")
    names = {
        "local": "layer-wise, recomputed" if training.recompute else "layer-wise",
        "global": "back-propagation",
        "checkpointed": "  checkpointed",
    }
    for mode, held in memory.items():
        sizes = (
            held.parameters_bytes,
            held.optimizer_bytes,
            held.activations_bytes + held.cache_bytes,
            held.total_bytes,
        )
        table.add_row(names[mode], *(f"{size / 2**20:,.1f}" for size in sizes))
    return table


def _stages(plan: Plan) -> list[tuple[int, list[Block]]]:
    return [(stage, list(blocks)) for stage, blocks in groupby(plan.blocks, lambda b: b.stage)]


def _read_at(plan: Plan) -> str:
    num = len(plan.exit_heads)
    return {
        "layer": "",
        "head": ", in all with the last one, which is read",
        "ensemble": f", in all with the last {num}, which are read",
    }[plan.exit]


def _name(plan: Plan, stage: int) -> str:
    if stage == 0:
        return "stem"
    return str(stage) if stage <= plan.hierarchy.num_stages else "hidden"


def _widths(blocks: list[Block]) -> str:
    runs = [(width, len(list(run))) for width, run in groupby(b.out_channels for b in blocks)]
    return ", ".join(f"{width}" + (f" x{times}" if times > 1 else "") for width, times in runs)
