"""A study of one's own images: settings that fit them, as a commented study file."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dsaccel.config.study import DataConfig, StudyConfig
from dsaccel.config.toml import parse_config, set_value
from dsaccel.data.load import look_at_test
from dsaccel.data.source import open_source, read_images
from dsaccel.errors import ConfigError
from dsaccel.families import find_family
from dsaccel.files import write_text
from dsaccel.imports import trust
from dsaccel.planner import Planner
from dsaccel.search.forecast import Forecast
from dsaccel.search.setup import resolve
from dsaccel.study.folder import STUDIES, StudyDir, find_space, has_space
from dsaccel.study.record import StudyRecord
from dsaccel.text import about, counted, printable
from dsaccel.training.device import device_words
from dsaccel.training.workbench import Bench, Workbench

MOST_EPOCHS, FEWEST_EPOCHS = 400, 8
"""The paper's; and what a network learns little in."""
WIDTHS = (1.0, 0.5, 0.25, 0.125)
BATCH_SIZES = {5000: 128, 1000: 64, 300: 32, 60: 16, 0: 8}
"""The least number of training images -> the batch size."""
MOST_TRIALS = 32
DEFAULT_BUDGET_S = 3600.0
_TOGETHER: dict[str, Any] = {"strategy": "random", "cohort_size": 16}
"""Few hierarchies share more in one trie than a strategy would learn from them."""
MARGIN = 0.8
"""The share of the budget that is planned for: three timed steps tell the rest roughly."""


@dataclass(frozen=True)
class Wish:
    """What is known of a study that does not exist yet."""

    data: str
    """A folder, or what else `data.name` may be."""
    family: str = "resnet18"
    space: str | None = None
    """A search space by name or file; None: one that fits the images."""
    budget_s: float = DEFAULT_BUDGET_S
    memory_mib: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The study's settings, by key, that are fixed."""
    download: bool = False


@dataclass(frozen=True)
class NewStudy:
    """Settings that fit some images, and what they take."""

    name: str
    config: StudyConfig
    tables: dict[str, Any]
    bench: Bench[StudyConfig]
    forecast: Forecast
    wish: Wish

    @property
    def path(self) -> Path:
        return STUDIES / f"{self.name}.toml"

    @property
    def remark(self) -> str | None:
        """A warning where the budget leaves few epochs."""
        epochs = self.config.training.epochs
        if "training.epochs" in self.wish.settings or epochs >= FEWEST_EPOCHS:
            return None
        enough = FEWEST_EPOCHS * self.forecast.total_s / epochs / MARGIN
        left = f"{about(self.wish.budget_s)} leaves {counted(epochs, 'epoch')}"
        return (
            f"the budget of {left}, in which a network learns little: {FEWEST_EPOCHS} need about "
            f"{about(enough)}"
        )

    def write(self, *, force: bool = False) -> Path:
        """Write the study file.

        Raises:
            ConfigError: if there is one and not `force`.
            StorageError: if it cannot be written.
        """
        check_new(self.name, force=force)
        self.path.parent.mkdir(exist_ok=True)
        write_text(self.path, "\n".join(self._lines()) + "\n")
        return self.path

    def _lines(self) -> Iterator[str]:
        """The settings in the order of a study file, each group with its reason."""
        data, training = self.bench.data, self.config.training
        sizes = f"{data.side} x {data.side} pixels"
        yield f"# {printable(self.config.data.name)}: {data.num_train} images of {sizes} to train"
        yield f"# on, {data.num_val} to validate on, {data.num_classes} classes."
        yield "# Written by dsaccel new: change what you like, then run: " + self.command
        yield f"# {self.forecast.sentence()}"
        yield f"# on {printable(device_words(self.bench.device, self.config.runtime.threads))}."
        why = {
            "space": "blocks of each stage, from fewest to most; accelerated: no stage of the\n"
            "# first half has more blocks than one of the second",
            "data": "where the images are; more settings: docs/data.md",
            "network": "width 1 is the family's own; narrower networks learn faster",
            "training": f"{data.num_train // training.batch_size} steps an epoch; epochs for a "
            f"budget of {about(self.wish.budget_s)}",
            "budget": "hierarchies to train; those with a common beginning share it",
            "runtime": "what training may take",
        }
        top = {k: v for k, v in self.tables.items() if not isinstance(v, dict)}
        yield ""
        yield "# trained first, for comparison: the family's standard"
        yield from (f"{key} = {_toml(value)}" for key, value in top.items())
        for section, table in self.tables.items():
            if isinstance(table, dict) and table:
                yield f"\n# {why[section]}\n[{section}]"
                yield from (f"{key} = {_toml(value)}" for key, value in table.items())

    @property
    def command(self) -> str:
        return f"dsaccel search {self.name}"


def design(name: str, wish: Wish) -> NewStudy:
    """Read the images and find settings that fit them, the memory and the time.

    Raises:
        ConfigError: images that cannot be read, or nothing that fits.
        NoMemoryError: as training.
    """
    StudyDir(name)  # refuses what is no name
    trust([wish.data, wish.family], Path())
    source = open_source(DataConfig(name=wish.data), download=wish.download)
    images = read_images(source, "train", DataConfig(name=wish.data))
    if images is None:
        raise ConfigError(f"{source.name} must have images to train on, but has none")
    num, side, *_ = images.images.shape
    del images
    tables = _tables(wish, side, num)
    _fix(tables, wish.settings)
    bench = Bench.load(_parsed(name, tables), download=wish.download, source=source)
    look_at_test(bench.data)
    return _in_time(name, wish, tables, bench)


def check_new(name: str, *, force: bool) -> None:
    """Refuse to write over a study file, before the images are read.

    Raises:
        ConfigError: if there is one.
    """
    path = STUDIES / f"{StudyDir(name).name}.toml"
    if path.exists() and not force:
        raise ConfigError(f"{path} exists already; choose another name, or --force")


def references_for(space: dict[str, Any], given: Any) -> list[str]:
    """The references of a study that fit a space; without one, the family's standard."""
    stages = len(space["num_blocks"])
    fitting = [text for text in given or () if text.split(" ")[0].count("-") + 1 == stages]
    return fitting or [str(find_family(space["family"]).standard.beginning(stages))]


def _tables(wish: Wish, side: int, num: int) -> dict[str, Any]:
    """A study file for images of this side and number, without a time."""
    space = find_space(wish.space) if wish.space else _space(wish.family, side)
    if wish.memory_mib:
        space["max_training_mib"] = wish.memory_mib
    few = num < 5000
    family = find_family(space["family"])
    stem = {"stem": "imagenet"} if side >= 96 and "stem" in family.model_fields else {}
    runtime = {"memory_mib": wish.memory_mib}
    return {
        "references": references_for(space, ()),
        "seed": 1,
        "space": space,
        "data": {"name": wish.data, "val_fraction": 0.2 if few else 0.1},
        "network": {"width": 1.0, "dropout": 0.1} | stem,
        "training": {
            "epochs": MOST_EPOCHS,
            "batch_size": next(size for least, size in BATCH_SIZES.items() if num >= least),
            "learning_rate": 1e-3 if few else 3e-4,
        },
        "budget": {"n_trials": MOST_TRIALS},
        # a second core would only wait for small images
        "runtime": _known(runtime | {"threads": 1 if side <= 16 else None}),
    }


def _space(name: str, side: int) -> dict[str, Any]:
    """The shipped space of a family, or one like it, of as many stages as the images allow."""
    family = find_family(name)
    standard = family.standard.blocks
    most = max((s for s in range(1, len(standard) + 1) if side >> s), default=1)
    stages = max(family.min_stages, most)
    like = {"family": name, "num_blocks": [[1, max(4, blocks)] for blocks in standard]}
    space = find_space(name) if has_space(name) else like | {"constraint": "accelerated"}
    return space | {"num_blocks": [list(bounds) for bounds in space["num_blocks"][:stages]]}


def _known(table: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in table.items() if value is not None}


def _in_time(name: str, wish: Wish, tables: dict[str, Any], bench: Bench[StudyConfig]) -> NewStudy:
    """Epochs, and where too few are left a width and hierarchies, so that the budget suffices."""
    fixed = wish.settings
    widths = (fixed["network.width"],) if "network.width" in fixed else WIDTHS
    found, epochs = None, 1
    paces: dict[float, float] = {}
    nums = () if "budget.n_trials" in fixed else (16, 8, 4)
    for width, num in [*((w, MOST_TRIALS) for w in widths), *((widths[-1], n) for n in nums)]:
        together = _TOGETHER if num <= _TOGETHER["cohort_size"] else {}
        tables["network"]["width"] = width
        tables["budget"] = {"n_trials": num} | together
        _fix(tables, fixed)
        try:
            found = _forecast(name, tables, bench, paces.get(width))
            paces[width] = found.pace
        except ConfigError:  # no network fits into the memory
            if width == widths[-1]:
                raise
            continue
        asked = tables["training"]["epochs"]
        epochs = int(MARGIN * wish.budget_s / max(found.total_s, 1e-9) * asked)
        if "training.epochs" in fixed:
            break
        if epochs >= FEWEST_EPOCHS:
            tables["training"]["epochs"] = min(MOST_EPOCHS, epochs)
            break
    else:
        tables["training"]["epochs"] = max(1, epochs)
    assert found is not None
    planned = _forecast(name, tables, bench, found.pace)
    return NewStudy(name, _parsed(name, tables), tables, bench, planned, wish)


def _fix(tables: dict[str, Any], settings: Mapping[str, Any]) -> None:
    for key, value in settings.items():
        set_value(tables, key, value)


def _forecast(
    name: str, tables: dict[str, Any], bench: Bench[StudyConfig], pace: float | None = None
) -> Forecast:
    config = _parsed(name, tables)
    own = {"data": bench.config.data, "runtime": bench.config.runtime}
    config = config.model_copy(update=own)
    planner = Planner.of(config, bench.data.num_classes)
    planned = Workbench.of(Bench(config, bench.data, bench.device, planner))
    resolved = resolve(planned.config, planned.space, is_new=True)
    return Forecast.of(planned.with_config(resolved), StudyRecord(name, (), {}), pace)


def _parsed(name: str, tables: dict[str, Any]) -> StudyConfig:
    return parse_config(StudyConfig, tables, name)


def _toml(value: Any) -> str:
    """A text, a number, or a list of them, in a line: TOML writes these as JSON does."""
    return json.dumps(value, ensure_ascii=False)
