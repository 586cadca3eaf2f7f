"""A network as one torch module, to be used outside of dsaccel."""

# B batch, C channels, H = W side, F features, K classes

from collections.abc import Iterable
from copy import copy
from pathlib import Path
from typing import Any, cast

import torch
import torch.fx
from torch import Tensor, nn

from dsaccel.config.study import RunConfig
from dsaccel.config.toml import parse_config, read_toml
from dsaccel.errors import ConfigError
from dsaccel.nn.layers import LayerModule
from dsaccel.nn.units import AbsentHead, LocalHead, Unit, build_units, layer_outputs, positions
from dsaccel.nn.weights import ImageFacts, load_weights, read_config, read_facts
from dsaccel.planner import Planner
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.spec.plan import Plan
from dsaccel.spec.unit_names import head_names


class Network(nn.Module):
    """All units in a row. Gradients pass from each to the next, as in any module.

    Images are (B, C, H, W) floats within 0..1; they are normalised here as they were in training.
    In training mode channels are dropped, by torch's global random numbers.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, units: Iterable[Unit], facts: ImageFacts, plan: Plan) -> None:
        super().__init__()
        self.shape = (plan.blocks[0].in_channels, plan.side, plan.side)
        """The shape of one image: (C, H, W)."""
        self._is_trained = bool(facts.fingerprint)
        self._num_read = len(plan.exit_heads)
        self.units = nn.ModuleList(units)
        self.head_names = head_names(plan)
        """The heads in order of depth: `stem`, `s2.1 conv 2`, an output layer's last."""
        self.class_names = facts.class_names
        """The classes in the order of the logits."""
        for name, levels in (("mean", facts.mean), ("std", facts.std)):
            self.register_buffer(name, torch.tensor(levels)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Map images to the logits of the exit (B, K); an ensemble gives its log-probabilities."""
        features, units = self.features(images), self._units()
        if self._num_read == 1:
            return units[-1].head.logits(features[-1])
        read = zip(units[-self._num_read :], features[-self._num_read :], strict=True)
        probabilities = [unit.head.logits(h).softmax(dim=1) for unit, h in read]
        return torch.stack(probabilities).mean(dim=0).log()

    def heads(self, images: Tensor) -> list[Tensor]:
        """Images -> the logits (B, K) of each unit, in order of depth, an output layer's last.

        Raises:
            ConfigError: if its weights were written without all heads.
        """
        read = zip(self._units(), self.features(images), strict=True)
        return [unit.head.logits(h) for unit, h in read]

    def features(self, images: Tensor) -> list[Tensor]:
        """Images -> what the head of each unit reads, (B, C, H, W) or (B, F), likewise."""
        if not torch.compiler.is_compiling() and not torch._C._get_tracing_state():
            self._check(images)
        units = self._units()
        generators = dict.fromkeys(positions(units)) if self.training else None
        x, skip = (images - self.mean) / self.std, None
        read: list[Tensor] = []
        for unit in units:
            h, x, skip = unit(x, skip, generators)
            read.append(h)
        return read

    def up_to(self, head: str) -> "Network":
        """The network that ends at one of `head_names` and is read there alone, as is best where
        the layers above do not help. It shares its weights with this one: convert it only if this
        one is not used any more.

        Raises:
            ConfigError: if there is no such head, or it was written without its weights.
        """
        if head not in self.head_names:
            names = ", ".join(self.head_names)
            raise ConfigError(f"a head must be one of {names}, but got {head!r}")
        num = self.head_names.index(head) + 1
        units = self._units()[:num]
        if isinstance(units[-1].head, AbsentHead):
            units[-1].head.refuse()
        shorter = copy(self)
        shorter.__dict__ |= {
            name: type(value)() for name, value in self.__dict__.items() if "_hooks" in name
        }
        shorter._modules = {"units": nn.ModuleList(units)}
        shorter._buffers = dict(self._buffers)
        shorter.head_names, shorter._num_read = self.head_names[:num], 1
        return shorter

    @property
    def feature_info(self) -> list[dict[str, Any]]:
        """Of the maps at the end of each stage, as timm has it: `stage`, `module` (the unit),
        `num_chs`, and the `reduction` of the image's side.
        """
        ends, probe = self._stage_ends(), self.mean.new_zeros(1, *self.shape)
        with torch.no_grad():
            maps = layer_outputs([*self._units()], probe)
        return [
            {
                "stage": stage,
                "module": f"units.{unit}",
                "num_chs": maps[index].shape[1],
                "reduction": round(self.shape[-1] / maps[index].shape[-1]),
            }
            for stage, (unit, index) in ends.items()
        ]

    def features_only(self) -> "FeaturesOnly":
        """Images -> the maps at the end of each stage, (B, C, H, W), for a detector or a
        segmenter; the weights are this network's own. Channels are not dropped.
        """
        return FeaturesOnly(self)

    def _stage_ends(self) -> dict[int, tuple[int, int]]:
        """The last layer with maps of each stage: its unit, and its place among all layers."""
        ends: dict[int, tuple[int, int]] = {}
        layers = [(n, layer) for n, unit in enumerate(self._units()) for layer in unit.layers]
        for place, (number, layer) in enumerate(layers):
            assert isinstance(layer, LayerModule)
            if layer.is_map and layer.position.stage:
                ends[layer.position.stage] = number, place
        return ends

    def __prepare_scriptable__(self) -> None:
        raise ConfigError(
            "a network cannot be compiled by torch.jit.script, which takes no units in a row: use "
            "torch.export (dsaccel export --torch), or torch.jit.trace"
        )

    def layers(self, images: Tensor) -> list[Tensor]:
        """Images -> what each convolution and each fully connected layer makes of them, whether a
        head reads it or not; so globally trained networks can be looked at layer by layer, too.
        No channel is dropped. `dsaccel.spec.unit_names.layer_names` has their names.
        """
        self._check(images)
        return layer_outputs(self._units(), (images - self.mean) / self.std)

    def _check(self, images: Tensor) -> None:
        """Refuse what would fail deep inside, or give logits that mean nothing."""
        if isinstance(images, torch.fx.Proxy):
            raise ConfigError(
                "a network cannot be traced by torch.fx, for it looks at its images: take the maps "
                "that feature_info describes from features_only(), or use torch.export"
            )
        dtype, found = self.mean.dtype, getattr(images, "dtype", type(images).__name__)
        is_shaped = isinstance(images, Tensor) and images.shape[1:] == self.shape
        is_cast = is_shaped and torch.is_autocast_enabled(images.device.type)
        is_typed = is_shaped and (images.dtype == dtype or is_cast)
        got = f"{found} {tuple(getattr(images, 'shape', ()))}"
        # far outside of 0..1, not by the rounding or noise of an augmentation
        if is_typed and self._is_trained and len(images):
            low, high = (level.item() for level in images.detach().aminmax())
            is_typed, got = low > -1 and high < 2, f"{low:g}..{high:g}"
        if not is_typed:
            levels = " within 0..1" if self._is_trained else ""
            raise ConfigError(
                f"images must be a batch of {dtype} {('B', *self.shape)}{levels}, but got {got}"
            )

    def _units(self) -> list[Unit]:
        return [cast(Unit, unit) for unit in self.units]


class FeaturesOnly(nn.Module):
    """A network up to its last stage, without heads; see `Network.features_only`."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.feature_info = network.feature_info
        self._ends = [place for _, place in network._stage_ends().values()]

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images -> maps, shallowest first."""
        maps = self.network.layers(images)
        return [maps[place] for place in self._ends]


def load_network(path: str | Path) -> Network:
    """The trained network of a file that a search or `dsaccel train --output` wrote: on the CPU, in
    evaluation mode.

    Raises:
        ConfigError: if the file cannot be read, or is none of those.
    """
    path = Path(path)
    run, facts = read_config(path), read_facts(path)
    plan = plan_of(run, len(facts.class_names), path)
    units = _units(plan, run.seed)
    for index in load_weights(path, units, run, len(plan.exit_heads)):
        head = units[index].head
        assert isinstance(head, LocalHead)  # an output layer is always read
        units[index].head = AbsentHead(head.spec, head_names(plan)[index])
    return _as_module(units, facts, plan)


def build_network(path: str | Path, num_classes: int) -> Network:
    """The network of an exported config, untrained: with the initial weights of its seed, in
    training mode. It takes images as they are, and its classes are named 0, 1, ...

    Raises:
        ConfigError: if the file cannot be read, is no such config, or does not say the size and the
            channels of the images.
    """
    path = Path(path)
    run = parse_config(RunConfig, read_toml(path), str(path))
    return drawn_network(run, num_classes, path)


def drawn_network(run: RunConfig, num_classes: int, path: Path) -> Network:
    """The same for settings; `path` is where they are from.

    Raises:
        ConfigError: likewise.
    """
    plan = plan_of(run, num_classes, path)
    facts = ImageFacts((0.0,), (1.0,), tuple(map(str, range(num_classes))), fingerprint="")
    return _as_module(_units(plan, run.seed), facts, plan).train()


def plan_of(run: RunConfig, num_classes: int, path: Path) -> Plan:
    """The network of a config that says what its images are; `path` is named if it does not.

    Raises:
        ConfigError: if it does not, or `num_classes` are none.
    """
    if run.data.image_size is None or run.data.channels is None:
        raise ConfigError(
            f"{path} must set data.image_size and data.channels to build its network: what "
            f"dsaccel export writes does"
        )
    if num_classes < 2:
        raise ConfigError(f"num_classes must be at least 2, but got {num_classes}")
    return Planner.of(run, num_classes)(Hierarchy.parse(run.hierarchy), run.mode)


def _units(plan: Plan, seed: int) -> list[Unit]:
    return [unit for segment in plan.segments for unit in build_units(segment, seed)]


def _as_module(units: list[Unit], facts: ImageFacts, plan: Plan) -> Network:
    return Network(units, facts, plan).to(memory_format=torch.channels_last).eval()  # pyright: ignore[reportCallIssue]
