"""What is trained and how: the sections `[network]` and `[training]`."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from dsaccel.config.section import Section
from dsaccel.parts import NamesPart, part_of
from dsaccel.spec.rung import Exit

MAX_CUDA_LANES = 32
"""Torch has as many streams of a kind."""


Cut = Literal["conv", "block", "stage", "none"]
Recompute = Literal["block", "stage", "nested"]


class NetworkConfig(Section):
    width: float = Field(default=1.0, gt=0, le=64)
    """Multiplies the channels of every convolution, and the decoder size."""
    granularity: Cut | tuple[Cut, ...] = "conv"
    """Where gradients are cut: after every conv, block or stage, or not before the next stage
    (`none`); a list: stage by stage, or the stem and each stage. A last `none`: the output layer
    trains what no local loss does, all of the network if there is no other word."""
    cuts: bool = True
    """No: gradients pass where they would be cut, and each unit learns from its own loss and from
    those of all units above (deep supervision). Nothing is shared between hierarchies then."""
    first_loss: int = Field(default=1, ge=1)
    """The first unit (1-based) that carries a local loss; the units below learn from it."""
    loss: Annotated[str, NamesPart("loss")] = "predsim"
    """Local loss of every unit: prediction, similarity, both, or the one-hot loss of eq. 6; or
    prediction, and little movement (`transport`) or a drawn image (`reconstruct`) beside it."""
    loss_options: dict[str, Any] = Field(default_factory=dict)
    """Options of the loss that are no settings of `[network]`."""
    head: Annotated[str, NamesPart("head")] = "linear"
    """What turns the features of a unit into logits."""
    head_options: dict[str, Any] = Field(default_factory=dict)
    """Options of the head that are no settings of `[network]`."""
    output: Exit = "layer"
    """Where the network is read: at its output layer (the paper's), at the last unit's own head, or
    at an ensemble: the mean of the probabilities of the last half of its heads. But for `layer` it
    ends at its last unit, and the heads that are read count as its own."""
    beta: float = Field(default=0.99, ge=0, le=1)
    """predsim = (1 - beta) pred + beta sim."""
    decoder_size: int = Field(default=4096, ge=1)
    """At width 1: average-pool a unit's features to at most this many before its classifier."""
    pred_conv: bool = False
    """A 3x3 convolution in the classification branch: eq. 2 read literally."""
    sim_kernel: Literal[1, 3] = 3
    """Kernel of the similarity branch's convolution."""
    family_options: dict[str, Any] = Field(default_factory=dict)
    """Options of the family that are no settings of `[network]`."""
    num_hidden: int = Field(default=1, ge=0)
    """Fully connected units of 1024 before the output layer of a VGG; a ResNet has none."""
    hidden_widths: tuple[Annotated[int, Field(ge=1)], ...] | None = None
    """Instead of these, units of these widths: `[4096, 4096]` is the original VGG."""
    stem: Literal["cifar", "imagenet"] = "cifar"
    """A ResNet's: 3x3 at full resolution, or 7x7 of stride 2 and a 3x3 max-pool of stride 2."""
    downsampling: Literal["family", "stride", "max-pool", "average-pool"] = "family"
    """How stages halve the side. `family`: a ResNet by stride, a VGG by max-pool."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Probability that a channel is dropped on its way to the next unit."""

    @field_validator("granularity", mode="before")
    @classmethod
    def _words(cls, words: Any) -> Any:
        """A choice of a search, and an option, is one text."""
        if isinstance(words, str):
            return tuple(words.split(",")) if "," in words else words
        return tuple(words) if isinstance(words, list) else words


class TrainingConfig(Section):
    schedule: Annotated[str, NamesPart("schedule")] = "simultaneous"
    """`simultaneous`: every unit learns on every batch; `sequential` (the paper's Algorithm 1): one
    unit after another, each for all epochs, the units below it frozen."""
    schedule_options: dict[str, Any] = Field(default_factory=dict)
    """Options of the schedule that are no settings of `[training]`."""
    epochs: int = Field(default=400, ge=1)
    """Passes over the training images (of each unit, if `sequential`); the learning-rate schedule
    spans all of them."""
    batch_size: int = Field(default=128, ge=2, le=1_000_000)
    """Images a step; a last partial batch is dropped."""
    learning_rate: float = Field(default=3e-4, gt=0)
    """The optimizer's, before it decays."""
    optimizer: Annotated[str, NamesPart("optimizer")] = "adam"
    """How each unit goes down its gradient."""
    optimizer_options: dict[str, Any] = Field(default_factory=dict)
    """Options of the optimizer that are no settings of `[training]`."""
    weight_decay: float = Field(default=0.0, ge=0)
    """For convolutions and linear maps; normalisations and biases do not decay."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of each label that is spread over all classes, in every cross-entropy."""
    lr_schedule: Annotated[str, NamesPart("lr_schedule")] = "steps"
    """How the learning rate changes from epoch to epoch."""
    lr_options: dict[str, Any] = Field(default_factory=dict)
    """Options of the learning-rate schedule that are no settings of `[training]`."""
    warmup_epochs: int = Field(default=0, ge=0)
    """First epochs, in which the learning rate rises in equal steps to the schedule's."""
    lr_decay: float = Field(default=0.25, gt=0, le=1)
    """`steps`: the learning rate is multiplied by this at each milestone."""
    lr_milestones: tuple[float, ...] = (0.5, 0.75, 0.89, 0.94)
    """`steps`: fractions of `epochs` after which the learning rate decays (the paper's, part V); of
    few epochs, rounded down to a whole number of them, one at least."""
    output_weight: float = Field(default=1.0, gt=0)
    """Weight of the output layer's loss (the reference code's: 1 - beta)."""
    output_loss: Literal["pred", "mse"] = "pred"
    """What the output layer learns from, and under back-propagation the whole network: `pred`,
    cross-entropy; `mse`, the squared distance to one-hot labels (eq. 5)."""
    adam_eps: float = Field(default=1e-8, gt=0)
    """`adam` and `adamw`: epsilon."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """`bf16`: autocast of convolutions and linear layers; losses and statistics stay fp32."""
    compile: bool = False
    """Have torch.compile make the kernels by which layers and heads learn, once for each shape:
    fewer ones, which move less, for up to minutes of compiling at the start. Changes the last
    digits of results."""
    recompute: bool | Recompute = False
    """Keep of a unit that learns only the inputs of its blocks (yes, or `block`), of its stages
    (`stage`), or of its stages and then of the blocks of one stage (`nested`), and compute the rest
    again for the gradient: less memory where units are of several blocks, for up to a third more
    time, `nested` up to two thirds. Changes no result."""
    feature_cache_mib: int = Field(default=1024, ge=0)
    """`sequential`: memory of the device, in MiB, for features of frozen units that would be
    computed again otherwise. Changes no result."""
    feature_cache_host_mib: int = Field(default=2048, ge=0)
    """The same in host memory, used when the device's share is full. Changes no result."""
    cuda_graph: bool | Literal["auto"] = "auto"
    """On CUDA, `simultaneous`: launch a step of all networks as one recorded graph, if the
    optimizer can be recorded; `auto`: if steps of one network, recorded, also give the bits of
    steps as they are, which is tried at the start. Changes no result."""
    cuda_lanes: int = Field(default=1, ge=1, le=MAX_CUDA_LANES)
    """With `cuda_graph`: how many units may learn at the same time. Takes the more memory the more
    there are. Changes no result."""

    @property
    def step_name(self) -> Literal["epoch", "stage"]:
        """What a rung comes after."""
        return part_of(self, "schedule").step_name

    @property
    def deciding(self) -> "TrainingConfig":
        """These settings with those at their defaults that change no result."""
        free = (
            "recompute",
            "feature_cache_mib",
            "feature_cache_host_mib",
            "cuda_graph",
            "cuda_lanes",
        )
        fields = type(self).model_fields
        return self.model_copy(update={name: fields[name].default for name in free})

    @field_validator("lr_milestones")
    @classmethod
    def _fractions_in_order(cls, milestones: tuple[float, ...]) -> tuple[float, ...]:
        if not all(0 < m <= 1 for m in milestones) or list(milestones) != sorted(milestones):
            raise ValueError("must be fractions of the epochs within 0..1, in ascending order")
        return milestones

    def first_rung(self) -> int | None:
        """The first epoch after which networks can be ranked; None: the schedule does not say."""
        first = part_of(self, "lr_schedule").first_rung(self.epochs)
        return first and max(first, self.warmup_epochs + 1)

    def learning_rate_at(self, epoch: int, base: float | None = None) -> float:
        """The learning rate throughout an epoch (1-based); `base`: before it decays."""
        rate = self.learning_rate if base is None else base
        warm = min(1.0, epoch / (self.warmup_epochs + 1))
        return rate * warm * part_of(self, "lr_schedule").factor(epoch, self.epochs)
