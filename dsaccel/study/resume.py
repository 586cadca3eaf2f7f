"""What a study was begun with, which is what it goes on with."""

import hashlib
import logging
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import optuna
import torch

from dsaccel.config.study import ConfirmConfig, RuntimeConfig, StudyConfig
from dsaccel.config.toml import differences, write_toml
from dsaccel.data.batches import Data
from dsaccel.errors import MismatchError, StorageError
from dsaccel.parts import PartRef, foreign_parts, refuse_changed
from dsaccel.study.folder import StudyDir
from dsaccel.study.note import write_note
from dsaccel.study.record import StudyRecord
from dsaccel.study.storage import beginning, stored_attributes
from dsaccel.study.urls import redact
from dsaccel.study.writing import write_beginning
from dsaccel.training.arithmetic import arithmetic, changes
from dsaccel.training.checkpoint import remove_checkpoint

log = logging.getLogger("dsaccel")


class Recorded(NamedTuple):
    """What a study was begun with."""

    config: StudyConfig
    fingerprint: str | None
    """Hash of the images; None: unknown."""
    parts: tuple[PartRef, ...] = ()
    """The parts that are not shipped."""
    arithmetic: Mapping[str, str] = MappingProxyType({})
    """What decided the last bits beside."""


def recorded_study(directory: StudyDir, asked: StudyConfig) -> Recorded | None:
    """What the storage says of a study, or else its folder; None: there is no such study.

    Raises:
        StorageError: if the storage cannot be reached, or has lost the study.
        MismatchError: if the study is in another storage than the one that is asked for.
    """
    local = directory.read_config() if directory.exists else None
    if asked.storage is None and local is not None:
        asked = asked.model_copy(update={"storage": local.storage})
    attributes = stored_attributes(directory, asked) or {}
    if "config" in attributes:
        record = StudyRecord(directory.name, (), attributes)
        return Recorded(record.config, record.fingerprint, record.parts, record.arithmetic)
    if local is None:
        return None
    if asked.storage != local.storage:
        old, new = (redact(directory.storage_url(config)) for config in (local, asked))
        raise MismatchError(
            f"storage: {old} in the study, {new} asked for, which holds no study "
            f"{directory.name}; use --study-name for a new study, or the old storage"
        )
    if local.storage is None and directory.database.exists():
        raise StorageError(
            f"{directory.database} must hold the study that {directory.config} describes, but does "
            f"not: put a copy of it in its place, or remove {directory.path} to begin anew"
        )
    return Recorded(local, None)


def as_recorded(config: StudyConfig, recorded: StudyConfig) -> StudyConfig:
    """What is left to be chosen, chosen as when the study began."""
    data = {
        key: getattr(recorded.data, key)
        for key in ("image_size", "channels", "crop_padding", "flip")
        if getattr(config.data, key) is None
    }
    runtime = {}
    if config.runtime.device == "auto":
        runtime["device"] = recorded.runtime.device
    if config.runtime.threads is None:
        runtime["threads"] = recorded.runtime.threads
    budget = {
        key: getattr(recorded.budget, key)
        for key in ("strategy", "cohort_size")
        if getattr(config.budget, key) is None
    }
    return config.model_copy(
        update={
            "data": config.data.model_copy(update=data),
            "runtime": config.runtime.model_copy(update=runtime),
            "budget": config.budget.model_copy(update=budget),
            "storage": config.storage or recorded.storage,
        }
    )


def check_same(
    directory: StudyDir, recorded: Recorded, asked: StudyConfig, fingerprint: str
) -> None:
    """Refuse to continue a study with settings that would give other results.

    Args:
        directory: the study's.
        recorded: what it was begun with.
        asked: what it is to be continued with.
        fingerprint: of the images there are now, which may lie elsewhere.

    Raises:
        MismatchError: with a line for each difference.
    """
    refuse_changed(recorded.parts, foreign_parts(asked))
    begun, now = _deciding(recorded.config), _deciding(asked)
    options: list[str] = []
    if recorded.fingerprint == fingerprint:
        options = ["--data", now.data.name] if begun.data.name != now.data.name else []
        place = {"name": now.data.name, "dir": now.data.dir}
        begun = begun.model_copy(update={"data": begun.data.model_copy(update=place)})
    lines = differences(begun, now)
    own = f"go on with its own: {directory.search_command(*options)}"
    if not directory.exists:
        own = "the old settings"
    if recorded.fingerprint not in (None, fingerprint):
        own = "the old settings and images"
        lines.append(
            "data: the images are not those that the study was begun with "
            f"(fingerprint {recorded.fingerprint[:12]} in the study, {fingerprint[:12]} now)"
        )
    if lines:
        raise MismatchError(
            "the study was begun with other settings, which would give other results; use "
            f"--study-name for a new study, or {own}\n  " + "\n  ".join(lines)
        )
    now_used = arithmetic(torch.device(asked.runtime.device), asked.runtime.threads)
    if changed := ", ".join(changes(recorded.arithmetic, now_used)):
        text = "the study was trained with %s: what is trained now may differ in the last bits"
        log.warning(text, changed)


def study_fingerprint(config: StudyConfig, images: str) -> str:
    """A hash of all that decides a study's results: resolved settings, and the images."""
    return hashlib.sha256(repr((_deciding(config), images)).encode()).hexdigest()


def begin_study(directory: StudyDir, config: StudyConfig, data: Data) -> optuna.Study:
    """Open a study in its storage, made if there is none, and write down what it goes on with.

    Raises:
        StorageError: the storage cannot be reached, or another process trains in the study.
    """
    with beginning(directory, config) as study:
        if "config" not in study.user_attrs:
            # left by a study of this name that is no more; its key does not tell n_trials
            remove_checkpoint(directory.checkpoint)
            write_note(study, config)
        kept = config.model_copy(update={"runtime": config.runtime.recorded})
        write_beginning(study, kept, data)
        write_toml(directory.config, kept)
    return study


def _deciding(config: StudyConfig) -> StudyConfig:
    """A config without the settings that say only how far to go and where to keep it."""
    budget = config.budget.model_copy(update={"n_trials": 1, "timeout_s": None, "baseline": True})
    device = config.runtime.device.partition(":")[0]  # which of several GPUs decides nothing
    threads = None if device == "cuda" else config.runtime.threads
    runtime = RuntimeConfig(device=device, threads=threads)  # who trains decides nothing
    return config.model_copy(
        update={
            "training": config.training.deciding,
            "budget": budget,
            "confirm": ConfirmConfig(),
            "runtime": runtime,
            "storage": None,
        }
    )
