"""Many workers, one result: that of one process, bit for bit, also when workers are lost."""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import seats
import tiny_study
import tomli_w
import torch
from helpers import CPU, TRAINING, Batches, H, plans
from PIL import Image

from dsaccel import imports, stopping
from dsaccel.analysis.calibration import Calibration
from dsaccel.config.study import ConfirmConfig, RuntimeConfig, StudyConfig
from dsaccel.config.toml import parse_config
from dsaccel.confirm import jobs as confirm_jobs
from dsaccel.confirm.entrants import GlobalSettings
from dsaccel.confirm.jobs import Task
from dsaccel.confirm.result import Entry
from dsaccel.confirm.run import Confirm
from dsaccel.data.load import load_test
from dsaccel.data.sources.arrays import ArraySource
from dsaccel.errors import ConfigError, WorkerError
from dsaccel.executors.local import ProcessWorker
from dsaccel.nn.sealed import read_state
from dsaccel.parts import part_of
from dsaccel.report.study_page import write_report
from dsaccel.report.study_table import headline
from dsaccel.search.setup import open_search
from dsaccel.spec.trie import Trie
from dsaccel.stopping import LostJobError
from dsaccel.study.folder import StudyDir
from dsaccel.training import part as part_module
from dsaccel.training.cut import balanced, costliest
from dsaccel.training.device import resolve_runtime, worker_devices
from dsaccel.training.opening import Facts, Opening, _stations, at_station, open_station
from dsaccel.training.pace import Pace
from dsaccel.training.parts import SplitCohort
from dsaccel.training.station import Station
from dsaccel.training.team import Job, Team
from dsaccel.training.workbench import Bench

pytestmark = pytest.mark.long

STUDIES: dict[str, dict[str, Any]] = {
    "simultaneous": {
        "budget": {"n_trials": 4, "cohort_size": 4, "strategy": "random", "baseline": False},
        "references": ["1-1-2", "1-2-2", "2-1-2", "2-2-2"],
        "pruning": {"grace_epochs": 2},
    },
    "sequential": {
        "budget": {"n_trials": 8, "cohort_size": 8, "baseline": False},
        "training": {"schedule": "sequential", "epochs": 1},
    },
    "tpe": {
        "budget": {"strategy": "tpe", "n_trials": 4, "cohort_size": 1, "baseline": False},
        "references": [],
        "training": {"epochs": 2},
    },
}


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trusted = dict.fromkeys(("seats:Seats", "seats:SeatsAway"), tmp_path)
    monkeypatch.setattr(imports, "_trusted", trusted)
    monkeypatch.setattr(seats, "LOSES", [])
    monkeypatch.setattr(seats.Seat, "num_jobs", 0)
    monkeypatch.setattr(seats.Seats, "teams", [])
    # several stretches and checkpoints even of a study of seconds
    monkeypatch.setattr("dsaccel.training.pace.STRIDE_S", 0.0)


def seated(num, **study) -> dict[str, Any]:
    return study | {"runtime": {"executor": "seats:Seats", "executor_options": {"num": num}}}


def all_of(search):
    """Trials, rungs, heads and harvest."""
    file = search.directory.harvest
    harvest = file.read_text() if file.is_file() else ""
    return tiny_study.rows(search), tiny_study.heads(search), harvest


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """What one process finds, by study."""
    found = {}

    def of(kind):
        if kind not in found:
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(tmp_path_factory.mktemp("expected"))
                found[kind] = all_of(tiny_study.searched(kind, **STUDIES[kind]))
        return found[kind]

    return of


# ---------------------------------------------------------------------- one result


@pytest.mark.parametrize("kind", STUDIES)
@pytest.mark.parametrize("num", [1, 2, 4])
def test_workers_find_what_one_process_finds(expected, kind, num):
    search = tiny_study.searched(**seated(num, **STUDIES[kind]))
    assert all_of(search) == expected(kind)
    if kind == "simultaneous":
        assert any(trial.is_harvested for trial in search.ledger.record().all())
    # under the sequential schedule few are left when parts would pay
    assert seats.Seat.num_jobs >= (3 if "sequential" in kind else num + 1)
    assert not search.directory.parts.exists()


@pytest.mark.parametrize("kind", ["simultaneous", "sequential"])
@pytest.mark.parametrize("num", [2, 4])
def test_workers_that_are_lost_at_each_rung_cost_time_alone(expected, kind, num):
    lost = set()

    def loses(_, task):
        is_first = task.stop not in lost
        lost.add(task.stop)
        return is_first

    seats.LOSES.append(loses)
    search = tiny_study.searched(**seated(num, **STUDIES[kind]))
    assert len(lost) > 2
    assert all_of(search) == expected(kind)


def test_a_driver_that_was_killed_goes_on_with_other_workers(expected, monkeypatch):
    monkeypatch.setattr("dsaccel.training.checkpoint.INTERVAL_S", 0.0)
    study = STUDIES["simultaneous"]
    progress = tiny_study.searching(**seated(3, **study)).run()
    next(progress)
    next(progress)
    progress.close()
    jobs = seats.Seat.num_jobs
    search = tiny_study.searched(**seated(2, **study))
    rows, *others = all_of(search)
    # what was cut off is told FAIL, and trained again
    assert [[row for row in rows if row[0] != "FAIL"], *others] == list(expected("simultaneous"))
    assert 0 < seats.Seat.num_jobs - jobs <= 4  # the first two epochs are not trained again
    # and with no workers at all
    assert tiny_study.searching(**study).is_finished


def test_a_part_that_runs_out_of_memory_is_cut_in_two(expected, monkeypatch):
    sizes = []
    train = part_module._train

    def too_large(station, task):
        sizes.append(len(task.plans))
        if len(task.plans) > 1:
            raise MemoryError
        return train(station, task)

    monkeypatch.setattr(part_module, "_train", too_large)
    search = tiny_study.searched(**seated(2, **STUDIES["simultaneous"]))
    assert all_of(search) == expected("simultaneous")
    assert max(sizes[:2]) > 1
    assert max(sizes[4:]) == 1  # what was learnt is not forgotten


@pytest.mark.parametrize(
    ("seating", "place"), [("seats:Seats", "confirmation"), ("seats:SeatsAway", "scratch")]
)
def test_a_confirmation_by_workers_is_that_of_one_process(seating, place):
    one_epoch = {"training": {"epochs": 1}, "pruning": {"kind": "none"}}
    budget = {"n_trials": 3, "cohort_size": 3, "baseline": False}
    searched = tiny_study.searched("here", **one_epoch, budget=budget)
    shutil.copytree("studies/here", "studies/there")
    asked = ConfirmConfig(top=1, num_seeds=1, controls=False, tuning_trials=3)
    done: list[str] = []

    def loses(number, argument):
        done.append(kind := type(argument).__name__)
        if kind == "Unread":
            assert argument.weights.parent.name == place
        return done.count(kind) == 1

    seats.LOSES.append(loses)

    def confirmed(name, **runtime):
        directory = StudyDir(name)
        tables = searched.config.model_dump(mode="json", exclude_none=True)
        tables["runtime"] |= runtime
        config = parse_config(StudyConfig, tables, "a test")
        study = open_search(config, directory).study
        confirm = Confirm(config, directory, study, asked, command="a test")
        steps = [step for step in confirm.run() if step.phase in ("local", "global")]
        # whichever is done first, it is counted up, and its place is that of its networks
        assert [step.job for step in steps] == sorted(step.job for step in steps)
        assert {step.place for step in steps} == set(range(steps[-1].num_jobs))
        readings = [
            (r["name"], r["mode"], r["seed"], r["accuracy"]) for r in confirm.record.readings
        ]
        results = [{**r, "time_s": r["time_s"] > 0} for r in confirm.record.values["results"]]
        return results, confirm.record.values["tuning"], readings

    expected = confirmed("here")
    assert confirmed("there", executor=seating) == expected
    readings = expected[2]
    num_networks = len({(mode, seed) for _, mode, seed, _ in readings})
    num_jobs = {"tuple": 3, "Task": num_networks, "Unread": num_networks}
    assert Counter(done) == {kind: num + 1 for kind, num in num_jobs.items()}
    assert not StudyDir("there").confirmation.exists()
    assert not list(StudyDir("there").path.rglob("*.pt"))


# ---------------------------------------------------------------------- the workers' parts


def cohort(folder, team, **options):
    networks = plans("1-1-1", "1-1-2", "1-2-2", "2-1-2")
    given = {"fits": lambda names: True, "stops": (), "folder": folder, "team": team}
    return SplitCohort(networks, TRAINING, Batches(), seed=1, device=CPU, **given | options)


class Place:
    data, device = Batches(), CPU


def team_of(num):
    return Team([seats.Seat(f"seat {n}", Place()) for n in range(num)])


def test_a_worker_goes_on_with_the_learners_that_it_holds(tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(
        "dsaccel.training.learner_files._read", lambda path, sha256: read.append(path)
    )
    assert len(list(cohort(tmp_path, team_of(2)).rungs())) == TRAINING.epochs
    assert not read


def test_files_that_nothing_needs_are_removed(tmp_path):
    run = cohort(tmp_path, team_of(2))
    for _ in run.rungs():
        assert len(list(tmp_path.glob("*.pt"))) <= 4
    assert len(list(tmp_path.glob("*.pt"))) == 2


def test_parts_cost_about_the_same():
    networks = plans(*(f"{a}-{b}-{c}" for a in (1, 2, 3) for b in (1, 2, 3) for c in (1, 2, 3)))
    trie = Trie(networks)
    cost = {node: float(node.segment.flops) for node in trie.nodes()}
    paths = {h: trie.path(h) for h in networks}
    alone = costliest([tuple(networks)], paths, cost)
    for num, least in ((2, 1.7), (3, 2.2), (9, 3.0)):
        cut = balanced(trie, sorted(networks), cost, num)
        assert len(cut) <= num
        assert [h for part in cut for h in part] == sorted(networks)
        assert alone / costliest(cut, paths, cost) > least


def test_measured_seconds_replace_flops():
    networks = plans("1-1-1", "2-1-1")
    trie = Trie(networks)
    pace = Pace(trie, part_of(TRAINING, "schedule"))
    before = pace.costs(0, 1)
    slow = set(trie.path(H("2-1-1"))) - set(trie.path(H("1-1-1")))
    fast = set(trie.path(H("1-1-1")))
    pace.note(fast, 0, 1, 1.0)
    pace.note(slow, 0, 1, 9.0)
    after = pace.costs(1, 2)
    assert sum(after[node] for node in fast) == pytest.approx(1.0)
    assert sum(after[node] for node in slow) == pytest.approx(9.0)
    assert sum(before[node] for node in fast) > sum(before[node] for node in slow)


def test_a_job_that_takes_its_workers_with_it_is_left():
    seats.LOSES.append(lambda number, argument: True)
    with pytest.raises(WorkerError, match=r"3 ended with the same one .*fewer workers"):
        list(team_of(2).run(deque([Job(lambda station, argument: 0, None)])))


def test_a_team_without_workers_says_so(monkeypatch):
    monkeypatch.setattr(seats.Seat, "renew", lambda self: setattr(self, "station", None))
    seats.LOSES.append(lambda number, argument: True)
    with pytest.raises(WorkerError, match=r"a worker must be left, but all .*run the command"):
        list(team_of(2).run(deque([Job(lambda station, argument: 0, None)])))


def test_results_of_jobs_come_in_their_order():
    seats.LOSES.append(lambda number, argument: number in (1, 3))
    assert list(team_of(3).map(_squared, range(7))) == [n * n for n in range(7)]


def test_workers_begin_with_the_costliest_job():
    begun: list[int] = []
    seats.LOSES.append(lambda number, argument: begun.append(argument) or False)
    done = list(team_of(2).costliest_first(_squared, range(4), [3.0, 1.0, 4.0, 1.5]))
    assert begun == [2, 0, 3, 1]
    assert sorted(done) == [(0, 0), (1, 1), (2, 4), (3, 9)]


def _squared(station: Station, number: int) -> int:
    return number * number


# ---------------------------------------------------------------------- who may train


KNOWN = Facts("1", {"torch": "2.12", "device": "A", "threads": "1"}, "images", True, "here")


def facts(**changed):
    return Facts(**vars(KNOWN) | changed)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"version": "2"}, "worker 1 must compute the same bits .*: dsaccel 1 -> 2;"),
        ({"arithmetic": {"torch": "2.11", "device": "A"}}, "torch 2.12 -> 2.11"),
        ({"arithmetic": {"device": "B", "threads": "2"}}, "device A -> B, threads 1 -> 2"),
        ({"images": "others"}, "worker 1 must read the driver's images"),
        ({"sees_folder": False}, "worker 1 must see the folder of the driver.*--scratch"),
    ],
)
def test_a_worker_that_would_find_something_else_is_refused(changed, message):
    KNOWN.check("worker 1", KNOWN, Path("there"))
    with pytest.raises(WorkerError, match=message):
        facts(**changed).check("worker 1", KNOWN, Path("there"))
    assert WorkerError.exit_code == 4


def test_devices_that_cannot_be_used_are_refused(monkeypatch):
    with pytest.raises(ConfigError, match=r"device cuda:0 must exist, but 0 CUDA devices"):
        resolve_runtime(RuntimeConfig(devices="cuda:0,cuda:1"))
    with pytest.raises(ConfigError, match="devices = all needs a GPU, but none was found"):
        resolve_runtime(RuntimeConfig(devices="all"))
    with pytest.raises(ValueError, match="but got workers = 2 and devices = all"):
        RuntimeConfig(devices="all", workers=2)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr("dsaccel.training.device.cuda_problem", lambda index: None)
    assert worker_devices(RuntimeConfig(devices="all")) == ["cuda:0", "cuda:1"]
    assert resolve_runtime(RuntimeConfig(devices="cuda:1,cuda:0")).device == "cuda:1"
    with pytest.raises(ConfigError, match="must name each device once, but got cuda,cuda:0"):
        worker_devices(RuntimeConfig(devices="cuda,cuda:0"))
    with pytest.raises(ConfigError, match=r"workers is for a CPU, but the device is cuda:1"):
        resolve_runtime(RuntimeConfig(device="cuda:1", workers=2))


def test_who_trains_decides_no_result(expected):
    first = tiny_study.searched(**STUDIES["tpe"])
    again = tiny_study.searching(**STUDIES["tpe"], runtime={"workers": 2, "memory_mib": 900})
    assert again.is_finished
    assert first.config.runtime.threads == again.config.runtime.threads == 1


def test_who_trains_is_shown_while_it_runs_and_afterwards():
    search = tiny_study.searching(**seated(2, **STUDIES["simultaneous"]))
    shown = [progress.workers or "" for progress in search.run() if progress.phase == "search"]
    pattern = r"(\d) \| (\d) networks, idle \d+%, blocks trained twice (\d+)%"
    first = re.fullmatch(pattern, shown[0])
    assert first is not None
    assert int(first[1]) + int(first[2]) == 4
    # 1-1-2 | 1-2-2 2-1-2 2-2-2 or 1-1-2 1-2-2 | 2-1-2 2-2-2: at least the stem and a block
    assert int(first[3]) > 10
    record = search.ledger.record()
    assert record.workers == f"2: {shown[-1]}"
    assert f"workers   {record.workers}" in headline(record)
    write_report(record, Path("report.html"))
    assert str(shown[-1]) in Path("report.html").read_text()


def test_workers_tell_which_networks_diverged(monkeypatch):
    steep = {"training": {"epochs": 2, "learning_rate": 1e30}, "references": []}
    study = STUDIES["simultaneous"] | steep
    diverged = [
        [(trial.hierarchy, trial.diverged) for trial in search.ledger.record().finished]
        for search in (
            tiny_study.searched("here", **study),
            tiny_study.searched(**seated(2, **study)),
        )
    ]
    assert diverged[0] == diverged[1]
    assert all(lost is not None for _, lost in diverged[0])
    assert diverged[0]


def test_a_calibration_by_workers_is_that_of_one_process():
    short = {"training": {"epochs": 2}, "budget": {"n_trials": 4}}

    def calibrated(name, **runtime):
        config = tiny_study.config(**short, runtime=runtime)
        calibration = Calibration(config, name, 3)
        searches = list(calibration.searches())
        for search in searches:
            for _ in search.run():
                pass
        return calibration.landscape(searches).accuracies

    expected = calibrated("here")
    assert calibrated("there", executor="seats:Seats") == expected
    assert seats.Seat.num_jobs >= 6


# ---------------------------------------------------------------------- what a worker opens


@contextmanager
def opened(bench, folder, **options):
    """What a worker finds, and its bench."""
    opening = Opening.of(bench, folder, **{"share": 1.0} | options)
    try:
        facts = open_station(opening.on("cpu"))
        own: Any = _stations[opening.id].bench
        yield facts, own
    finally:
        opening.close()
        assert not folder.exists()


@pytest.mark.parametrize("carried_bytes", [0, 2**30])
def test_a_worker_finds_the_images_of_a_relative_folder_from_elsewhere(
    monkeypatch, tmp_path, carried_bytes
):
    monkeypatch.setattr("dsaccel.training.opening.CARRIED_BYTES", carried_bytes)
    for number in range(20):
        path = Path(f"images/train/{number % 2}/{number}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.full((8, 8), 10 * number, dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    data = {"name": "images", "train_images": None, "val_fraction": 0.2}
    bench = Bench.load(tiny_study.config(data=data))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    opening = Opening.of(bench, tmp_path / "parts", share=1.0)
    if carried_bytes:
        shutil.rmtree("images")
    monkeypatch.chdir(elsewhere)
    open_station(opening.on("cpu")).check("worker", Facts.of(bench), tmp_path)


def test_a_worker_finds_images_that_were_given_in_python_in_the_shared_folder(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (40, 8, 8, 1), dtype=np.uint8), np.arange(40) % 4
    source = ArraySource(x, y, test=(x[:8], y[:8]), class_names="abcd", flip=False)
    data = {"train_images": None, "val_fraction": 0.2}
    bench = Bench.load(tiny_study.config(data=data), source=source)
    with opened(bench, tmp_path / "parts") as (facts, own):
        facts.check("worker", Facts.of(bench), tmp_path)
        assert own.data.class_names == ("a", "b", "c", "d")
        assert own.data.resolved == bench.data.resolved
        assert load_test(own.data).labels.tolist() == [0, 1, 2, 3] * 2


def test_workers_of_one_machine_share_its_memory(monkeypatch, tmp_path):
    bench = Bench.load(tiny_study.config())
    monkeypatch.setattr("dsaccel.training.opening.free_memory_bytes", lambda device: 1000 * 2**20)
    with opened(bench, tmp_path / "parts", share=0.25) as (_, own):
        assert own.config.runtime.memory_mib == 225  # of nine tenths


def test_a_worker_that_does_not_see_the_folder_opens_nothing(tmp_path):
    bench = Bench.load(tiny_study.config())
    opening = Opening.of(bench, tmp_path / "parts", share=1.0)
    opening.close()
    found = open_station(opening.on("cpu"))
    with pytest.raises(WorkerError, match=r"must see the folder of the driver.*--scratch"):
        found.check("worker", Facts.of(bench), tmp_path)
    with pytest.raises(LostJobError):
        at_station(opening.id, _squared, 2, lambda: True)


# ---------------------------------------------------------------------- processes


def test_a_mistake_in_a_job_is_no_loss_of_its_worker():
    assert issubclass(LostJobError, ProcessWorker.lost)
    assert not issubclass(KeyError, ProcessWorker.lost)


def test_worker_processes_find_what_one_process_finds(expected, monkeypatch):
    """One of them is killed after each rung."""
    workers, killed = [], []
    begin = ProcessWorker.__init__

    def noted(self, *args):
        begin(self, *args)
        workers.append(self)

    monkeypatch.setattr(ProcessWorker, "__init__", noted)
    search = tiny_study.searching(**STUDIES["simultaneous"], runtime={"workers": 2})
    for number, _ in enumerate(search.run()):
        if number < 2:
            killed.append(workers[number].pid)
            os.kill(killed[-1], signal.SIGKILL)
    assert all_of(search) == expected("simultaneous")
    assert [worker.pid for worker in workers] == [None, None]


def test_workers_end_with_their_driver(tmp_path):
    study = tiny_study.tables(runtime={"workers": 2}, training={"epochs": 500})
    Path("long.toml").write_text(tomli_w.dumps(study))
    command = [sys.executable, "-m", "dsaccel", "search", "long.toml"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as driver:
        assert driver.stderr is not None
        for line in driver.stderr:
            if line.startswith("search epoch"):
                break
        children = _children(driver.pid)
        assert len(children) >= 2
        driver.kill()
    until = time.monotonic() + 60
    while any(map(_lives, children)) and time.monotonic() < until:
        time.sleep(0.2)
    assert not any(map(_lives, children))


PATIENT = """
import sys
from dsaccel import stopping
from dsaccel.cli.app import main
from dsaccel.executors.local import ProcessWorker

stopping.WAIT_S = 60  # a busy machine takes its time
begin = ProcessWorker.submit
def submit(self, *job):
    done = begin(self, *job)
    print("at work", file=sys.stderr, flush=True)
    return done
ProcessWorker.submit = submit
if __name__ == "__main__":
    main()
"""


def test_workers_save_what_they_do_when_their_driver_is_terminated():
    study = tiny_study.tables(
        runtime={"workers": 2}, training={"epochs": 5000}, pruning={"kind": "none"}
    )
    Path("long.toml").write_text(tomli_w.dumps(study))
    Path("patient.py").write_text(PATIENT)
    command = [sys.executable, "patient.py", "search", "long.toml"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as driver:
        assert driver.stderr is not None
        at_work = (line for line in driver.stderr if line.startswith("at work"))
        assert len(list(islice(at_work, 4))) == 4  # both, for the second time
        driver.terminate()
        _, told = driver.communicate()
    assert driver.returncode == 143, told
    folder = StudyDir("long")
    saved = [*folder.parts.glob("within-*.pt"), folder.checkpoint]
    assert len(saved) == 3
    cohorts = [read_state(path)["cohort"] for path in saved]
    assert all(each["history"] or each["within"] != (1, 0) for each in cohorts)


def test_a_job_of_a_confirmation_is_saved_when_its_driver_ends(monkeypatch):
    monkeypatch.setattr(stopping, "WAIT_S", 60)  # a busy machine takes its time
    config = tiny_study.config(training={"epochs": 5000}, runtime={"workers": 1})
    bench, folder = Bench.load(config), Path("confirmation")
    entry = Entry("1-1-1", "1-1-1", {}, ("finalist",), 1, 1, 1)
    task = Task(confirm_jobs.Job(7, "local", (entry,)), GlobalSettings(0.01, 0.0), folder)
    with part_of(config.runtime, "executor", "local").team(bench, folder) as team:
        # a runner of tests in several processes has it ignored
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        threading.Timer(3, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            with pytest.raises(KeyboardInterrupt):
                list(team.map(confirm_jobs.train_job, [task]))
        finally:
            signal.signal(signal.SIGINT, before)
        assert team.workers[0].pid is not None
    saved = read_state(task.job.checkpoint(folder))["cohort"]
    assert saved["history"] or saved["within"] != (1, 0)


def _children(pid):
    texts = (task / "children" for task in Path(f"/proc/{pid}/task").iterdir())
    return [int(child) for text in texts for child in text.read_text().split()]


def _lives(pid):
    try:
        return "zombie" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_a_study_that_is_left_to_its_workers_keeps_its_folder_clean(expected):
    search = tiny_study.searched(**STUDIES["tpe"], runtime={"workers": 1})
    assert all_of(search) == expected("tpe")
    assert not StudyDir("tiny").parts.exists()
