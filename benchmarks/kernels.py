"""Kernels that a GPU launches for a training step, and the bytes that they move, counted on a CPU.

    python benchmarks/kernels.py --out kernels

A step of ResNet18 2-2-2-2 under `predsim` on every convolution runs as a GPU would be told to run
it, nothing recorded, on tensors that have a shape and no numbers. Each operation that is no view is
a kernel; a convolution's backward pass is one for each gradient, and batch normalisation is
three each way. A kernel moves what it reads and what it writes, once each; what stays in a cache
between two kernels is not told apart. No time is measured.

With `training.compile`, what torch's compiler plans for the layers and heads is counted by its own
figures (a CPU's plan: which operations are fused is decided alike), and what is not compiled, the
optimizer and dropout, as before.
"""

import argparse
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import measure
import torch
from rich.console import Console
from rich.table import Table
from step import NUM_CLASSES, make_batch, recipe
from torch import Tensor
from torch._inductor import metrics
from torch._inductor.compile_fx import compile_fx, compile_fx_inner
from torch._inductor.utils import fresh_inductor_cache
from torch._subclasses.fake_tensor import FakeTensorMode

from dsaccel.config.study import TrainingConfig
from dsaccel.families import build_plan
from dsaccel.nn import compiled
from dsaccel.nn.layers import LayerModule
from dsaccel.nn.placement import as_on_gpu
from dsaccel.nn.units import LocalHead, OutputLayer
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.trie import Node, Trie
from dsaccel.training.descent import train_batch
from dsaccel.training.learner import Learner

ATEN = torch.ops.aten
NO_KERNEL = {ATEN.empty, ATEN.empty_strided, ATEN.empty_like, ATEN._unsafe_view, ATEN.detach}


class Launches(FakeTensorMode):
    """Counts what runs inside while it `counts`."""

    def __init__(self) -> None:
        super().__init__(allow_non_fake_inputs=True)
        self.counts = False
        self.kernels: Counter[str] = Counter()
        self.num_bytes: Counter[str] = Counter()
        self._within = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Find the shapes that an operation makes and count it."""
        if self._within:
            return self.dispatch(func, types, args, kwargs or {})
        self._within = True
        try:
            written = self.dispatch(func, types, args, kwargs or {})
        finally:
            self._within = False
        if self.counts and func.namespace == "aten" and not _is_view(func):
            kernels, num_bytes = launched(func, args, written)
            self.kernels[func.overloadpacket.__name__] += kernels
            self.num_bytes[func.overloadpacket.__name__] += num_bytes
        return written


def launched(func: Any, read: Any, written: Any) -> tuple[int, int]:
    """Kernels of an operation, and the bytes that they move together."""
    packet = func.overloadpacket
    if packet is ATEN.convolution_backward:
        grad, x, weight = read[:3]
        pairs = zip((weight, x), written, strict=False)
        moved = [grad.nbytes + other.nbytes + new.nbytes for other, new in pairs if new is not None]
        return len(moved), sum(moved)
    num_bytes = sum(map(_extent, _tensors(read))) + sum(map(_extent, _tensors(written)))
    if packet is ATEN._fused_adam_:
        params, _, *averages = read[:4]  # these are written as well
        return 1, num_bytes + sum(map(_extent, _tensors((params, averages))))
    if packet is ATEN._foreach_copy_:  # the first ones are written, not read
        return 1, num_bytes
    if packet is ATEN.avg_pool2d_backward:  # of the map, only its shape is read
        return 1, num_bytes - _extent(read[1])
    if packet in (ATEN.native_batch_norm, ATEN.native_batch_norm_backward):
        maps = read[:1] if packet is ATEN.native_batch_norm else read[:2]
        # statistics or sums come first, for which the maps are read too
        return 3, num_bytes + sum(map(_extent, maps))
    return 1, num_bytes


def _is_view(func: Any) -> bool:
    returns = func._schema.returns
    is_view = any(r.alias_info is not None and not r.alias_info.is_write for r in returns)
    return is_view or func.overloadpacket in NO_KERNEL


def _tensors(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, (list, tuple)):
        for value in values:
            yield from _tensors(value)


def _extent(x: Tensor) -> int:
    """A tensor that was expanded is read from what it was expanded from."""
    sizes = (size for size, stride in zip(x.shape, x.stride(), strict=True) if stride != 0)
    return torch.Size(sizes).numel() * x.element_size()


Made = tuple[dict[Node, Learner], Trie, tuple[Tensor, Tensor]]


def make(hierarchy: Hierarchy, precision: str, batch_size: int, **settings: Any) -> Made:
    """The learners of a network, their trie, and a batch."""
    tables = {"precision": precision, "batch_size": batch_size, **settings}
    training = TrainingConfig.model_validate(tables)
    x, y = make_batch(batch_size)
    plan = build_plan(
        "resnet18",
        hierarchy,
        recipe("resnet18", 1.0),
        training,
        channels=x.shape[1],
        side=x.shape[2],
        num_classes=NUM_CLASSES,
    )
    trie, device = Trie({hierarchy: plan}), torch.device("cpu")
    learners = {n: Learner(n.segment, training, seed=1, device=device) for n in trie.nodes()}
    for learner in learners.values():
        learner.start_epoch(1)
    return learners, trie, (x.contiguous(memory_format=torch.channels_last), y)


def count(
    hierarchy: Hierarchy, precision: str, batch_size: int, *, uncompiled: bool = False
) -> Launches:
    """The second step of a network: the optimizer has its averages.

    Args:
        hierarchy: of ResNet18.
        precision: that it learns with.
        batch_size: of its batches.
        uncompiled: count only what is left to launch where layers and heads are compiled.
    """
    launches = Launches()
    with launches, as_on_gpu(), ExitStack() as stack:
        learners, trie, (x, y) = make(hierarchy, precision, batch_size)
        if uncompiled:
            for owner, name in ((LayerModule, "forward"), (LocalHead, "gradients")):
                stack.enter_context(_unseen(launches, owner, name))
            stack.enter_context(_unseen(launches, OutputLayer, "gradients"))
            stack.enter_context(_unseen(launches, torch.autograd, "backward"))
        x, y = torch.empty_like(x), torch.zeros_like(y)
        for launches.counts in (False, True):
            train_batch(trie.roots, learners, x, y)
    return launches


def _unseen(launches: Launches, owner: Any, name: str) -> Any:
    """What a function does is not counted."""
    plain = getattr(owner, name)

    def run(*args: Any, **options: Any) -> Any:
        before, launches.counts = launches.counts, False
        try:
            return plain(*args, **options)
        finally:
            launches.counts = before

    return patch.object(owner, name, run)


class Planned:
    """A backend of torch.compile that counts what it has planned, whenever that runs."""

    def __init__(self) -> None:
        self.kernels = 0
        self.num_bytes = 0
        # without, nothing is counted
        torch._logging.set_logs(inductor_metrics=True)  # pyright: ignore[reportPrivateImportUsage]

    def __call__(self, graph: Any, inputs: Any) -> Any:
        return compile_fx(graph, inputs, inner_compile=self._inner)

    def _inner(self, graph: Any, inputs: Any, **options: Any) -> Any:
        planned_bytes, planned = metrics.num_bytes_accessed, len(metrics.nodes_num_elem)
        run = compile_fx_inner(graph, inputs, **options)
        num_bytes = metrics.num_bytes_accessed - planned_bytes
        kernels = len(metrics.nodes_num_elem) - planned
        # one kernel for each gradient, as of what is not compiled: each reads the gradient
        for node in graph.graph.nodes:
            if node.target is ATEN.convolution_backward.default and sum(node.args[-1][:2]) == 2:
                kernels += 1
                num_bytes += node.args[0].meta["val"].nbytes

        def counted(args: list[Any]) -> Any:
            self.kernels += kernels
            self.num_bytes += num_bytes
            return run(args)

        counted._boxed_call = True  # pyright: ignore[reportFunctionMemberAccess]
        return counted


def count_compiled(hierarchy: Hierarchy, precision: str, batch_size: int) -> tuple[int, int]:
    """Kernels and bytes of a step whose layers and heads are compiled: as planned, and what is not
    compiled.
    """
    planned = Planned()
    compiled._compiled.cache_clear()
    with patch.object(compiled, "BACKEND", planned), fresh_inductor_cache():
        learners, trie, (x, y) = make(hierarchy, precision, batch_size, compile=True)
        train_batch(trie.roots, learners, x, y)
    rest = count(hierarchy, precision, batch_size, uncompiled=True)
    return planned.kernels + rest.kernels.total(), planned.num_bytes + rest.num_bytes.total()


def main() -> None:
    """Count, print a table, write the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--hierarchy", type=Hierarchy.parse, default=Hierarchy((2, 2, 2, 2)))
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--out", default="kernels")
    parser.add_argument(
        "--compiled", action="store_true", help="what is compiled, too: takes minutes"
    )
    options = parser.parse_args()
    record: dict[str, Any] = {
        "hierarchy": str(options.hierarchy),
        "batch_size": options.batch_size,
        "commit": measure.environment()["commit"],
    }
    for precision in ("fp32", "bf16"):
        found = count(options.hierarchy, precision, options.batch_size)
        total, num_bytes = found.kernels.total(), found.num_bytes.total()
        record[precision] = {
            "kernels": total,
            "gb": round(num_bytes / 1e9, 2),
            "by_operation": {
                name: [kernels, round(found.num_bytes[name] / 1e9, 3)]
                for name, kernels in found.kernels.most_common()
            },
        }
        if options.compiled:
            kernels, moved = count_compiled(options.hierarchy, precision, options.batch_size)
            record[precision]["compiled"] = {"kernels": kernels, "gb": round(moved / 1e9, 2)}
            print(f"compiled, {precision}: {kernels} kernels, {moved / 1e9:.2f} GB")
        table = Table(title=f"A step in {precision}: {total} kernels, {num_bytes / 1e9:.2f} GB")
        for heading in ("operation", "kernels", "GB"):
            table.add_column(heading, justify="left" if heading == "operation" else "right")
        for name, moved in found.num_bytes.most_common(16):
            table.add_row(name, str(found.kernels[name]), f"{moved / 1e9:.3f}")
        Console().print(table)
    print(measure.write(options.out, record))


if __name__ == "__main__":
    main()
