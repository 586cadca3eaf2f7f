"""Train one segment. The learner is the only caller of `backward` and of an optimizer's `step`."""

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import torch
from torch import Tensor, nn

from dsaccel.config.study import TrainingConfig
from dsaccel.nn.labels import Labels
from dsaccel.nn.units import RUNS, Features, build_units, positions
from dsaccel.parts import part_of
from dsaccel.seeds import derive
from dsaccel.spec.plan import Segment
from dsaccel.training.cuda_streams import ONE_LANE, Lanes
from dsaccel.training.half_weights import cast_by_autocast, half_weights

if TYPE_CHECKING:
    from dsaccel.optimizers import Optimizer


P = ParamSpec("P")
T = TypeVar("T")


def _owning(method: Callable[P, T]) -> Callable[P, T]:
    """The method; an error in it knows its learner."""

    @wraps(method)
    def run(*args: P.args, **options: P.kwargs) -> T:
        try:
            return method(*args, **options)
        except Exception as error:
            error.__dict__["learner"] = args[0]
            raise

    return run


class Learner:
    """One segment's units, an optimizer each, and their named random numbers.

    Each unit's forward, backward and step happen at once and its graph is released before the next
    unit begins: this is what makes layer-wise learning cheap in memory. All units learn on each
    batch (`step`), or one after another (`learn`, `freeze`, `pass_on`).
    """

    def __init__(
        self,
        segment: Segment,
        training: TrainingConfig,
        *,
        seed: int,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.training = training
        self.learning_rate = segment.learning_rate or training.learning_rate
        """The rate before the first decay."""
        self.seed = seed
        self.device = device
        self.units = build_units(segment, seed)
        for unit in self.units:
            unit.recomputes = RUNS[training.recompute]
            _place(unit, device, dtype)
            if training.compile:
                from dsaccel.nn.compiled import compile_unit  # takes seconds to import

                compile_unit(unit)
        optimizer: Optimizer = part_of(training, "optimizer")
        # on CUDA a tensor: a step that is recorded once must find each epoch's there
        in_tensor = device.type == "cuda" and optimizer.records
        self._rates: list[float | Tensor] = [
            torch.tensor(self.learning_rate, device=device) if in_tensor else self.learning_rate
            for _ in self.units
        ]
        self.optimizers = [
            optimizer.make(_groups(unit, training.weight_decay), rate)
            for unit, rate in zip(self.units, self._rates, strict=True)
        ]
        self._cast = [cast_by_autocast(unit) for unit in self.units]
        self.is_joined = segment.is_joined
        self.num_frozen = 0
        """The first units, which have finished learning."""
        self.generators = {position: torch.Generator(device) for position in positions(self.units)}

    @property
    def is_frozen(self) -> bool:
        """Whether no unit is left to learn."""
        return self.num_frozen == len(self.units)

    def start_epoch(self, epoch: int, *, goes_on: bool = False) -> None:
        """Set learning rate, random numbers and training mode for an epoch (1-based).

        Args:
            epoch: which one.
            goes_on: whether it was begun: random numbers are those of the state that was loaded.
        """
        learning_rate = self.training.learning_rate_at(epoch, self.learning_rate)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                if isinstance(group["lr"], Tensor):
                    group["lr"].fill_(learning_rate)
                else:
                    group["lr"] = learning_rate
        if not goes_on:
            for position, generator in self.generators.items():
                generator.manual_seed(derive(self.seed, "dropout", *position, epoch))
        for unit in self.units[self.num_frozen :]:
            unit.train()

    def start_evaluation(self) -> None:
        """Switch to running statistics and no dropout."""
        for unit in self.units:
            unit.eval()

    @_owning
    def step(self, x: Tensor, y_B: Tensor | Labels, lanes: Lanes = ONE_LANE) -> Tensor:
        """Learn from a batch; returns the detached features that the next segment gets."""
        labels = y_B if isinstance(y_B, Labels) else Labels(y_B, x)
        features = Features(x, None)
        if self.is_joined:
            return self._learn_together(features, labels)
        for index in range(len(self.units)):
            features = self._learn(index, features, labels, lanes)
        return features.x

    @_owning
    def learn(self, features: Features, labels: Labels) -> Features:
        """Train the first unit that is not frozen on a batch; returns what it passes on."""
        return self._learn(self.num_frozen, features, labels, ONE_LANE)

    def freeze(self) -> None:
        """End the learning of the first unit that is not frozen, and free its optimizer."""
        self.optimizers[self.num_frozen].state.clear()
        self.num_frozen += 1
        self._set_frozen()

    @_owning
    @torch.no_grad()
    def pass_on(self, index: int, features: Features, *, epoch: int, batch: int) -> Features:
        """A frozen unit's output for a training batch: running statistics, with dropout.

        The random numbers are named by batch too: features that are looked up draw none, and must
        leave those of the next batch as they are.
        """
        unit = self.units[index]
        for position in positions([unit]):
            seed = derive(self.seed, "dropout", *position, epoch, batch)
            self.generators[position].manual_seed(seed)
        with self._autocast():
            _, x, skip = unit(*features, self.generators)
        return Features(x, None if index + 1 == len(self.units) else skip)

    @_owning
    @torch.no_grad()
    def evaluate(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Features for the next segment, and the logits (B, K) of each unit's head."""
        skip = None
        logits: list[Tensor] = []
        for unit in self.units:
            with self._autocast():
                h, x, skip = unit(x, skip, None)
                logits.append(unit.head.logits(h))
        return x, logits

    @torch.no_grad()
    def losses(self, x: Tensor, labels: Labels) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Like `evaluate`, with the loss of each unit beside its logits."""
        skip = None
        read: list[tuple[Tensor, Tensor]] = []
        for unit in self.units:
            with self._autocast():
                h, passed_on, skip = unit(x, skip, None)
                read.append((unit.head.logits(h), unit.loss(h, labels, x)))
            x = passed_on
        return x, read

    def state_dict(self, *, within_epoch: bool = False) -> dict[str, Any]:
        """Everything that training goes on from, plain.

        Args:
            within_epoch: whether an epoch is begun; otherwise its random numbers start with it.
        """
        drawing = self.generators.values() if within_epoch else ()
        return {
            "num_frozen": self.num_frozen,
            "units": [unit.state_dict() for unit in self.units],
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "generators": [generator.get_state() for generator in drawing],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a state, bit for bit, memory format included."""
        self.num_frozen = state["num_frozen"]
        self._set_frozen()
        for unit, values in zip(self.units, state["units"], strict=True):
            unit.load_state_dict(values)
        # none, unless an epoch was begun
        drawing = zip(self.generators.values(), state.get("generators", ()), strict=False)
        for generator, drawn in drawing:
            generator.set_state(drawn)
        for optimizer, values, rate in zip(
            self.optimizers, state["optimizers"], self._rates, strict=True
        ):
            # a copy: averages are updated in place, and the state may be read once more
            optimizer.load_state_dict(copy.deepcopy(values))
            for group in optimizer.param_groups:
                # what was saved may be another device's; the next epoch sets the value
                group["lr"] = rate
                if "capturable" in group:
                    group["capturable"] = isinstance(rate, Tensor)

    def _learn(self, index: int, features: Features, labels: Labels, lanes: Lanes) -> Features:
        """Train a unit on a batch; returns what it passes on, detached."""
        unit, optimizer = self.units[index], self.optimizers[index]
        with lanes.unit(features):
            with self._half_weights(index):
                # one autocast context a unit: a longer one would reuse weights cast before the step
                with self._autocast():
                    h, x, skip = unit(*features, self.generators)
                    passed_on = Features(x.detach(), None if skip is None else skip.detach())
                    lanes.ready(passed_on)
                    pairs = unit.gradients(h, labels, features.x)
                ends, gradients = zip(*pairs, strict=True)
                torch.autograd.backward(ends, gradients)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return passed_on

    def _learn_together(self, features: Features, labels: Labels) -> Tensor:
        """Train all units at once: gradients pass from each to those below it."""
        pairs: list[tuple[Tensor, Tensor | None]] = []
        for unit in self.units:
            with self._autocast():
                h, passed_on, skip = unit(*features, self.generators)
                pairs += unit.gradients(h, labels, features.x)
            features = Features(passed_on, skip)
        ends, gradients = zip(*pairs, strict=True)
        torch.autograd.backward(ends, gradients)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return features.x.detach()

    def _set_frozen(self) -> None:
        for unit in self.units[: self.num_frozen]:
            unit.eval()

    def _half_weights(self, index: int) -> AbstractContextManager[object]:
        is_bf16 = self.training.precision == "bf16"
        return half_weights(self._cast[index]) if is_bf16 else nullcontext()

    def _autocast(self) -> torch.autocast:
        enabled = self.training.precision == "bf16"
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=enabled)


def _groups(unit: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups: if there is a weight decay, normalisations and biases have none."""
    if not weight_decay:
        return [{"params": list(unit.parameters())}]
    decayed = [p for p in unit.parameters() if p.ndim > 1]
    others = [p for p in unit.parameters() if p.ndim <= 1]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": others}]


def _place(module: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    """Move weights and statistics, maps channels-last: `Module.to` cannot move hollow tensors."""
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            setattr(part, name, nn.Parameter(_placed(parameter.detach(), device, dtype)))
        for name, buffer in part.named_buffers(recurse=False):
            setattr(part, name, _placed(buffer, device, dtype))


def _placed(x: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    last = torch.channels_last if x.ndim == 4 else torch.preserve_format
    return x.to(device, dtype if x.is_floating_point() else x.dtype, memory_format=last)
