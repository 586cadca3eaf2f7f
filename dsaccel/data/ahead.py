"""Batches of host memory, brought to a device ahead of their use."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

Batch = tuple[Tensor, ...]


def on_device(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """The batches on a device; those that are not there are copied ahead."""
    for batch in batches:
        if all(tensor.device.type == device.type for tensor in batch):
            yield batch
        else:
            yield from brought_ahead(batch, batches, device)


def brought_ahead(first: Batch, others: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """Copies on a GPU, in order: each is under way while the one before it is used.

    They are made on a stream of their own, for which the user's waits.
    """
    stream = torch.cuda.Stream(device)

    def bring(batch: Batch) -> tuple[Batch, Any]:
        with torch.cuda.stream(stream):
            copies = tuple(t.pin_memory().to(device, non_blocking=True) for t in batch)
            return copies, stream.record_event()

    def ready(batch: Batch, copied: Any) -> Batch:
        user = torch.cuda.current_stream(device)
        user.wait_event(copied)
        for tensor in batch:
            # its memory must not go to another before the user, too, is done with it
            tensor.record_stream(user)
        return batch

    coming = bring(first)
    for batch in others:
        coming, there = bring(batch), coming
        yield ready(*there)
    yield ready(*coming)
