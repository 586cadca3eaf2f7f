"""A landscape: an exhaustive study as a table, a row for each hierarchy, seed, epoch and head.

Nothing is estimated or left out: every feasible hierarchy was trained to its end, so a search can
be replayed on the table (`replay.py`). What is read back equals what was written, to the bit.
"""

import csv
import gzip
import importlib
import io
import json
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TextIO

from optuna import Study
from optuna.trial import FrozenTrial, TrialState

from dsaccel.config import (
    BudgetConfig,
    ConfirmConfig,
    PruningConfig,
    StudyConfig,
    differences,
    parse_config,
)
from dsaccel.errors import ConfigError, MismatchError, NoResultError
from dsaccel.hierarchy import Hierarchy, format_hierarchy, parse_hierarchy
from dsaccel.networks.families import build_plan
from dsaccel.networks.plan import Plan
from dsaccel.search.space import Measures, SearchSpace

FORMAT = 1
MARK = "# dsaccel landscape "
"""Opens the first line of a CSV file; the metadata follow as JSON."""
KEY = b"dsaccel_landscape"
"""Of the metadata in a Parquet file."""

COLUMNS: dict[str, Callable[[str], Any]] = {
    "hierarchy": str,
    "seed": int,
    "step": int,  # in the file: `epoch`, or `stage` under the sequential schedule
    "head": int,
    "is_output": lambda text: text == "true",
    "accuracy": float,
    "num_parameters": int,
    "flops": int,
    "shallow_scale": float,
    "is_feasible": lambda text: text == "true",
}
"""The columns in their order, and how each is read from text; explained in docs/landscape.md."""


@dataclass(frozen=True)
class Network:
    """What a hierarchy costs, and whether it may be called the best."""

    num_parameters: int
    flops: int
    shallow_scale: float
    is_feasible: bool


@dataclass(frozen=True)
class Landscape:
    config: StudyConfig
    """The study's, without what says where it was kept; of several studies the first one's."""
    num_classes: int
    num_val: int | None
    """Validation images behind each accuracy."""
    networks: dict[str, Network]
    """Every feasible hierarchy, and the references."""
    accuracies: dict[int, dict[str, dict[int, tuple[float, ...]]]]
    """Seed -> hierarchy -> step -> validation accuracy (0..1) of each trained head in order of
    depth, the output layer's last."""

    @property
    def num_steps(self) -> int:
        """The last step, at which the output layer's accuracy is the objective."""
        if self.config.training.schedule == "sequential":
            return len(self.config.space.num_blocks)
        return self.config.training.epochs

    @cached_property
    def space(self) -> SearchSpace:
        references = [parse_hierarchy(text) for text in self.config.references]
        return SearchSpace(self.config.space, self._measure, references)

    def plan(self, hierarchy: Hierarchy) -> Plan:
        """The network that was trained."""
        return _plan(self.config, hierarchy, self.num_classes)

    def has_output(self, step: int) -> bool:
        """Whether the last accuracy of a step is the output layer's."""
        return self.config.training.schedule == "simultaneous" or step == self.num_steps

    def objective(self, seed: int, hierarchy: str) -> float:
        """The output layer's accuracy after the last step."""
        return self.accuracies[seed][hierarchy][self.num_steps][-1]

    def optimum(self, seed: int) -> float:
        """The highest objective of a feasible hierarchy."""
        feasible = [name for name, network in self.networks.items() if network.is_feasible]
        return max(self.objective(seed, name) for name in feasible)

    def _measure(self, hierarchy: Hierarchy) -> Measures:
        return Measures.of(self.plan(hierarchy))


# ------------------------------------------------------------------ from studies


def record_landscape(
    studies: Sequence[tuple[StudyConfig, Study]], *, is_sample: bool = False
) -> Landscape:
    """The landscape of exhaustive studies that differ in their seed alone.

    Args:
        studies: settings and trials.
        is_sample: the references, which were drawn from the space, stand for all of it.

    Raises:
        NoResultError: if a feasible hierarchy has not been trained to its end.
        MismatchError: if the studies differ in more than their seed, or not in their seed.
        ConfigError: if the space is too large to list, or settings are searched too.
    """
    config, first = studies[0]
    _check_comparable(studies)
    if config.space.settings.names:
        raise ConfigError(
            "a landscape is of hierarchies alone, but study "
            f"{first.study_name} also searches {', '.join(config.space.settings.names)}; "
            "search a space without settings"
        )
    num_classes = _num_classes(config, _complete(first))
    landscape = Landscape(
        _portable(config),
        num_classes,
        first.user_attrs.get("num_val"),
        networks={},
        accuracies={},
    )
    for other, study in studies:
        trials = _complete(study)
        _check_exhaustive(landscape.space, trials, other, study.study_name, is_sample)
        if is_sample:
            # harvested ones were not drawn: they have fewer blocks in the last stage
            trials = {name: trials[name] for name in config.references}
        heads: dict[str, dict[int, tuple[float, ...]]] = {}
        for name, trial in trials.items():
            attributes = trial.user_attrs
            landscape.networks[name] = Network(
                attributes["num_parameters"],
                attributes["flops"],
                attributes["shallow_scale"],
                landscape.space.violation(parse_hierarchy(name)) is None,
            )
            steps = sorted(trial.intermediate_values)
            rows = map(tuple, attributes["head_accuracies"])
            heads[name] = dict(zip(steps, rows, strict=True))
        landscape.accuracies[other.seed] = heads
    return landscape


def _complete(study: Study) -> dict[str, FrozenTrial]:
    """The trials that were trained to their end, by hierarchy, in lexicographic order."""
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    by_name = {trial.user_attrs["hierarchy"]: trial for trial in trials}
    return {name: by_name[name] for name in sorted(by_name, key=parse_hierarchy)}


def _check_comparable(studies: Sequence[tuple[StudyConfig, Study]]) -> None:
    config, first = studies[0]
    seeds: dict[int, str] = {}
    for other, study in studies:
        if other.seed in seeds:
            raise MismatchError(
                "each study of a landscape must have a seed of its own, but "
                f"{seeds[other.seed]} and {study.study_name} both have {other.seed}"
            )
        seeds[other.seed] = study.study_name
        lines = differences(_deciding(config), _deciding(other))
        if lines:
            raise MismatchError(
                f"the studies of a landscape must differ in their seed alone, but "
                f"{first.study_name} ('in the study') and {study.study_name} ('asked for') "
                "differ:\n  " + "\n  ".join(lines)
            )


def _check_exhaustive(
    space: SearchSpace,
    trials: Mapping[str, FrozenTrial],
    config: StudyConfig,
    study: str,
    is_sample: bool,
) -> None:
    feasible = [] if is_sample else space.feasible()
    if feasible is None:
        raise ConfigError(
            "a landscape needs a space that can be trained exhaustively, but that of study "
            f"{study} is too large to list; narrow space.num_blocks"
        )
    names = [format_hierarchy(h) for h in dict.fromkeys([*feasible, *space.references])]
    missing = [name for name in names if name not in trials]
    if not missing:
        return
    shown = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
    command = f"dsaccel search {study} --n-trials {len(names)}"
    if config.pruning.kind != "none":
        # pruning cannot be changed within a study
        command += f" --set pruning.kind=none --study-name {study}-landscape"
    raise NoResultError(
        f"a landscape needs all {len(names)} hierarchies of study {study} trained to their end, "
        f"but {len(missing)} are missing ({shown}); train them, without pruning, with: {command}"
    )


def _num_classes(config: StudyConfig, trials: Mapping[str, FrozenTrial]) -> int:
    """Not recorded in a study, but told by the size of the output layer.

    Raises:
        NoResultError: if nothing is complete.
        ConfigError: if the trials' parameters are not those of these settings.
    """
    if not trials:
        raise NoResultError("a landscape needs a study with hierarchies trained to their end")
    name, trial = next(iter(trials.items()))
    hierarchy, recorded = parse_hierarchy(name), trial.user_attrs["num_parameters"]
    two, three = (_plan(config, hierarchy, num).num_parameters for num in (2, 3))
    num_classes = 2 + (recorded - two) // (three - two)
    if num_classes < 2 or _plan(config, hierarchy, num_classes).num_parameters != recorded:
        raise ConfigError(
            f"{name} must have the parameters that the study's settings give, but {recorded} are "
            "recorded; was the study written by another version?"
        )
    return num_classes


def _plan(config: StudyConfig, hierarchy: Hierarchy, num_classes: int) -> Plan:
    channels, side = config.data.channels, config.data.image_size
    assert channels is not None, "a study that was run has its choices resolved"
    assert side is not None
    return build_plan(
        config.space.family,
        hierarchy,
        config.network,
        channels=channels,
        side=side,
        num_classes=num_classes,
        output_weight=config.training.output_weight,
    )


def _portable(config: StudyConfig) -> StudyConfig:
    """Without paths, and without a storage URL, which may hold a password."""
    data = config.data.model_copy(update={"dir": None, "name": Path(config.data.name).name})
    return config.model_copy(update={"data": data, "storage": None})


def _deciding(config: StudyConfig) -> StudyConfig:
    """Without the seed, and without what says only how the study was searched."""
    update = {
        "seed": 1,
        "budget": BudgetConfig(),
        "pruning": PruningConfig(),
        "confirm": ConfirmConfig(),
    }
    return _portable(config).model_copy(update=update)


# ------------------------------------------------------------------ files


def write_landscape(landscape: Landscape, path: Path) -> None:
    """Write a table as `.csv`, `.csv.gz` or `.parquet`, whole or not at all."""
    write = {"csv": _write_csv, "csv.gz": _write_csv_gz, "parquet": _write_parquet}[_kind(path)]
    temporary = path.with_name(path.name + ".part")
    write(landscape, temporary)
    temporary.replace(path)


def read_landscape(path: Path) -> Landscape:
    """Read a table that `write_landscape` wrote.

    Raises:
        ConfigError: if it is not there, or is no landscape.
    """
    read = {"csv": _read_csv, "csv.gz": _read_csv_gz, "parquet": _read_parquet}[_kind(path)]
    try:
        metadata, columns = read(path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError, EOFError, zlib.error) as error:
        raise ConfigError(
            f"{path} must be a table written by dsaccel landscape, but: {error}"
        ) from None
    config = parse_config(StudyConfig, metadata["config"], str(path))
    landscape = Landscape(
        config, metadata["num_classes"], metadata["num_val"], networks={}, accuracies={}
    )
    for name, seed, step, _, _, accuracy, *network in zip(*columns.values(), strict=True):
        landscape.networks[name] = Network(*network)
        heads = landscape.accuracies.setdefault(seed, {}).setdefault(name, {})
        # rows are in order of depth
        heads[step] = (*heads.get(step, ()), accuracy)
    return landscape


def check_output(path: Path) -> None:
    """Refuse what cannot be written, before the work is done.

    Raises:
        ConfigError: an unknown suffix, no pyarrow for Parquet, or no such folder.
    """
    if _kind(path) == "parquet":
        _pyarrow("pyarrow")
    if not path.parent.is_dir():
        raise ConfigError(f"folder {path.parent} must exist to write {path.name} into it")


def _kind(path: Path) -> str:
    for kind in ("csv", "csv.gz", "parquet"):
        if path.name.endswith(f".{kind}"):
            return kind
    raise ConfigError(f"a landscape must be a .csv, .csv.gz or .parquet file, but got {path}")


def _metadata(landscape: Landscape) -> str:
    return json.dumps(
        {
            "format": FORMAT,
            "num_classes": landscape.num_classes,
            "num_val": landscape.num_val,
            "config": landscape.config.model_dump(mode="json", exclude_none=True),
        }
    )


def _parse_metadata(text: str) -> dict[str, Any]:
    metadata = json.loads(text)
    if metadata["format"] != FORMAT:
        raise ValueError(f"its format is {metadata['format']}, and this version reads {FORMAT}")
    return metadata


def _names(landscape: Landscape) -> list[str]:
    """The names of the columns in a file."""
    return [landscape.config.training.step_name if c == "step" else c for c in COLUMNS]


def _rows(landscape: Landscape) -> Iterable[tuple[Any, ...]]:
    for seed, hierarchies in landscape.accuracies.items():
        for name, steps in hierarchies.items():
            network = landscape.networks[name]
            measures = (network.num_parameters, network.flops, network.shallow_scale)
            for step, heads in steps.items():
                for head, accuracy in enumerate(heads, 1):
                    is_output = head == len(heads) and landscape.has_output(step)
                    figures = (seed, step, head, is_output, accuracy)
                    yield (name, *figures, *measures, network.is_feasible)


def _write_csv(landscape: Landscape, path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        _write_text(landscape, file)


def _write_csv_gz(landscape: Landscape, path: Path) -> None:
    # without name and time of writing: the same table is the same file
    with (
        path.open("wb") as raw,
        gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed,
        io.TextIOWrapper(packed, encoding="utf-8", newline="") as file,
    ):
        _write_text(landscape, file)


def _write_text(landscape: Landscape, file: TextIO) -> None:
    file.write(f"{MARK}{_metadata(landscape)}\n")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(_names(landscape))
    for row in _rows(landscape):
        writer.writerow([str(cell).lower() if isinstance(cell, bool) else cell for cell in row])


def _read_csv(path: Path) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    with path.open(encoding="utf-8", newline="") as file:
        return _read_text(file)


def _read_csv_gz(path: Path) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        return _read_text(file)


def _read_text(file: Iterable[str]) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    lines = iter(file)
    first = next(lines, "")
    if not first.startswith(MARK):
        raise ValueError(f"its first line does not open with {MARK.strip()!r}")
    metadata = _parse_metadata(first.removeprefix(MARK))
    reader = csv.reader(lines)
    next(reader, None)
    rows = zip(*reader, strict=True)
    return metadata, {
        name: [parse(text) for text in texts]
        for (name, parse), texts in zip(COLUMNS.items(), rows, strict=True)
    }


def _write_parquet(landscape: Landscape, path: Path) -> None:
    arrow, parquet = _pyarrow("pyarrow"), _pyarrow("pyarrow.parquet")
    columns = dict(zip(_names(landscape), zip(*_rows(landscape), strict=True), strict=True))
    table = arrow.table({name: list(values) for name, values in columns.items()})
    parquet.write_table(table.replace_schema_metadata({KEY: _metadata(landscape)}), path)


def _read_parquet(path: Path) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    table = _pyarrow("pyarrow.parquet").read_table(path)
    metadata = _parse_metadata((table.schema.metadata or {})[KEY])
    return metadata, dict(zip(COLUMNS, table.to_pydict().values(), strict=True))


def _pyarrow(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ConfigError(
            "a Parquet file needs pyarrow: pip install 'dsaccel[parquet]'; or write .csv.gz"
        ) from None
