"""A tiny study on real digits, for tests of the search: seconds, not minutes."""

import contextlib
import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from dsaccel.config.study import RunConfig, StudyConfig
from dsaccel.config.toml import parse_config
from dsaccel.search.engine import Search
from dsaccel.search.setup import open_search
from dsaccel.study.folder import StudyDir
from dsaccel.study.record import StudyRecord

TABLES: dict[str, Any] = {
    "space": {"family": "resnet18", "num_blocks": [[1, 2], [1, 2], [1, 2]], "constraint": "none"},
    "references": ["2-1-1"],
    "data": {"name": "digits", "val_fraction": 0.05, "train_images": 32},
    "network": {"width": 1 / 16, "dropout": 0.0},
    "training": {"epochs": 4, "batch_size": 16, "learning_rate": 2e-2},
    "budget": {"n_trials": 6, "cohort_size": 3},
    "runtime": {"device": "cpu", "threads": 1},
}


def tables(**sections: Any) -> dict[str, Any]:
    """The study's tables with some settings changed: `budget={"n_trials": 8}`, `seed=2`."""
    changed = dict(TABLES)
    for name, value in sections.items():
        changed[name] = {**TABLES.get(name, {}), **value} if isinstance(value, dict) else value
    return changed


def config(**sections: Any) -> StudyConfig:
    return parse_config(StudyConfig, tables(**sections), "a test")


def tiny_run(**changes: Any) -> RunConfig:
    """One network with the study's settings; `changes` replace whole sections."""
    sections = {name: TABLES[name] for name in ("data", "network", "training", "runtime")}
    tables = {"family": "resnet18", "hierarchy": "1-2-1", "seed": 3, **sections, **changes}
    return parse_config(RunConfig, tables, "a test")


def searching(name: str = "tiny", **sections: Any) -> Search:
    return open_search(config(**sections), StudyDir(name))


def searched(name: str = "tiny", **sections: Any) -> Search:
    search = searching(name, **sections)
    for _ in search.run():
        pass
    return search


def whole(**sections: Any) -> tuple[list[tuple[Any, ...]], StudyRecord]:
    """The rows and the record of a search that nothing disturbed, trained once in a process.

    Call it before anything is patched.
    """
    return _whole(json.dumps(sections, sort_keys=True))


@cache
def _whole(sections: str) -> tuple[list[tuple[Any, ...]], StudyRecord]:
    with TemporaryDirectory() as folder, contextlib.chdir(folder):
        search = searched("whole", **json.loads(sections))
        return rows(search), search.ledger.record()


def write_study(path: Path, **sections: Any) -> None:
    """A study file of the same settings."""
    import tomli_w

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(tomli_w.dumps(tables(**sections)))


def rows(search: Search) -> list[tuple[Any, ...]]:
    """What the stored study says, without what depends on the clock."""
    return [
        (
            trial.state.name,
            trial.value,
            trial.params,
            trial.intermediate_values,
            {k: v for k, v in trial.user_attrs.items() if k not in ("time_s", "alone_s")},
        )
        for trial in search.study.get_trials(deepcopy=False)
    ]


def recorded(search: Search, config: StudyConfig | None = None) -> StudyRecord:
    """What is known of a study, with other settings in the place of its own."""
    record = search.ledger.record()
    stored = (config or search.config).model_dump(mode="json")
    return replace(record, attributes={**record.attributes, "config": stored})


def heads(search: Search) -> dict[str, list[list[float | None]]]:
    """The accuracies that each finished trial has read, by hierarchy."""
    return {trial.name: trial.head_accuracies for trial in search.ledger.record().finished}
