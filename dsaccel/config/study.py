"""Every setting of a study: one frozen model a section, each part of the program gets its own.

A study file is TOML in the shape of `StudyConfig`, a search space in that of `SpaceConfig`, an
exported network in that of `RunConfig`. A setting of `None` stands for "chosen for you": the
resolved value is written beside the study. `parsing` makes them of files and options.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    Field,
    ValidationError,
    ValidationInfo,
    create_model,
    field_validator,
    model_validator,
)

from dsaccel.config.section import Searched, Section
from dsaccel.parts import BUILTIN, NamesPart, is_foreign, load_class, part_of
from dsaccel.spec.hierarchy import OPTIONS, SETTINGS, Hierarchy, Value
from dsaccel.spec.rung import RankedBy

PRUNING_RULES = ("halving", "percentile", "none")
MAX_CUDA_LANES = 32
"""As many streams as torch has of a kind."""
MAX_THREADS = 1024


class DataConfig(Section):
    name: Annotated[str, NamesPart("data", or_else="a folder")] = "digits"
    """`digits`, the name of a torchvision data set, a folder with `train/<class>/` (`val/<class>/`
    and `test/<class>/` beside it are read as what they are named), or an import path,
    `./mine.py:Mine`, of a source of your own."""
    dir: str | None = None
    """Where named data sets lie (and are downloaded to); None: the user's cache folder."""
    image_size: int | None = Field(default=None, ge=4, le=512)
    """Side of the square images in pixels; None: as stored, for folders the median shorter side."""
    channels: Literal[1, 3] | None = None
    """1 grey or 3 RGB; None: those of the data set, for folders 3."""
    val_fraction: float = Field(default=0.1, gt=0, lt=1)
    """Share of the training images held out for validation, stratified by class and seeded;
    of a folder with `val/` none are."""
    train_images: int | None = Field(default=None, ge=2)
    """Train on this many images only (stratified, seeded); None: on all that are left."""
    crop_padding: int | None = Field(default=None, ge=0)
    """Random crops after padding by this many pixels; None: an eighth of the side."""
    flip: bool | None = None
    """Random horizontal flips; None: what suits the data set (not digits, not SVHN)."""
    cutout: int = Field(default=0, ge=0)
    """Side in pixels of a square erased from each training image; 0: none."""


class NetworkConfig(Section):
    width: float = Field(default=1.0, gt=0, le=64)
    """Multiplies the channels of every convolution, and the decoder size."""
    granularity: (
        Literal["conv", "block", "stage"] | tuple[Literal["conv", "block", "stage"], ...]
    ) = "conv"
    """Where gradients are cut: after every conv, block or stage; a list: stage by stage."""
    first_loss: int = Field(default=1, ge=1)
    """The first unit (1-based) that carries a local loss; the units below learn from it."""
    loss: Annotated[str, NamesPart("loss")] = "predsim"
    """Local loss of every unit: prediction, similarity, both, or the one-hot loss of eq. 6."""
    loss_options: dict[str, Any] = Field(default_factory=dict)
    """Options of the loss that are no settings of `[network]`."""
    head: Annotated[str, NamesPart("head")] = "linear"
    """What turns the features of a unit into logits."""
    head_options: dict[str, Any] = Field(default_factory=dict)
    """Options of the head that are no settings of `[network]`."""
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
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Probability that a channel is dropped on its way to the next unit."""


class TrainingConfig(Section):
    schedule: Literal["simultaneous", "sequential"] = "simultaneous"
    """`simultaneous`: every unit learns on every batch; `sequential` (the paper's Algorithm 1): one
    unit after another, each for all epochs, the units below it frozen."""
    epochs: int = Field(default=400, ge=1)
    """Passes over the training images (of each unit, if `sequential`); the learning-rate schedule
    spans all of them."""
    batch_size: int = Field(default=128, ge=2)
    """Images a step; a last partial batch is dropped."""
    learning_rate: float = Field(default=3e-4, gt=0)
    """The optimizer's, before it decays."""
    optimizer: Annotated[str, NamesPart("optimizer")] = "adam"
    """How each unit goes down its gradient."""
    optimizer_options: dict[str, Any] = Field(default_factory=dict)
    """Options of the optimizer that are no settings of `[training]`."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Of convolutions and linear maps; normalisations and biases do not decay."""
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
    """Weight of the output layer's cross-entropy (the reference code's: 1 - beta)."""
    adam_eps: float = Field(default=1e-8, gt=0)
    """`adam` and `adamw`: epsilon."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """`bf16`: autocast of convolutions and linear layers; losses and statistics stay fp32."""
    feature_cache_mib: int = Field(default=1024, ge=0)
    """`sequential`: memory of the device, in MiB, for features of frozen units that would be
    computed again otherwise. Changes no result."""
    feature_cache_host_mib: int = Field(default=2048, ge=0)
    """The same in host memory, used when the device's share is full. Changes no result."""
    cuda_graph: bool = False
    """On CUDA, `simultaneous`: launch a step of all networks as one recorded graph, if the
    optimizer can be recorded. Off, because it has not run on a GPU yet. Changes no result."""
    cuda_lanes: int = Field(default=1, ge=1, le=MAX_CUDA_LANES)
    """With `cuda_graph`: how many units may learn at the same time. Takes the more memory the more
    there are. Changes no result."""

    @property
    def step_name(self) -> Literal["epoch", "stage"]:
        """What a rung comes after."""
        return "epoch" if self.schedule == "simultaneous" else "stage"

    @property
    def deciding(self) -> "TrainingConfig":
        """These settings with those at their defaults that change no result."""
        free = ("feature_cache_mib", "feature_cache_host_mib", "cuda_graph", "cuda_lanes")
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


class RuntimeConfig(Section):
    device: str = "auto"
    """`auto` (CUDA where present), `cpu`, `cuda` or `cuda:1`."""
    threads: int | None = Field(default=None, ge=1, le=MAX_THREADS)
    """CPU threads; None: one a core. Another count changes results in the last bits."""
    memory_mib: int | None = Field(default=None, ge=1)
    """Memory for training, in MiB, beside the images; None: nine tenths of what the device has
    free. A cohort that needs more is trained in parts, which changes no result but takes longer; a
    network that needs more alone is refused."""


class _SettingsConfig(Section):
    """Settings that are searched beside the hierarchy; those left out are the study's."""

    refused: ClassVar[Mapping[str, str]] = dict.fromkeys(
        (name for name in TrainingConfig.model_fields if name != "learning_rate"),
        "cannot be searched: the networks of a study train together, on the same batches for the "
        "same epochs; run a study for each value",
    )

    @field_validator(*OPTIONS, check_fields=False)
    @classmethod
    def _choices_of_options(cls, options: dict[str, Searched]) -> dict[str, Searched]:
        for name, searched in options.items():
            if searched.choices is None:
                raise ValueError(f"must have choices, but {name} has low and high")
        return options

    @field_validator("*")
    @classmethod
    def _values_that_may_be_set(cls, searched: Any, info: ValidationInfo) -> Any:
        """Each value is what a study could say itself: 1 is a width, though written 1.0."""
        if not isinstance(searched, Searched):
            return searched
        name = str(info.field_name).removesuffix("_per_stage")
        values = tuple(checked_setting(name, value) for value in searched.ends)
        if not all(isinstance(value, float | int | str) for value in values):
            raise ValueError(f"must have one word a choice, but got {list(searched.ends)}")
        if searched.choices is None and not _is_number(name):
            raise ValueError(f"must have choices, but got {searched.low:g} to {searched.high:g}")
        return searched if searched.choices is None else Searched(choices=values)

    @model_validator(mode="after")
    def _one_granularity(self) -> Self:
        if self.of("granularity") and self.of("granularity_per_stage"):
            raise ValueError("must be granularity or granularity_per_stage, but got both")
        return self

    def of(self, name: str) -> Searched | None:
        """How a setting is searched; None: it is not."""
        return getattr(self, name)

    @property
    def names(self) -> tuple[str, ...]:
        """The settings that are searched."""
        return tuple(dict.fromkeys(n.removesuffix("_per_stage") for n, _ in self.items()))

    def items(self) -> Iterator[tuple[str, Searched]]:
        """How each of them is searched; options of parts are called `head_options.ratio`."""
        for name, searched in self:
            if isinstance(searched, Searched):
                yield name, searched
            elif searched:
                yield from ((f"{name}.{option}", each) for option, each in searched.items())


def _searchable() -> Iterator[str]:
    for name in SETTINGS:
        yield name
        if name == "granularity":  # of each stage for itself
            yield "granularity_per_stage"


if TYPE_CHECKING:
    SettingsConfig = _SettingsConfig
else:
    SettingsConfig = create_model(
        "SettingsConfig",
        __base__=_SettingsConfig,
        **dict.fromkeys(_searchable(), (Searched | None, None)),
        **dict.fromkeys(OPTIONS, (dict[str, Searched], Field(default_factory=dict))),
    )


def checked_setting(name: str, value: Any) -> Value:
    """The value of a setting of `[network]` or `[training]`, as those have it.

    Raises:
        ValueError: if it is none.
    """
    section = _section_of(name)
    is_whole = section.model_fields[name].annotation is int
    if isinstance(value, float) and value.is_integer() and is_whole:
        value = int(value)
    try:
        checked = section.model_validate_json(json.dumps({name: value}), strict=True)
    except ValidationError as error:
        message = error.errors()[0]["msg"].removeprefix("Value error, ")
        message = message.replace("Input should be", "must be")
        raise ValueError(f"{message}, but got {value!r}") from None
    return getattr(checked, name)


def _section_of(name: str) -> type[TrainingConfig] | type[NetworkConfig]:
    return TrainingConfig if name in TrainingConfig.model_fields else NetworkConfig


def _is_number(name: str) -> bool:
    return _section_of(name).model_fields[name].annotation in (int, float)


class SpaceConfig(Section):
    family: Annotated[str, NamesPart("family")]
    """What the networks are made of; or an import path, as `./mine.py:Mine`."""
    num_blocks: tuple[tuple[int, int], ...] = Field(min_length=2)
    """Fewest and most blocks of each stage, shallowest first."""
    shallow_stages: int | None = Field(default=None, ge=1)
    """The first stages that count as shallow; None: the first half, rounded down."""
    constraint: Literal["accelerated", "strict", "total", "none"] = "accelerated"
    """`accelerated`: max(shallow) <= min(deep); `strict`: < (eq. 7); `total`: sum(deep) >=
    sum(shallow); `none`."""
    min_total_blocks: int | None = Field(default=None, ge=1)
    max_total_blocks: int | None = Field(default=None, ge=1)
    min_parameters: int | None = Field(default=None, ge=1)
    """Weights of the network, local heads not counted."""
    max_parameters: int | None = Field(default=None, ge=1)
    min_flops: int | None = Field(default=None, ge=1)
    """Forward FLOPs an image (2 a multiply-add), local heads not counted."""
    max_flops: int | None = Field(default=None, ge=1)
    max_shallow_scale: float | None = Field(default=None, gt=0, le=1)
    """Mean side of the feature maps of the first convolutions over the input's (eq. 8)."""
    settings: SettingsConfig = SettingsConfig()
    """What is searched beside the counts."""

    @field_validator("num_blocks")
    @classmethod
    def _bounds_in_order(cls, bounds: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
        for stage, (lowest, highest) in enumerate(bounds, 1):
            if not 1 <= lowest <= highest:
                raise ValueError(
                    f"of stage {stage} must be [lowest, highest] with 1 <= lowest <= highest"
                )
        return bounds


class BudgetConfig(Section):
    n_trials: int = Field(default=64, ge=1)
    """Distinct hierarchies trained in the study, over all its runs; harvested ones not counted."""
    strategy: Literal["exhaustive", "tpe", "gp", "nsga2", "random", "beam"] | None = None
    """Who proposes. `exhaustive`: all that are feasible, in order; `random`; `beam`: all, but only
    the best beginnings are built on (sequential schedule; `docs/pruning.md`); the others, Optuna's
    samplers, learn from cohort to cohort. None: `exhaustive` if the space fits the budget; else
    `tpe`, or `random` if cohort_size leaves it fewer than four cohorts to learn from."""
    cohort_size: int | None = Field(default=None, ge=1)
    """Hierarchies trained together; None: all if `exhaustive` or `beam`, 1 if `gp`, else
    n_trials / 4. At most n_trials / 4 for the strategies that learn."""
    beam_width: int = Field(default=4, ge=1)
    """`beam`: beginnings that are built on after each stage, and the best of each block count."""
    against: Literal["parameters", "flops", "losses", "memory", "gap"] | None = None
    """A cost that `nsga2` weighs against accuracy, for a Pareto front: of the network, or the
    measured peak memory of training it, or its gap to global back-propagation, by which each
    hierarchy is then trained, too."""
    timeout_s: float | None = Field(default=None, gt=0)
    """Start no further epoch (stage, if `sequential`) after this many seconds; the study can be
    continued."""
    baseline: bool = True
    """Train the winner by global back-propagation at the end, with the same settings."""


class PruningConfig(Section):
    kind: str = "halving"
    """`halving`: at each rung the best 1/reduction_factor of the cohort go on; `percentile`: the
    best `percentile` percent of it; `none`; or the name of an Optuna pruner, as `MedianPruner`,
    which is asked for one hierarchy after another (`docs/pruning.md`)."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Arguments of an Optuna pruner, as `n_startup_trials`; for such a kind alone."""
    by: RankedBy = "head"
    """Whose accuracy is ranked and recorded at a rung: that of the deepest trained local head, or
    of the output layer (not if `sequential`, which trains it last)."""
    reduction_factor: float = Field(default=2.0, gt=1)
    """`halving`: one of this many hierarchies goes on."""
    percentile: float | None = Field(default=None, gt=0, lt=100)
    """How many percent go on, rounded up to a whole number of hierarchies; for its kind alone."""
    grace_epochs: int | None = Field(default=None, ge=1)
    """The first rung, in epochs; None: the first epoch after the first learning-rate decay. Each
    further rung is at reduction_factor times the epochs of the one before. Not for `sequential`:
    its rungs are the ends of all stages but the last. Optuna's pruners are asked after each epoch
    from this one on; None: the first."""

    @property
    def is_optunas(self) -> bool:
        """Whether one of Optuna's pruners decides."""
        return self.kind not in PRUNING_RULES

    @field_validator("kind")
    @classmethod
    def _known_kind(cls, kind: str) -> str:
        # which pruners there are is Optuna's to say, and not known here
        if kind not in PRUNING_RULES and not kind.endswith("Pruner"):
            rules = ", ".join(PRUNING_RULES)
            raise ValueError(f"must be {rules}, or an Optuna pruner as MedianPruner")
        return kind

    @model_validator(mode="after")
    def _options_for_optuna(self) -> Self:
        if self.options and not self.is_optunas:
            raise ValueError(
                f"options must be left out unless kind is an Optuna pruner, but got {self.options}"
            )
        return self

    @model_validator(mode="after")
    def _percentile_for_its_kind(self) -> Self:
        if self.kind == "percentile" and self.percentile is None:
            raise ValueError("kind percentile needs percentile, as 75, but got none")
        if self.kind != "percentile" and self.percentile is not None:
            raise ValueError(
                f"percentile must be left out unless kind is percentile, but got {self.percentile}"
            )
        return self


class ConfirmConfig(Section):
    enabled: bool = False
    """Confirm the winner as soon as the search is finished; `dsaccel confirm` does it any time."""
    top: int = Field(default=3, ge=1)
    """Finalists: the best hierarchies of the search, by validation."""
    num_seeds: int = Field(default=5, ge=1)
    """Fresh seeds that each is trained with; an interval needs two."""
    controls: bool = True
    """Train controls too: the best with at most the reference's parameters, with at most its local
    losses, and the reference widened to the winner's parameters and FLOPs."""
    tuning_trials: int | None = Field(default=None, ge=1)
    """Settings (learning rate, dropout) tried for global back-propagation, the study's own first;
    None: as many as the search tried layer-wise."""


class StudyConfig(Section):
    """One search: a space, the data, how to train, and how much of it."""

    space: SpaceConfig
    references: tuple[str, ...] = ()
    """Hierarchies trained first, free of the constraint and never pruned, for comparison."""
    seed: int = Field(default=1, ge=0)
    """Base of all random numbers."""
    storage: str | None = Field(default=None, min_length=1)
    """Optuna storage URL; None: SQLite in the study's folder."""
    data: DataConfig = DataConfig()
    network: NetworkConfig = NetworkConfig()
    training: TrainingConfig = TrainingConfig()
    budget: BudgetConfig = BudgetConfig()
    pruning: PruningConfig = PruningConfig()
    confirm: ConfirmConfig = ConfirmConfig()
    runtime: RuntimeConfig = RuntimeConfig()

    @property
    def family(self) -> str:
        return self.space.family

    @field_validator("references")
    @classmethod
    def _canonical(cls, references: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(Hierarchy.parse(text)) for text in references)

    @model_validator(mode="after")
    def _settings_that_matter(self) -> Self:
        searched = self.space.settings
        losses, heads = self._searched_or_own("loss"), self._searched_or_own("head")
        if any(is_foreign(name) for name in (*losses, *heads)):
            return self  # they are not imported before the user's trust is asked for
        for name in searched.names:
            if name not in SETTINGS or SETTINGS[name].concerns != "heads":
                continue
            if name in ("loss", "head"):
                continue
            with_it = [loss for loss in BUILTIN["loss"] if _matters(name, loss, heads)]
            if not set(losses) & set(with_it):
                raise ValueError(
                    f"space.settings.{name} needs a loss that it says something of "
                    f"({', '.join(with_it)}), but got {', '.join(losses)}"
                )
        return self

    def _searched_or_own(self, name: Literal["loss", "head"]) -> tuple[str, ...]:
        searched = self.space.settings.of(name)
        return searched.ends if searched else (getattr(self.network, name),)


def _matters(name: str, loss: str, heads: Iterable[str]) -> bool:
    """Whether a unit of this loss, with one of these heads, has a use for a setting."""
    of_loss = load_class("loss", loss)
    if name in of_loss.model_fields:
        return True
    classes = (load_class("head", head) for head in heads)
    return any(
        name in head.model_fields and (of_loss.trains_head or name not in head.of_training)
        for head in classes
    )


class RunConfig(Section):
    """One network and how to train it: what `dsaccel export` writes and `dsaccel train` reads."""

    family: Annotated[str, NamesPart("family")]
    """What the networks are made of; or an import path, as `./mine.py:Mine`."""
    hierarchy: str
    mode: Literal["local", "global"] = "local"
    """`local`: each unit on its own loss; `global`: back-propagation through the same network."""
    seed: int = Field(default=1, ge=0)
    """Base of all random numbers."""
    data: DataConfig = DataConfig()
    network: NetworkConfig = NetworkConfig()
    training: TrainingConfig = TrainingConfig()
    runtime: RuntimeConfig = RuntimeConfig()
    result: dict[str, Any] | None = None
    """Where the network comes from and what it reached. Not read for training, but for `init`: who
    began with trained weights is not trained again without any."""
