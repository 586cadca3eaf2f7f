"""What a search costs beside training: Optuna's storage, what is read at a rung, checkpoints.

    python benchmarks/overhead.py [--rungs 100] [--epoch-s 19] [--out FILE]

Storage: 256 trials x 20 reports, with the storage as studies open it (SQLite: WAL and
synchronous=NORMAL) and as Optuna does. Then a study of the size of cifar10-resnet18: 70 trials that
report at each rung. The share is of the study's training
time, for which `--epoch-s` is what all its hierarchies together take for one epoch.
"""

import argparse
import importlib.metadata
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import optuna
import torch
from optuna.distributions import BaseDistribution, IntDistribution
from rich.console import Console
from rich.table import Table

from dsaccel.config.study import StudyConfig
from dsaccel.config.toml import parse_config
from dsaccel.families import build_plan
from dsaccel.space.bounds import Measures
from dsaccel.space.space import SearchSpace
from dsaccel.study.folder import StudyDir, find_study
from dsaccel.study.record import StudyRecord
from dsaccel.study.rows import best_trial
from dsaccel.study.storage import open_study
from dsaccel.training.checkpoint import save_checkpoint
from dsaccel.training.cohort import Cohort
from dsaccel.training.memory import estimate_plans

RESULTS = Path(__file__).parent / "results"
NUM_LOSSES = 18


def many_reports(study: optuna.Study, num_trials: int, num_reports: int) -> None:
    """Trials one after another, as in a search of cohorts of one."""
    ranges = _ranges()
    for number in range(num_trials):
        trial = study.ask(ranges)
        for step in range(1, num_reports + 1):
            trial.report(step / num_reports, step)
        trial.set_user_attr("hierarchy", str(number))
        study.tell(trial, 0.5)


def rungs(study: optuna.Study, num_trials: int, num_rungs: int) -> list[float]:
    """A cohort's rungs as `Search` sees them, nobody told in between; processor seconds of each."""
    ranges = _ranges()
    trials = [study.ask(ranges) for _ in range(num_trials)]
    seconds = []
    for step in range(1, num_rungs + 1):
        started = time.process_time()
        for trial in trials:
            trial.report(0.5, step)
        seconds.append(time.process_time() - started)
    best_trial(StudyRecord.read(study))
    for trial in trials:
        trial.set_user_attr("head_accuracies", [[0.5] * NUM_LOSSES] * num_rungs)
        study.tell(trial, 0.5)
    return seconds


def checkpoint(config: StudyConfig, folder: Path) -> tuple[float, int, int, int]:
    """Seconds and bytes of saving four hierarchies; bytes that learners of all would be, and how
    many there are.
    """

    def plan(hierarchy):
        return build_plan(
            config.space.family, hierarchy, config.network, channels=3, side=32, num_classes=10
        )

    def measure(hierarchy):
        one = plan(hierarchy)
        return Measures.of(one)

    feasible = SearchSpace(config.space, measure).feasible() or []
    plans = {hierarchy: plan(hierarchy) for hierarchy in feasible}
    some = {h: plans[h] for h in feasible[:4]}
    cohort = Cohort(some, config.training, _NoData(), seed=1, device=torch.device("cpu"))
    for learner in cohort.learners.values():
        for unit, adam in zip(learner.units, learner.optimizers, strict=True):
            for parameter in unit.parameters():
                parameter.grad = torch.zeros_like(parameter)
            adam.step()
            adam.zero_grad()
    path = folder / "checkpoint.pt"
    started = time.perf_counter()
    save_checkpoint(path, "", cohort)
    seconds = time.perf_counter() - started
    whole = estimate_plans(plans, config.training)
    num_bytes = whole.parameters_bytes + whole.optimizer_bytes
    return seconds, path.stat().st_size, num_bytes, len(plans)


class _NoData:
    def train_batches(self, epoch: int):
        return iter(())

    def val_batches(self):
        return iter(())


def _ranges() -> dict[str, BaseDistribution]:
    return {f"num_blocks_s{stage}": IntDistribution(1, 4) for stage in range(1, 5)}


def _timed(run: Callable[[], object]) -> tuple[float, float]:
    """Seconds that passed, and of the processor."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--trials", type=int, default=256)
    parser.add_argument("--rungs", type=int, default=100)
    parser.add_argument("--epoch-s", type=float, default=19.0)
    parser.add_argument("--out", type=Path, default=RESULTS / "overhead.json")
    args = parser.parse_args()
    out = args.out.resolve()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    config = parse_config(StudyConfig, find_study("cifar10-resnet18")[1], "cifar10-resnet18")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        directory = StudyDir("wal")
        directory.path.mkdir(parents=True)
        ours = open_study(directory, config, create=True)
        plain = optuna.create_study(
            storage=optuna.storages.RDBStorage("sqlite:///plain.db"),
            sampler=optuna.samplers.RandomSampler(),
        )
        wal_s, wal_cpu_s = _timed(lambda: many_reports(ours, args.trials, 20))
        plain_s, plain_cpu_s = _timed(lambda: many_reports(plain, args.trials, 20))
        big = StudyDir("cifar10-resnet18")
        big.path.mkdir(parents=True)
        seconds = rungs(open_study(big, config, create=True), config.budget.n_trials, args.rungs)
        save_s, saved_bytes, all_bytes, num = checkpoint(config, Path(folder))
        os.chdir("/")
    epochs = config.training.epochs
    training_s = args.epoch_s * epochs
    # a rung costs the same at the end as at the start, within what else the machine does
    rung_s = statistics.mean(seconds)
    storage_s = epochs * rung_s
    result = {
        "optuna": importlib.metadata.version("optuna"),
        "torch": importlib.metadata.version("torch"),
        "trials_x_20_reports": {
            "trials": args.trials,
            "wal_s": wal_s,
            "wal_cpu_s": wal_cpu_s,
            "default_s": plain_s,
            "default_cpu_s": plain_cpu_s,
        },
        "rung_of_70_trials_cpu_s": {"mean": rung_s, "all": seconds},
        "storage_of_all_rungs_cpu_s": storage_s,
        "checkpoint": {
            "saved_s": save_s,
            "saved_bytes": saved_bytes,
            "hierarchies_of_the_study": num,
            "bytes_of_the_study": all_bytes,
            "save_of_the_study_s": save_s * all_bytes / saved_bytes,
        },
        "training_s": training_s,
        "storage_share": storage_s / training_s,
    }
    table = Table("what", "seconds")
    table.add_row(f"{args.trials} trials x 20 reports, WAL", f"{wal_s:.1f} (cpu {wal_cpu_s:.1f})")
    table.add_row("the same as Optuna opens SQLite", f"{plain_s:.1f} (cpu {plain_cpu_s:.1f})")
    table.add_row("a rung of 70 trials", f"cpu {rung_s:.3f}")
    table.add_row(f"all {epochs} rungs, nothing pruned", f"cpu {storage_s:.0f}")
    table.add_row("training", f"{training_s:.0f}")
    table.add_row("share of storage", f"{storage_s / training_s:.2%}")
    table.add_row("checkpoint of 4 hierarchies", f"{save_s:.2f} ({saved_bytes / 1e9:.2f} GB)")
    table.add_row(f"of {num}", f"{save_s * all_bytes / saved_bytes:.1f} ({all_bytes / 1e9:.1f} GB)")
    Console().print(table)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
