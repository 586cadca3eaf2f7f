"""The test split for a landscape: read once with each network's kept weights, and recorded beside
them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from dsaccel.analysis.landscape import Tested
from dsaccel.config.study import RuntimeConfig
from dsaccel.data.batches import EvalSplit
from dsaccel.errors import NoResultError
from dsaccel.nn.network import load_network
from dsaccel.nn.units import AbsentHead
from dsaccel.nn.weights import read_config
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.study.folder import StudyDir
from dsaccel.study.kept import kept_path
from dsaccel.study.record import StudyRecord
from dsaccel.study.trial_record import TrialRecord
from dsaccel.training.device import resolve_runtime, start_runtime
from dsaccel.training.evaluate import read_accuracy, split_images


def read_tests(
    studies: Sequence[tuple[StudyRecord, Sequence[TrialRecord]]],
) -> list[dict[Hierarchy, Tested]]:
    """What the networks of studies reach on the test split, by head.

    References outside of the space, and what diverged, have no weights, and are left out.

    Raises:
        NoResultError: if a feasible network's weights, or some of its heads, were not kept; then
            nothing was read.
        ConfigError: if there is no test split.
    """
    kept = [_kept(study, trials) for study, trials in studies]
    return [_read(study, paths) for (study, _), paths in zip(studies, kept, strict=True)]


def _kept(study: StudyRecord, trials: Sequence[TrialRecord]) -> dict[Hierarchy, Path]:
    """The weights of networks, all with all heads."""
    directory = StudyDir(study.name)
    paths = {trial.hierarchy: kept_path(directory, trial) for trial in trials}
    wanted = [trial for trial in trials if trial.is_feasible and trial.diverged is None]
    missing = [str(t.hierarchy) for t in wanted if not paths[t.hierarchy].is_file()]
    if missing:
        shown = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise _not_kept(study, len(trials), f"has none of {shown}")
    there = {hierarchy: path for hierarchy, path in paths.items() if path.is_file()}
    for hierarchy, path in there.items():
        if any(isinstance(unit.head, AbsentHead) for unit in load_network(path).units):
            raise _not_kept(study, len(trials), f"has not all heads of {hierarchy}")
    return there


def _read(study: StudyRecord, paths: Mapping[Hierarchy, Path]) -> dict[Hierarchy, Tested]:
    images: EvalSplit | None = None
    found: dict[Hierarchy, Tested] = {}
    own = {
        "data": study.config.data,
        "runtime": RuntimeConfig(threads=study.config.runtime.threads),
    }
    for hierarchy, path in paths.items():
        run = read_config(path).model_copy(update=own)
        if images is None:
            device = start_runtime(resolve_runtime(run.runtime, precision=run.training.precision))
            images = split_images(path, run, "test", device, download=False)
        command = f"dsaccel landscape {study.name} --test"
        reading, _ = read_accuracy(path, run, "test", command=command, images=images)
        heads = tuple(a for a in reading.head_accuracies if a is not None)
        found[hierarchy] = Tested(heads, reading.exits.get("ensemble"))
    return found


def _not_kept(study: StudyRecord, num: int, what: str) -> NoResultError:
    return NoResultError(
        f"--test needs the weights of all networks with all heads, but study {study.name} {what}; "
        f"search again under another --study-name with --keep {num} --all-heads"
    )
