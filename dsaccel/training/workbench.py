"""What a study or a run trains with: its data, its device, its networks and its space.

A workbench is made without writing a file and without changing anything of the process: threads
and determinism are set by `start_runtime`, which whoever trains calls.
"""

from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

import torch

from dsaccel.config.own_settings import with_own_settings
from dsaccel.config.study import RunConfig, StudyConfig
from dsaccel.data.batches import EVAL_BATCH_SIZE, Data
from dsaccel.data.load import load_data, look_at_test
from dsaccel.data.source import DataSource
from dsaccel.families import Mode, check_hierarchy
from dsaccel.planner import Planner
from dsaccel.space.space import SearchSpace
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.plan import Plan
from dsaccel.training.device import device_note, resolve_runtime
from dsaccel.training.device_memory import free_memory_bytes, total_memory_bytes
from dsaccel.training.memory import training_bytes
from dsaccel.training.memory_limit import MemoryLimit

WIDEST = 256
"""Channels of the largest maps at width 1: a bottleneck's of the first stage."""

Config = TypeVar("Config", StudyConfig, RunConfig)


@dataclass(frozen=True)
class Bench(Generic[Config]):
    """The images on a device, and the networks for them."""

    config: Config
    """The config, in which images and runtime are resolved."""
    data: Data
    device: torch.device
    planner: Planner
    given: DataSource | None = field(default=None, kw_only=True)
    """The source of the images, if it is not the one that the config names."""

    @classmethod
    def load(
        cls, config: Config, *, download: bool = False, source: DataSource | None = None
    ) -> "Bench[Config]":
        """Read the images of a config, or those of a source that it does not name.

        Raises:
            ConfigError: settings, data or a device that cannot be used.
        """
        runtime = resolve_runtime(config.runtime, precision=config.training.precision)
        device = torch.device(runtime.device)
        data = read_data(config, device, download=download, source=source)
        resolved = config.model_copy(update={"data": data.resolved, "runtime": runtime})
        planner = Planner.of(resolved, data.num_classes)
        return Bench(resolved, data, device, planner, given=source)

    @property
    def notes(self) -> tuple[str, ...]:
        """Tell the user what is worth knowing about the device and the images."""
        return (*self.data.notes, device_note(self.device, self.config.runtime.threads))

    def plan(self, hierarchy: Hierarchy, mode: Mode = "local") -> Plan:
        """The network of a hierarchy, layer-wise or for back-propagation."""
        return self.planner(hierarchy, mode)

    def memory_limit(self, share: float = 1.0) -> MemoryLimit:
        """The memory of networks from now on; one of several workers gets a share of it."""
        memory_mib = self.config.runtime.memory_mib
        return MemoryLimit(memory_mib, self.device, self.data.num_train, share)


@dataclass(frozen=True)
class Workbench(Bench[StudyConfig]):
    """A study's bench, with the space that may be searched."""

    space: SearchSpace

    @classmethod
    def open(
        cls, config: StudyConfig, *, download: bool = False, source: DataSource | None = None
    ) -> "Workbench":
        """Read the images of a study and look through its space.

        Raises:
            ConfigError: settings, data, a device or a space that cannot be used.
        """
        fewest = Hierarchy(tuple(low for low, _ in config.space.num_blocks))
        check_hierarchy(config.family, fewest)
        bench = Bench.load(config, download=download, source=source)
        look_at_test(bench.data)
        return cls.of(bench)

    @classmethod
    def of(cls, bench: Bench[StudyConfig]) -> "Workbench":
        """Look through the space of a study whose images are read.

        Raises:
            ConfigError: a space that cannot be used.
        """
        config = bench.config
        references = [with_own_settings(Hierarchy.parse(t), config) for t in config.references]
        named = config.model_copy(update={"references": tuple(map(str, references))})
        memory = training_bytes(config.training)
        space = SearchSpace.planned(config.space, bench.plan, references, memory=memory)
        return cls(named, bench.data, bench.device, bench.planner, space, given=bench.given)

    def with_config(self, config: StudyConfig) -> "Workbench":
        """The same images and space, with settings that change neither."""
        return replace(self, config=config)


def read_data(
    config: StudyConfig | RunConfig,
    device: torch.device,
    *,
    seed: int | None = None,
    download: bool = False,
    source: DataSource | None = None,
) -> Data:
    """The images of a config or a source; `seed` splits, orders and augments them in place of its
    own.

    Raises:
        ConfigError: as `load_data`.
    """
    data = load_data(
        config.data,
        seed=config.seed if seed is None else seed,
        batch_size=config.training.batch_size,
        device=device,
        download=download,
        source=source,
        room_bytes=free_memory_bytes(device) if device.type == "cuda" else None,
    )
    if device.type != "cuda":
        return data
    size = eval_batch_size(data, config.network.width, total_memory_bytes(device))
    return replace(data, val=replace(data.val, batch_size=size))


def eval_batch_size(data: Data, width: float, total_bytes: int) -> int:
    """Images that a GPU looks at at a time: many take fewer launches, if their maps take little.

    All of its memory decides, not what is free: the same run reads the same bits each time.
    """
    map_bytes = 4 * round(WIDEST * width) * data.side**2
    takes_little = EVAL_BATCH_SIZE * 2 * map_bytes <= total_bytes / 16
    return EVAL_BATCH_SIZE if takes_little else data.val.batch_size
