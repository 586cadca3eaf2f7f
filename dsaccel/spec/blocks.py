"""What a network is made of, as data: layers, blocks, and the output layer.

Everything that can change how a block trains is a field here (or a study-wide setting), and nothing
looks ahead. No weights are built; parameters and FLOPs are counted from the fields.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from dsaccel.spec.local import Draw, Head, LossPlan

if TYPE_CHECKING:
    from dsaccel.nn.layers import LayerModule

Shortcut = Literal["none", "identity", "projection"]
Pool = Literal["max", "average", "overlapping"]
"""How maps are pooled to half of their side: by 2x2 windows, which round it down, or by 3x3 ones of
the greatest value with a pixel around the map, which round it up.
"""


@dataclass(frozen=True)
class Layer:
    """Convolution (or linear map), batch normalisation, leaky ReLU, dropout."""

    kind: Literal["conv", "linear"]
    in_channels: int
    out_channels: int
    side: int
    """Side of the output maps in pixels; 1 for a linear map."""
    kernel: int = 1
    stride: int = 1
    bias: bool = False
    groups: int = 1
    """Groups of channels: each output channel reads those of its group alone."""
    dropout: float = 0.0
    head: Head | None = None
    """The local loss here, where the gradient is cut; None: the gradient passes."""

    @property
    def num_parameters(self) -> int:
        return self._weights + self.out_channels * (int(self.bias) + 2)  # 2: the normalisation's

    @property
    def flops(self) -> int:
        return 2 * self._weights * self.side**2

    @property
    def num_values(self) -> int:
        """Values of the output maps of an image."""
        return self.out_channels * self.side**2

    @property
    def _weights(self) -> int:
        return self.kernel**2 * self.in_channels // self.groups * self.out_channels


@dataclass(frozen=True)
class Block:
    """What a hierarchy counts: a residual block, a VGG convolution; or the stem, a hidden unit."""

    stage: int
    """0 the stem, 1..S the stages, S + 1 fully connected."""
    index: int
    """1-based, within the stage."""
    layers: tuple[Layer, ...]
    shortcut: Shortcut = "none"
    pool: Pool | None = None
    """What comes before: it belongs to the block that it feeds."""

    def build(self, number: int, draw: Draw) -> "LayerModule | None":
        """A layer (0-based) as a torch module on the CPU in fp32; None: the usual one."""
        return None

    @property
    def stride(self) -> int:
        """The factor by which the block's own layers reduce the side."""
        stride = 1
        for layer in self.layers:
            stride *= layer.stride
        return stride

    @property
    def in_channels(self) -> int:
        return self.layers[0].in_channels

    @property
    def out_channels(self) -> int:
        return self.layers[-1].out_channels

    @property
    def has_head(self) -> bool:
        """Whether the border after the block is detached."""
        return self.layers[-1].head is not None

    @property
    def num_parameters(self) -> int:
        return sum(layer.num_parameters for layer in self.layers) + self._projection(2)

    @property
    def flops(self) -> int:
        return sum(layer.flops for layer in self.layers) + 2 * self._projection(0) * (
            self.layers[-1].side ** 2
        )

    def _projection(self, norm: int) -> int:
        """Weights of the 1x1 shortcut, with `norm` values a channel for its normalisation."""
        if self.shortcut != "projection":
            return 0
        return (self.in_channels + norm) * self.out_channels


@dataclass(frozen=True)
class Output:
    """The output layer at a network's end: a linear classifier, as a rule under cross-entropy."""

    num_features: int
    num_classes: int
    average: bool
    """Average over the feature map first (ResNet); otherwise flatten (VGG)."""
    pool: Pool | None = None
    """What comes before."""
    weight: float = 1.0
    """Factor of its loss."""
    label_smoothing: float = 0.0
    loss: LossPlan | None = None
    """A loss of logits alone in place of the cross-entropy."""

    @property
    def num_parameters(self) -> int:
        return (self.num_features + 1) * self.num_classes

    @property
    def flops(self) -> int:
        return 2 * self.num_features * self.num_classes
