"""Kernels that a GPU launches for a training step, and the bytes that they move, counted on a CPU.

    python benchmarks/kernels.py --out kernels

A step of ResNet18 2-2-2-2 under `predsim` on every convolution runs as a GPU would be told to run
it, nothing recorded, on tensors that have a shape and no numbers. Each operation that is no view is
a kernel; a convolution's backward pass is one for each gradient, and batch normalisation is
three each way. A kernel moves what it reads and what it writes, once each; what stays in a cache
between two kernels is not told apart. No time is measured.
"""

import argparse
from collections import Counter
from collections.abc import Iterator
from typing import Any

import measure
import torch
from rich.console import Console
from rich.table import Table
from step import NUM_CLASSES, make_batch, recipe
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from dsaccel.config.study import TrainingConfig
from dsaccel.families import build_plan
from dsaccel.nn.placement import as_on_gpu
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.trie import Trie
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


def count(hierarchy: Hierarchy, precision: str, batch_size: int) -> Launches:
    """The second step of a network: the optimizer has its averages."""
    training = TrainingConfig.model_validate({"precision": precision, "batch_size": batch_size})
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
    trie, launches = Trie({hierarchy: plan}), Launches()
    with launches, as_on_gpu():
        device = torch.device("cpu")
        learners = {n: Learner(n.segment, training, seed=1, device=device) for n in trie.nodes()}
        for learner in learners.values():
            learner.start_epoch(1)
        x = torch.empty(x.shape).contiguous(memory_format=torch.channels_last)
        y = torch.zeros(y.shape, dtype=y.dtype)
        for launches.counts in (False, True):
            train_batch(trie.roots, learners, x, y)
    return launches


def main() -> None:
    """Count, print a table, write the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--hierarchy", type=Hierarchy.parse, default=Hierarchy((2, 2, 2, 2)))
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--out", default="kernels")
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
        table = Table(title=f"A step in {precision}: {total} kernels, {num_bytes / 1e9:.2f} GB")
        for heading in ("operation", "kernels", "GB"):
            table.add_column(heading, justify="left" if heading == "operation" else "right")
        for name, moved in found.num_bytes.most_common(16):
            table.add_row(name, str(found.kernels[name]), f"{moved / 1e9:.3f}")
        Console().print(table)
    print(measure.write(options.out, record))


if __name__ == "__main__":
    main()
