"""What a trained network sees in image files."""

# B batch, C channels, H = W side, K classes

from collections.abc import Sequence
from pathlib import Path

import torch

from dsaccel.data.decoding import decode_images
from dsaccel.nn.network import Network, load_network

BATCH_SIZE = 256


def predict_files(
    weights: str | Path, paths: Sequence[Path], top: int
) -> dict[Path, dict[str, float]]:
    """The most probable classes of each image with their probabilities, in this order.

    Args:
        weights: what `dsaccel train --output` wrote.
        paths: image files of any size and mode.
        top: how many classes; more than there are: all.

    Raises:
        ConfigError: if the weights, or some images, cannot be read.
    """
    network = load_network(weights)
    channels, side, _ = network.shape
    pixels_BHWC = torch.from_numpy(decode_images(paths, side, channels))
    probabilities_BK = probabilities(network, pixels_BHWC.permute(0, 3, 1, 2))
    found: dict[Path, dict[str, float]] = {}
    for path, of_image in zip(paths, probabilities_BK, strict=True):
        values, classes = of_image.topk(min(top, len(of_image)))
        names = (network.class_names[index] for index in classes.tolist())
        found[path] = dict(zip(names, values.tolist(), strict=True))
    return found


@torch.no_grad()
def probabilities(network: Network, pixels_NCHW: torch.Tensor) -> torch.Tensor:
    """The probability of each class (N, K), for pixels within 0..255."""
    batches = (batch.float() / 255 for batch in pixels_NCHW.split(BATCH_SIZE))
    return torch.cat([network(batch).softmax(dim=1) for batch in batches])
