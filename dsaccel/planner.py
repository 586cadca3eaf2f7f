"""The networks of a study: from a hierarchy to its plan, for the study's images."""

from dataclasses import dataclass

from dsaccel.config.study import NetworkConfig, RunConfig, StudyConfig, TrainingConfig
from dsaccel.families import Mode, build_plan
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.plan import Plan


@dataclass(frozen=True)
class Planner:
    """Plans hierarchies that share a family, `[network]` and the images; see `build_plan`."""

    family: str
    network: NetworkConfig
    channels: int
    side: int
    num_classes: int
    training: TrainingConfig

    @classmethod
    def of(cls, config: StudyConfig | RunConfig, num_classes: int) -> "Planner":
        """A planner for a config that describes its images, as that of a study that was run."""
        channels, side = config.data.channels, config.data.image_size
        assert channels is not None
        assert side is not None
        return cls(config.family, config.network, channels, side, num_classes, config.training)

    def __call__(self, hierarchy: Hierarchy, mode: Mode = "local") -> Plan:
        """The plan of a hierarchy, layer-wise or for back-propagation."""
        return build_plan(
            self.family,
            hierarchy,
            self.network,
            self.training,
            channels=self.channels,
            side=self.side,
            num_classes=self.num_classes,
            mode=mode,
        )
