"""What a unit learns from: a head, which turns its features into logits, and a local loss.

Both are frozen: whatever changes how the unit trains is a field, so that equal ones train equally.
They build their layers themselves, and import torch no sooner than that.
"""

# B batch, C channels, H = W side, F features, K classes

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

if TYPE_CHECKING:
    from torch import Tensor, nn

    from dsaccel.nn.labels import Labels

    Logits = Callable[[Tensor], Tensor]
    Ends = list[tuple[Tensor, Tensor | None]]


Read = Literal["image", "previous", "residuals"]
"""What a loss may read beside the features: the batch of images (B, C, H, W), what the unit is fed,
and what each of its blocks adds to its shortcut, a tuple with a tensor for each such block."""


class Draw(Protocol):
    """Makes a layer with weights drawn by the unit's position and a role, used once a unit."""

    def __call__(self, role: str, kind: Any, *args: Any, **kwargs: Any) -> Any:
        """`draw("classifier", nn.Linear, 64, 10)`; a convolution or a linear map."""
        ...

    def under(self, role: str) -> Draw:
        """The same for layers whose roles are words of their own, beneath this one."""
        ...


@dataclass(frozen=True)
class UnitShape:
    """The unit that a head or a loss is planned for."""

    stage: int
    """0 the stem, 1..S the stages, S + 1 fully connected."""
    index: int
    """The place of the unit's last block in its stage, 1-based."""
    channels: int
    side: int | None
    """Side of its feature maps in pixels; None: a vector (a fully connected unit)."""
    num_classes: int
    label_smoothing: float = 0.0
    """Share of each label that a cross-entropy spreads over all classes."""
    image_channels: int = 3
    only_reads: bool = False
    """Whether the features learn nothing from the head: it tells how good they are, no more."""
    later: Callable[[float], tuple[Any, ...]] | None = None
    """Block 1 of each later stage, one after another, at a share of the network's width; it knows
    nothing of the hierarchy but its number of stages. None: the features are a vector."""

    @property
    def num_features(self) -> int:
        return self.channels * (1 if self.side is None else self.side**2)


class Counted:
    """Layers of a unit, counted without being built."""

    @property
    def num_parameters(self) -> int:
        return 0

    @property
    def flops(self) -> int:
        """Forward FLOPs an image: 2 a multiply-add of the linear maps and convolutions."""
        return 0

    @property
    def depth(self) -> int:
        """Layers with weights that a gradient passes, one after another."""
        return 1

    def build(self, draw: Draw) -> Mapping[str, nn.Module]:
        """The layers by name, as weights are saved under; on the CPU, in fp32."""
        return {}


class HeadPlan(Counted, ABC):
    """A head of one unit; derive a frozen dataclass from it."""

    @abstractmethod
    def logits(self, h: Tensor, layers: Any) -> Tensor:
        """Features (B, C, H, W) or (B, F) -> (B, K); `layers` has what was built as attributes."""


class LossPlan(Counted, ABC):
    """A local loss of one unit; derive a frozen dataclass from it."""

    reads: ClassVar[frozenset[Read]] = frozenset()
    """What the loss is given beside features and logits, each by its name."""

    @abstractmethod
    def loss(self, h: Tensor, logits: Logits, y_B: Tensor, layers: Any, **read: Any) -> Tensor:
        """The loss, a scalar.

        Args:
            h: features (B, C, H, W) or (B, F), before dropout.
            logits: the unit's head, features -> (B, K), in fp32 whatever the precision.
            y_B: the classes.
            layers: has what was built as attributes.
            read: what it `reads`, by name.
        """

    def gradients(
        self, h: Tensor, logits: Logits, labels: Labels, layers: Any, **read: Any
    ) -> Ends:
        """Tensors and the gradient of the loss with respect to each, from which autograd goes on.

        A loss that knows these need not compute its value, which nobody reads; any other one is a
        scalar itself. Arguments as of `loss`.
        """
        return [(self.loss(h, logits, labels.y_B, layers, **read), None)]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "loss" in vars(cls) and "gradients" not in vars(cls):  # those of another loss
            cls.gradients = LossPlan.gradients


@dataclass(frozen=True)
class Head:
    """The local head of a unit: its classifier, and the loss that trains both."""

    classifier: HeadPlan
    loss: LossPlan

    @property
    def num_parameters(self) -> int:
        return self.classifier.num_parameters + self.loss.num_parameters

    @property
    def flops(self) -> int:
        return self.classifier.flops + self.loss.flops

    @property
    def depth(self) -> int:
        """Layers with weights on its longer branch."""
        return max(self.classifier.depth, self.loss.depth)
