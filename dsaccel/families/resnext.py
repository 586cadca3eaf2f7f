"""ResNeXt: bottlenecks whose 3x3 convolution works in groups of channels."""

from typing import ClassVar

from pydantic import Field

from dsaccel.families.resnet import STEM_WIDTH, Bottleneck
from dsaccel.spec.blocks import Layer
from dsaccel.spec.hierarchy import Hierarchy


class ResNeXt50(Bottleneck):
    """ResNeXt50 at 3-4-6-3; at width 1 its 3x3 convolutions have 32 groups."""

    standard: ClassVar = Hierarchy((3, 4, 6, 3))
    group_width: int = Field(default=4, ge=1)
    """Channels of a group in the first stage; each further stage doubles them."""

    def layers(
        self, channels: int, width: int, end: int, side: int, stride: int
    ) -> tuple[Layer, ...]:
        out = -(-side // stride)
        of_group = self.group_width * end // (self.expansion * self.scaled(STEM_WIDTH))
        groups = self.scaled(32)
        inner = of_group * groups
        return (
            self.conv(channels, inner, side),
            self.conv(inner, inner, out, kernel=3, stride=stride, groups=groups),
            self.conv(inner, end, out),
        )
