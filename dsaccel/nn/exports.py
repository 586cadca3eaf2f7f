"""A trained network for other programs: ONNX, and what `torch.export` makes of it."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from dsaccel.errors import ConfigError
from dsaccel.files import atomic_write
from dsaccel.nn.network import Network

TOLERANCE = 1e-4
"""The largest difference between the logits of an exported network and its own."""
NUM_IMAGES = 3
"""The size of the batch that is tried; the exported network takes any number."""


def write_torch(network: Network, path: Path) -> float:
    """Write what `torch.export` makes of a network, for `torch.export.load(path).module()`.

    Returns:
        the largest difference between its logits and the network's own, on random images.

    Raises:
        ConfigError: if that is too large.
        StorageError: if the file cannot be written.
    """
    images, own = _trial(network)
    batch = torch.export.Dim("batch", min=1, max=2**20)
    with quiet():
        program = torch.export.export(network, (images,), dynamic_shapes=({0: batch},))
    difference = _difference(path, program.module()(images), own)
    with atomic_write(path) as temporary, temporary.open("wb") as file, quiet():
        torch.export.save(program, file)
    return difference


def write_onnx(network: Network, path: Path) -> float:
    """Write a network as ONNX: input `images`, floats (B, C, H, W) within 0..1; output `logits`.

    Returns:
        the largest difference between onnxruntime's logits and the network's own, on random images.

    Raises:
        ConfigError: if that is too large, or packages are missing.
        StorageError: if the file cannot be written.
    """
    try:
        import onnx  # noqa: F401  # pyright: ignore[reportMissingImports, reportUnusedImport]
        import onnxruntime  # pyright: ignore[reportMissingImports]
        import onnxscript  # noqa: F401  # pyright: ignore[reportMissingImports, reportUnusedImport]
    except ImportError as error:
        raise ConfigError(
            f"--onnx needs the package {error.name}: pip install 'dsaccel[onnx]'"
        ) from None
    images, own = _trial(network)
    batch = torch.export.Dim("batch", min=1, max=2**20)
    with atomic_write(path) as temporary, quiet():
        program = torch.onnx.export(
            network,
            (images,),
            dynamo=True,
            dynamic_shapes=({0: batch},),
            input_names=["images"],
            output_names=["logits"],
            verbose=False,
        )
        assert program is not None
        program.save(str(temporary), external_data=False)
        session = onnxruntime.InferenceSession(str(temporary), providers=["CPUExecutionProvider"])
        (told,) = session.run(["logits"], {"images": images.numpy()})
        return _difference(path, torch.from_numpy(told), own)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the exporters' progress and warnings to themselves."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _trial(network: Network) -> tuple[torch.Tensor, torch.Tensor]:
    """Random images, and the network's logits of them."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(NUM_IMAGES, *network.shape, generator=generator)
    with torch.no_grad():
        return images, network.eval()(images)


def _difference(path: Path, told: torch.Tensor, own: torch.Tensor) -> float:
    difference = (told.detach() - own).abs().max().item()
    if not difference <= TOLERANCE:
        raise ConfigError(
            f"{path.name} must have the network's own logits to {TOLERANCE:g}, but differs by "
            f"{difference:g}; please report it"
        )
    return difference
