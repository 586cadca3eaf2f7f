"""How well the classes can be told apart at each layer, by means that training has not seen.

The paper's part III looks at the local heads, which exist layer-wise alone, learn along and see
features that are pooled to different sizes. Here every layer of a network, whether it was trained
layer-wise or by back-propagation, is reduced to vectors of one dimension; a linear probe is fitted
to those of some training images and read on validation images.
"""

# N images, F features, D dimension of the probes, K classes

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from torch.nn import functional as F

from dsaccel.data.batches import Data, EvalSplit
from dsaccel.nn.units import Unit, layer_outputs

Array = NDArray[np.float64]

DIMENSION = 64
"""The length of the vectors that a probe reads; narrow networks have fewer features."""
SIDE = 4
"""Feature maps are averaged to at most this side before they are reduced."""
NUM_PROBED = 2000
"""Images of each split that are looked at, at most."""


@dataclass(frozen=True)
class Measured:
    """The layers of a network at one epoch, in order of depth."""

    probe: list[float]
    """Validation accuracy (0..1) of a linear probe."""
    scatter: list[float]
    """Between-class over within-class scatter of the validation images (traces, as Fisher's)."""
    rank: list[float]
    """Effective rank of the validation images' features, averaged over each map."""


def measure(units: Sequence[Unit], data: Data) -> Measured:
    """Probe all layers of a network in evaluation mode.

    Args:
        units: of the network, from the first one on.
        data: the images that it is trained on.
    """
    train, val = _vectors(units, data.train_as_they_are()), _vectors(units, data.val)
    dimension = min(DIMENSION, *(layer.shape[1] for layer in train.layers), len(train.labels))
    probe, scatter = [], []
    rank = [effective_rank(mean_NC) for mean_NC in val.means]
    for train_NF, val_NF in zip(train.layers, val.layers, strict=True):
        reduce = PCA(dimension, svd_solver="covariance_eigh").fit(train_NF)
        scale = StandardScaler().fit(reduce.transform(train_NF))
        train_ND, val_ND = (
            np.asarray(scale.transform(reduce.transform(x))) for x in (train_NF, val_NF)
        )
        classifier = LogisticRegression(C=0.1, max_iter=200).fit(train_ND, train.labels)
        probe.append(float(classifier.score(val_ND, val.labels)))
        scatter.append(scatter_ratio(val_ND, val.labels))
    return Measured(probe, scatter, rank)


def scatter_ratio(x_ND: Array, y_N: NDArray[np.int64]) -> float:
    """Scatter of the class means around the mean over that of the images around their class's."""
    classes, y_N = np.unique(y_N, return_inverse=True)
    counts_K = np.bincount(y_N)
    sums_KD = np.zeros((len(classes), x_ND.shape[1]))
    np.add.at(sums_KD, y_N, x_ND)
    means_KD = sums_KD / counts_K[:, None]
    between = float(counts_K @ ((means_KD - x_ND.mean(axis=0)) ** 2).sum(axis=1))
    within = float(((x_ND - means_KD[y_N]) ** 2).sum())
    return between / within if within else 0.0


def effective_rank(x_ND: Array) -> float:
    """How many directions features use: exp of the entropy of their singular values as shares of
    their sum (Roy and Vetterli 2007). From 1, or 0 if nothing varies, up to D.
    """
    singular = np.linalg.svd(x_ND - x_ND.mean(axis=0), compute_uv=False)
    if not singular.sum():
        return 0.0
    shares = singular[singular > 0] / singular.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


@dataclass(frozen=True)
class _Vectors:
    layers: list[Array]
    """(N, F) each."""
    means: list[Array]
    """(N, C) each, over the pixels of a map."""
    labels: NDArray[np.int64]


@torch.no_grad()
def _vectors(units: Sequence[Unit], split: EvalSplit) -> _Vectors:
    """The features of each layer for some images, pooled and flat."""
    pooled: list[list[Tensor]] = []
    means: list[list[Tensor]] = []
    labels: list[Tensor] = []
    for x, y in split.spread(NUM_PROBED).batches():
        outputs = layer_outputs(units, x)
        pooled.append([_pooled(h, SIDE).cpu() for h in outputs])
        means.append([_pooled(h, 1).cpu() for h in outputs])
        labels.append(y.cpu())
    return _Vectors(_joined(pooled), _joined(means), torch.cat(labels).numpy())


def _joined(batches: list[list[Tensor]]) -> list[Array]:
    """A layer's batches as one array."""
    return [torch.cat(layer).double().numpy() for layer in zip(*batches, strict=True)]


def _pooled(h: Tensor, side: int) -> Tensor:
    if h.dim() == 4 and h.shape[-1] > side:
        h = F.adaptive_avg_pool2d(h, side)
    return h.flatten(1).nan_to_num()
