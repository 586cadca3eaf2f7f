"""A study on the workers of a Dask cluster: the same result, and nobody who is not fit for it."""

import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
import tiny_study
import tomli_w

from dsaccel.errors import ConfigError, WorkerError
from dsaccel.executors.cluster import Cluster
from dsaccel.parts import part_of
from dsaccel.study.folder import StudyDir

distributed = pytest.importorskip("distributed")
pytestmark = [pytest.mark.long, pytest.mark.filterwarnings("ignore")]  # Dask's own

STUDY = {
    "budget": {"n_trials": 4, "cohort_size": 4, "strategy": "random", "baseline": False},
    "pruning": {"grace_epochs": 2},
}


class Scheduler:
    """On loopback, with worker processes that no nanny starts again."""

    def __init__(self, folder: Path, num_workers: int, *security: str) -> None:
        self.file = folder / "scheduler.json"
        self.folder, self._security = folder, security
        self.process = self._start("scheduler", "--port", "0")
        _until(self.file.is_file)
        self.workers = [self.start_worker() for _ in range(num_workers)]

    def start_worker(self) -> "subprocess.Popen[bytes]":
        return self._start("worker", "--no-nanny", "--nthreads", "1")

    def _start(self, *command: str) -> "subprocess.Popen[bytes]":
        # the worker's folder is not the driver's
        (self.folder / "elsewhere").mkdir(exist_ok=True)
        common = ["--scheduler-file", str(self.file), "--host", "127.0.0.1", "--no-dashboard"]
        common += self._security
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "distributed.cli.dask_" + command[0], *command[1:], *common],
                cwd=self.folder / "elsewhere",
                stdout=log,
                stderr=log,
            )

    def stop(self) -> None:
        for process in (*self.workers, self.process):
            process.kill()
            process.wait()


def _until(condition, limit_s=240):
    until = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < until, "it took too long"
        time.sleep(0.1)


@pytest.fixture
def scheduler(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dask").mkdir()
    started = Scheduler(tmp_path / "dask", 2)
    with distributed.Client(scheduler_file=str(started.file), set_as_default=False) as client:
        client.wait_for_workers(2, timeout=240)
    yield started
    started.stop()


def on(scheduler, **more):
    return {"cluster": str(scheduler.file), "scratch": "scratch", **more}


def test_a_cluster_finds_what_one_process_finds_also_when_a_worker_is_killed(scheduler):
    expected = tiny_study.searched("alone", **STUDY)
    search = tiny_study.searching(**STUDY, runtime=on(scheduler))
    for number, _ in enumerate(search.run()):
        if number == 1:
            scheduler.workers[0].send_signal(signal.SIGKILL)
    assert tiny_study.rows(search) == tiny_study.rows(expected)
    assert tiny_study.heads(search) == tiny_study.heads(expected)
    assert not list(Path("scratch").rglob("*.pt"))
    # who trained is not recorded
    assert "cluster" not in tomllib.loads(search.directory.config.read_text())["runtime"]


def test_a_worker_leaves_its_job_when_the_driver_is_gone(scheduler, tmp_path):
    study = tiny_study.tables(training={"epochs": 5000}, runtime=on(scheduler))
    Path("long.toml").write_text(tomli_w.dumps(study))
    command = [sys.executable, "-m", "dsaccel", "search", "long.toml", "--quiet"]
    with subprocess.Popen(command) as driver:
        try:
            _until(lambda: list(Path("scratch").rglob("*.pt")))
        finally:
            driver.kill()
    with distributed.Client(scheduler_file=str(scheduler.file), set_as_default=False) as client:
        # sent by value: the workers have no such module
        num_jobs = lambda dask_worker: len(dask_worker.state.executing)  # noqa: E731
        _until(lambda: not any(client.run(num_jobs).values()), 60)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes the certificate")
def test_a_cluster_with_tls_takes_who_has_its_key_and_nobody_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    request = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=dsaccel -keyout key.pem -out"
    subprocess.run(["openssl", *request.split(), "cert.pem"], check=True, capture_output=True)
    files = {name: str(tmp_path / file) for name, file in TLS_FILES.items()}
    options = [text for name, file in files.items() for text in (f"--{name}", file)]
    (tmp_path / "dask").mkdir()
    scheduler = Scheduler(tmp_path / "dask", 1, "--protocol", "tls", *options)
    try:
        own = {"tls_ca": files["tls-ca-file"], "tls_cert": files["tls-cert"]}
        with_key = on(scheduler, **own, tls_key=files["tls-key"])
        security = cluster(**with_key)
        _until(lambda: _num_workers(security) == 1)
        one_epoch = {"training": {"epochs": 1}, "pruning": {"kind": "none"}}
        search = tiny_study.searched(**STUDY | one_epoch, runtime=with_key)
        expected = tiny_study.searched("alone", **STUDY | one_epoch)
        assert tiny_study.rows(search) == tiny_study.rows(expected)
        monkeypatch.setattr("dsaccel.executors.cluster.ANSWER_S", 2.0)
        with pytest.raises(WorkerError, match="must answer at tls://127"):
            tiny_study.searched("stranger", **STUDY, runtime=on(scheduler))
    finally:
        scheduler.stop()


TLS_FILES = {"tls-ca-file": "cert.pem", "tls-cert": "cert.pem", "tls-key": "key.pem"}


def _num_workers(executor: Cluster) -> int:
    with executor._client() as client:
        return len(client.scheduler_info()["workers"])


# ---------------------------------------------------------------------- who is refused


def cluster(**options) -> Cluster:
    return part_of(tiny_study.config(runtime=options).runtime, "executor", "cluster")


def team(options, **study):
    search = tiny_study.searching(**STUDY, runtime=options, **study)
    next(search.run())


def test_an_address_that_does_not_answer_is_refused_in_time(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("dsaccel.executors.cluster.ANSWER_S", 1.0)
    message = r"must answer at tcp://127\.0\.0\.1:1 within 1 s"
    started = time.monotonic()
    with pytest.raises(WorkerError, match=message), cluster(cluster="127.0.0.1:1")._client():
        pass
    assert time.monotonic() - started < 30
    with pytest.raises(WorkerError, match=message):
        team({"cluster": "127.0.0.1:1", "scratch": "."})
    assert tiny_study.searching(**STUDY).num_trained == 0


@pytest.mark.parametrize(
    ("address", "is_taken"),
    [
        ("tcp://127.0.0.1:8786", True),
        ("localhost:8786", True),
        ("tcp://[::1]:8786", True),
        ("tls://10.0.0.1:8786", True),
        ("tcp://10.0.0.1:8786", False),
        ("example.org:8786", False),
    ],
)
def test_without_tls_only_this_machine_is_taken(address, is_taken):
    if is_taken:
        assert cluster(cluster=address)._address()
        return
    with pytest.raises(ConfigError, match=r"without TLS: .*--tls-ca.*or say --cluster-insecure"):
        cluster(cluster=address)._address()
    assert cluster(cluster=address, cluster_insecure=True)._address()


def test_a_file_that_no_scheduler_has_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("{}")
    with pytest.raises(ConfigError, match="must be the file of a Dask scheduler"):
        cluster(cluster=str(tmp_path / "file"))._address()


def test_a_cluster_needs_a_folder_that_all_share():
    with pytest.raises(ConfigError, match=r"runtime\.scratch must be a folder .*--scratch"):
        cluster(cluster="127.0.0.1:1").folder(StudyDir("tiny").parts)
