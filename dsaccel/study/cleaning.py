"""What of a study's files nothing needs any more: left by searches that were cut off."""

from collections.abc import Iterator
from pathlib import Path

from dsaccel.study.folder import StudyDir
from dsaccel.study.heads import global_path, heads_path, right_path
from dsaccel.study.record import StudyRecord
from dsaccel.training.checkpoint import checkpoint_files


def unneeded(directory: StudyDir, record: StudyRecord) -> list[Path]:
    """Files that neither going on, nor a report, nor a confirmation would read."""
    return sorted(set(_unneeded(directory, record)))


def _unneeded(directory: StudyDir, record: StudyRecord) -> Iterator[Path]:
    yield from directory.path.rglob("*.part")
    checkpoints = list(checkpoint_files(directory.checkpoint))
    if record.cohort.is_finished:
        globally = checkpoint_files(directory.baseline_checkpoint)
        if record.baseline is not None or not any(path.is_file() for path in globally):
            checkpoints += [*globally, *directory.parts.rglob("*")]
        yield from (path for path in checkpoints if path.is_file())
    kept = {heads_path(directory.heads, trial.order) for trial in record.finished}
    kept |= {global_path(directory.heads, h) for h in record.all_trained_globally}
    kept |= {right_path(directory.heads, look) for look in record.test_readings}
    yield from (path for path in directory.heads.glob("*.json") if path not in kept)
    unread = (record.confirmation or {}).get("unread", ())
    networks = {directory.confirmation / network["file"] for network in unread}
    networks |= set(directory.confirmation.glob("checkpoint-*.pt"))
    yield from (path for path in directory.confirmation.glob("*.pt") if path not in networks)
