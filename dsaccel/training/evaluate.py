"""Read the accuracy of trained weights; a reading of the test split is made once, and recorded."""

import csv
import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from dsaccel.config.study import RunConfig
from dsaccel.data.batches import EvalSplit
from dsaccel.data.load import load_test_alone
from dsaccel.errors import ConfigError
from dsaccel.files import check_writable, write_csv
from dsaccel.nn.network import plan_of
from dsaccel.nn.weights import SUFFIX, ImageFacts, load_weights, read_facts, weights_hash
from dsaccel.spec.rung import Exit
from dsaccel.spec.trie import Trie
from dsaccel.text import utc_now
from dsaccel.training.descent import evaluate
from dsaccel.training.device import resolve_runtime, start_runtime
from dsaccel.training.learner import Learner
from dsaccel.training.workbench import Bench


@dataclass(frozen=True)
class Reading:
    """One look at a split."""

    date: str
    """ISO 8601, UTC."""
    command: str
    weights: str
    """First half of the file's SHA-256, in hexadecimal."""
    images: str
    """Hash of the split's images and labels."""
    hierarchy: str
    mode: str
    seed: int
    split: Literal["val", "test"]
    num_images: int
    accuracy: float
    """The accuracy of the network's exit, 0..1."""
    head_accuracies: list[float | None]
    """By depth, an output layer's last. None: the weights do not hold this head."""
    exits: Mapping[Exit, float]
    """The accuracy of each exit, of the network's alone where heads are missing; an earlier version
    recorded none.
    """


def read_accuracy(
    path: Path,
    run: RunConfig,
    split: Literal["val", "test"],
    *,
    command: str,
    images: EvalSplit | None = None,
    download: bool = False,
) -> tuple[Reading, bool]:
    """The accuracy of weights on a split, and whether it was read now.

    A test reading is appended to `readings_path(path)`, and never made again: the recorded one is
    returned for the same weights and images. Training images are read for a validation split alone,
    and all are normalised as those that the weights were trained on. `images` are those of the
    split, if they were read before.

    Raises:
        ConfigError: if the weights do not fit their settings or the images' classes, if there is no
            such split, or if validation images may have been trained on.
    """
    weights, record = weights_hash(path), readings_path(path)
    recorded = recorded_readings(path) if split == "test" else []
    device = start_runtime(resolve_runtime(run.runtime, precision=run.training.precision))
    images = images or split_images(path, run, split, device, download=download)
    for reading in recorded:
        if (reading.weights, reading.images) == (weights, images.fingerprint):
            return reading, False
    if split == "test":
        check_writable(record)
    reading = _read(path, run, split, images, device, command)
    if split == "test":
        write_csv(record, list(map(_to_row, [*recorded, reading])))
    return reading, True


def _read(
    path: Path,
    run: RunConfig,
    split: Literal["val", "test"],
    images: EvalSplit,
    device: torch.device,
    command: str,
) -> Reading:
    """A look at a network with these weights on images."""
    plan = plan_of(run, len(read_facts(path).class_names), path)
    trie = Trie({plan.hierarchy: plan})
    training = run.training.model_copy(update={"compile": False})  # nothing is trained
    learners = {
        node: Learner(node.segment, training, seed=run.seed, device=device) for node in trie.nodes()
    }
    units = [unit for learner in learners.values() for unit in learner.units]
    absent = load_weights(path, units, run, len(plan.exit_heads))
    read = evaluate(trie, learners, images.batches())[plan.hierarchy]
    assert read.objective is not None
    return Reading(
        date=utc_now(),
        command=command,
        weights=weights_hash(path),
        images=images.fingerprint,
        hierarchy=run.hierarchy,
        mode=run.mode,
        seed=run.seed,
        split=split,
        num_images=len(images.labels),
        accuracy=read.objective,
        head_accuracies=[None if n in absent else a for n, a in enumerate(read.heads)],
        exits={plan.exit: read.objective} if absent else dict(read.exits),
    )


def split_images(
    path: Path,
    run: RunConfig,
    split: Literal["val", "test"],
    device: torch.device,
    *,
    download: bool,
) -> EvalSplit:
    """The images of a split for weights, normalised as those that they were trained on.

    Raises:
        ConfigError: as `read_accuracy`.
    """
    facts = read_facts(path)
    if split == "val":
        return _val_images(path, run, facts, download=download)
    return load_test_alone(
        run.data,
        class_names=facts.class_names,
        mean=facts.mean,
        std=facts.std,
        batch_size=run.training.batch_size,
        device=device,
        download=download,
    )


def _val_images(path: Path, run: RunConfig, facts: ImageFacts, *, download: bool) -> EvalSplit:
    """The validation images that were held out when the weights were trained."""
    data = Bench.load(run, download=download).data
    if data.fingerprint != facts.fingerprint:
        raise ConfigError(
            f"the images of {run.data.name} must be those that {path} was trained and validated "
            f"on, but are others: those held out now may have been trained on; read the test "
            f"split, or train again"
        )
    return data.val


def readings_path(path: Path) -> Path:
    """`model.readings.csv`, beside the weights."""
    return path.with_suffix(".readings.csv")


def recorded_readings(path: Path) -> list[Reading]:
    """The readings of the test split recorded beside weights, oldest first."""
    record = readings_path(path)
    if not record.is_file():
        return []
    with record.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    try:
        return [_from_row(row) for row in rows]
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{record} must be the readings that dsaccel evaluate recorded, but: {error}; move it "
            f"away, and the test split is read anew"
        ) from None


def weights_path(target: str) -> Path:
    """Weights as they are given, or those that lie beside a config: `x.toml`, `x.safetensors`."""
    path = Path(target)
    if path.suffix == SUFFIX:
        return path
    if path.suffix != ".toml":
        raise ConfigError(f"expected weights ({SUFFIX}) or a config (.toml), but got {target!r}")
    beside = path.with_suffix(SUFFIX)
    if not beside.is_file():
        raise ConfigError(
            f"{path} must have its weights beside it, but {beside} is not there; train them with: "
            f"dsaccel train {shlex.quote(str(path))} --output {shlex.quote(str(beside))}"
        )
    return beside


def _to_row(reading: Reading) -> dict[str, Any]:
    lists = {name: json.dumps(getattr(reading, name)) for name in ("head_accuracies", "exits")}
    return asdict(reading) | lists


def _from_row(row: dict[str, str]) -> Reading:
    split = row["split"]
    if split not in ("val", "test"):
        raise ValueError(f"split {split!r}")
    return Reading(
        date=row["date"],
        command=row["command"],
        weights=row["weights"],
        images=row["images"],
        hierarchy=row["hierarchy"],
        mode=row["mode"],
        seed=int(row["seed"]),
        split=split,
        num_images=int(row["num_images"]),
        accuracy=float(row["accuracy"]),
        head_accuracies=json.loads(row["head_accuracies"]),
        exits=json.loads(row.get("exits") or "{}"),
    )
