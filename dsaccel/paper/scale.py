"""How much of the paper is trained, and on which images: from minutes on a CPU to all of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from dsaccel.config.study import DataConfig, NetworkConfig, RunConfig, RuntimeConfig, TrainingConfig
from dsaccel.data.images import Images, Split
from dsaccel.data.source import DataSource, open_source, read_images
from dsaccel.errors import ConfigError
from dsaccel.paper.rows import NUM_CLASSES, Row

Protocol = Literal["ours", "paper"]


@dataclass(frozen=True)
class Scale:
    """A size of everything; hierarchies are always the paper's."""

    width: float
    """Multiplies the channels, and the decoder size with them."""
    image_size: int
    """Side of the images, in pixels."""
    train_images: int | None
    """None: all that there are."""
    epochs: int
    batch_size: int = 128
    rate: float = 1.0
    """Multiplies the paper's learning rate."""
    dropout: float = 1.0
    """Multiplies the paper's dropout."""

    def data_config(self, name: str, folder: str | None = None) -> DataConfig:
        """The settings of the images: what they are of, and where torchvision's lie."""
        return DataConfig(
            name=name, dir=folder, image_size=self.image_size, train_images=self.train_images
        )

    def run_config(self, row: Row, seed: int, data: str, runtime: RuntimeConfig) -> RunConfig:
        """The settings that a row is trained with; the recipe is that of the paper's section V."""
        network: dict[str, Any] = {"width": self.width, "dropout": self.dropout * row.dropout}
        return RunConfig(
            family=row.family,
            hierarchy=str(row.hierarchy),
            seed=seed,
            data=self.data_config(data),
            network=NetworkConfig(**network | dict(row.network)),
            training=TrainingConfig(
                epochs=self.epochs,
                batch_size=self.batch_size,
                learning_rate=self.rate * row.learning_rate,
            ),
            runtime=runtime,
        )

    @property
    def measured_epochs(self) -> tuple[int, ...]:
        """The epochs after which layers are measured: early ones, of fast change, and the last."""
        shares = (self.epochs * share // 20 for share in (1, 2, 5, 10, 20))
        return tuple(sorted({max(1, epoch) for epoch in shares}))

    def __str__(self) -> str:
        images = "all images" if self.train_images is None else f"{self.train_images:,} images"
        side = self.image_size
        size = f"width {self.width:g}, {side}x{side} pixels, {images}, {self.epochs} epochs"
        return size if self.is_papers_recipe else f"{size}, {self.recipe}"

    @property
    def is_papers_recipe(self) -> bool:
        """Whether learning rate and dropout are the paper's."""
        return self.rate == self.dropout == 1

    @property
    def recipe(self) -> str:
        """How learning rate and dropout come from the paper's."""
        if self.is_papers_recipe:
            return "the paper's learning rate and dropout"
        dropout = f"{self.dropout:g} times its dropout" if self.dropout else "no dropout"
        return f"{self.rate:g} times the paper's learning rate, {dropout}"


SCALES = {
    # `adapted` is `small` with a recipe that learns in so few steps: the paper's does not
    "tiny": Scale(width=1 / 16, image_size=16, train_images=500, epochs=2, batch_size=50),
    "small": Scale(width=1 / 8, image_size=16, train_images=10_000, epochs=20),
    "adapted": Scale(
        width=1 / 8, image_size=16, train_images=10_000, epochs=20, rate=10, dropout=0
    ),
    "paper": Scale(width=1, image_size=32, train_images=None, epochs=400),
}


def find_scale(name: str) -> Scale:
    """A scale by its name.

    Raises:
        ConfigError: if there is none of that name.
    """
    if name not in SCALES:
        raise ConfigError(f"scale must be one of {', '.join(SCALES)}, but got {name!r}")
    return SCALES[name]


class Held(DataSource):
    """The images of another source, which are read once however many seeds ask for them."""

    protocol: Protocol = "ours"

    def __init__(self, source: DataSource) -> None:
        self.name, self.default_flip = source.name, source.default_flip
        self._source = source
        self._splits: dict[Split, Images | None] = {}

    def has(self, split: Split) -> bool:
        return self._source.has(split)

    def read(self, split: Split) -> Images | None:
        if split not in self._splits:
            self._splits[split] = self._source.read(split)
        return self._splits[split]

    def notes(self) -> Sequence[str]:
        return self._source.notes()


class PaperProtocol(Held):
    """All training images are trained on, and the test split is read at every epoch.

    This is how the paper reached its accuracies. Who chooses by them has no fresh image left.
    """

    protocol = "paper"

    def __init__(self, source: DataSource) -> None:
        """
        Raises:
            ConfigError: if there is no test split.
        """
        super().__init__(source)
        if not source.has("test"):
            raise ConfigError(
                f"{source.name} must have test images for --protocol paper, but has none: add "
                "test/<class>/, or take --protocol ours"
            )

    def has(self, split: Split) -> bool:
        return split != "test" and super().has("test" if split == "val" else split)

    def read(self, split: Split) -> Images | None:
        if split == "test":
            return None
        return super().read("test" if split == "val" else split)


def open_sources(
    rows: Sequence[Row],
    scale: Scale,
    *,
    data: str | None = None,
    data_dir: str | None = None,
    protocol: Protocol = "ours",
    download: bool = False,
) -> dict[str, Held]:
    """The images of rows, by the rows' data sets.

    Args:
        rows: that are trained.
        scale: of the images.
        data: images for all rows; None: the data set of each.
        data_dir: where torchvision's data sets lie.
        protocol: which images are read.
        download: whether a torchvision data set may be fetched.

    Raises:
        ConfigError: if the images cannot be read, or have not as many classes as a row's.
    """
    kinds = {"ours": Held, "paper": PaperProtocol}
    sources: dict[str, Held] = {}
    for dataset in dict.fromkeys(row.dataset for row in rows):
        config = scale.data_config(data or dataset, data_dir)
        source = kinds[protocol](open_source(config, download=download))
        images = read_images(source, "train", config)
        num_classes = 0 if images is None else len(images.class_names)
        if num_classes != NUM_CLASSES[dataset]:
            raise ConfigError(
                f"data must have {NUM_CLASSES[dataset]} classes for the rows on {dataset}, but "
                f"{config.name} has {num_classes}"
            )
        sources[dataset] = source
    return sources
