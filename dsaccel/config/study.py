"""Every setting of a study: one frozen model a section, each part of the program gets its own.

A study file is TOML in the shape of `StudyConfig`, a search space in that of `SpaceConfig`, an
exported network in that of `RunConfig`. A setting of `None` stands for "chosen for you": the
resolved value is written beside the study. `parsing` makes them of files and options.
"""

from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from dsaccel.config.recipe import NetworkConfig, TrainingConfig
from dsaccel.config.runtime import RuntimeConfig
from dsaccel.config.section import Section
from dsaccel.config.space import SpaceConfig
from dsaccel.imports import is_foreign
from dsaccel.parts import BUILTIN, NamesPart, load_class
from dsaccel.spec.costs import Cost, find_costs
from dsaccel.spec.hierarchy import SETTINGS, Hierarchy
from dsaccel.spec.rung import Exit, RankedBy


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


class BudgetConfig(Section):
    n_trials: int = Field(default=64, ge=1)
    """Distinct hierarchies trained in the study, over all its runs; harvested ones not counted."""
    strategy: Annotated[str | None, NamesPart("strategy")] = None
    """Who proposes. `exhaustive`: all that are feasible, in order; `random`; `beam`: all, but only
    the best beginnings are built on (sequential schedule; `docs/pruning.md`); the others, Optuna's
    samplers, learn from cohort to cohort. None: `exhaustive` if the space fits the budget; else
    `tpe`, or `random` if cohort_size leaves it fewer than four cohorts to learn from."""
    strategy_options: dict[str, Any] = Field(default_factory=dict)
    """Options of the strategy that are no settings of `[budget]`."""
    cohort_size: int | None = Field(default=None, ge=1)
    """Hierarchies trained together; None: all if `exhaustive` or `beam`, 1 if `gp`, else
    n_trials / 4. At most n_trials / 4 for the strategies that learn."""
    beam_width: int = Field(default=4, ge=1)
    """`beam`: beginnings that are built on after each stage, and the best of each block count."""
    against: tuple[str, ...] | None = None
    """Costs that `nsga2` weighs against accuracy, for a Pareto front, one or several: `parameters`,
    `flops`, `losses` and `shallow_scale` (what the paper's eq. 8 minimises) of the network, the
    measured peak `memory` of training it, the measured `time` of a training step, or its `gap` to
    global back-propagation, by which each hierarchy is then trained, too."""
    timeout_s: float | None = Field(default=None, gt=0)
    """Start no further epoch (stage, if `sequential`) after this many seconds; the study can be
    continued."""
    baseline: bool = True
    """Train the winner by global back-propagation at the end, with the same settings."""

    @property
    def costs(self) -> tuple[Cost, ...]:
        """What is weighed against accuracy."""
        return find_costs(self.against or ())

    @field_validator("against", mode="before")
    @classmethod
    def _costs_that_there_are(cls, against: Any) -> Any:
        names = against.split(",") if isinstance(against, str) else against
        if not isinstance(names, list | tuple):
            return names
        find_costs(map(str, names))
        return tuple(names) or None


class PruningConfig(Section):
    kind: Annotated[str, NamesPart("pruner", or_else="a pruner of Optuna")] = "halving"
    """`halving`: at each rung the best 1/reduction_factor of the cohort go on; `percentile`: the
    best `percentile` percent of it; `none`; or the name of an Optuna pruner, as `MedianPruner`,
    which is asked for one hierarchy after another (`docs/pruning.md`)."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Arguments of an Optuna pruner, as `n_startup_trials`, or options of a pruner of your own."""
    by: RankedBy | None = None
    """Whose accuracy is ranked and recorded at a rung: that of the deepest trained head, of the
    output layer (not if `sequential`, which trains it last), or of the ensemble so far; None: of
    the ensemble if network.output is one, else of the head."""
    reduction_factor: float = Field(default=2.0, gt=1)
    """`halving`: one of this many hierarchies goes on."""
    percentile: float | None = Field(default=None, gt=0, lt=100)
    """How many percent go on, rounded up to a whole number of hierarchies; for its kind alone."""
    grace_epochs: int | None = Field(default=None, ge=1)
    """The first rung, in epochs; None: the first epoch after the first learning-rate decay. Each
    further rung is at reduction_factor times the epochs of the one before. Not for `sequential`:
    its rungs are the ends of all stages but the last. Optuna's pruners are asked after each epoch
    from this one on; None: the first."""

    def ranked_by(self, exit: Exit) -> RankedBy:
        """Whose accuracy is ranked where networks are read at an exit."""
        return self.by or ("ensemble" if exit == "ensemble" else "head")

    @property
    def is_optunas(self) -> bool:
        """Whether one of Optuna's pruners decides."""
        return self.kind not in BUILTIN["pruner"] and not is_foreign(self.kind)

    @field_validator("kind")
    @classmethod
    def _known_kind(cls, kind: str) -> str:
        # which pruners there are is Optuna's to say, and not known here
        if kind not in BUILTIN["pruner"] and not is_foreign(kind) and not kind.endswith("Pruner"):
            rules = ", ".join(BUILTIN["pruner"])
            raise ValueError(
                f"must be {rules}, an Optuna pruner as MedianPruner, or an import path as "
                "./mine.py:Mine"
            )
        return kind

    @model_validator(mode="after")
    def _options_for_optuna(self) -> Self:
        if self.options and self.kind in BUILTIN["pruner"]:
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
    losses, and the reference widened to the winner's parameters and FLOPs; where the exit is the
    ensemble, the winner without cuts."""
    margin: float | None = Field(default=None, gt=0, lt=100)
    """Points by which the best finalist may trail global back-propagation on the same network and
    still be called not inferior. Seeds that are trained before it is set are a pilot, which tells
    how many more are needed; None: that is not asked."""
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
    """Optuna storage URL, without a password; None: SQLite in the study's folder."""
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

    @property
    def ranked_by(self) -> RankedBy:
        """Whose accuracy is ranked and recorded at a rung."""
        return self.pruning.ranked_by(self.network.output)

    @field_validator("references")
    @classmethod
    def _canonical(cls, references: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(Hierarchy.parse(text)) for text in references)

    @model_validator(mode="after")
    def _exits_that_there_are(self) -> Self:
        network, words = self.network, self.network.granularity
        if self.pruning.by == "output" and network.output != "layer":
            raise ValueError(
                "pruning.by must be head or ensemble where networks have no output layer, as with "
                f"network.output = {network.output}, but got output"
            )
        words = (words,) if isinstance(words, str) else words
        is_searched = "granularity" in self.space.settings.names
        if network.output != "layer" and not is_searched and words[-1] == "none":
            only = set(words) == {"none"}
            if network.output == "head" or only:
                raise ValueError(
                    "network.output must be layer where the output layer trains the last unit, as "
                    f"with granularity = {','.join(words)}, but got {network.output}"
                )
        return self

    @model_validator(mode="after")
    def _cuts_for_the_schedule(self) -> Self:
        _check_cuts(self.network, self.training, is_searched="cuts" in self.space.settings.names)
        return self

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


def _check_cuts(network: NetworkConfig, training: TrainingConfig, *, is_searched: bool) -> None:
    """Refuse units that learn one after another and from each other."""
    if training.schedule == "sequential" and (is_searched or not network.cuts):
        raise ValueError(
            "training.schedule must be simultaneous where gradients are not cut (network.cuts = "
            "false), but got sequential"
        )


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

    @model_validator(mode="after")
    def _cuts_for_the_schedule(self) -> Self:
        _check_cuts(self.network, self.training, is_searched=False)
        return self
