"""A search on a real PostgreSQL server, which the test starts itself."""

import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tiny_study import rows, searched, searching, write_study

from dsaccel.api import Study
from dsaccel.errors import StorageError
from dsaccel.search.engine import Search

PROGRAMS = Path(shutil.which("initdb") or "").resolve().parent
pytestmark = [
    pytest.mark.usefixtures("own_folder"),
    pytest.mark.long,
    pytest.mark.skipif(
        not (PROGRAMS / "postgres").is_file(), reason="needs PostgreSQL's initdb and postgres"
    ),
]


class Server:
    """Listens in a folder of its own: no other server can take its port."""

    def __init__(self, folder: Path) -> None:
        # PostgreSQL refuses to run as root
        self._user = "nobody" if os.geteuid() == 0 else None
        self._folder, self._data = folder, folder / "data"
        if self._user is not None:
            os.chown(folder, pwd.getpwnam(self._user).pw_uid, -1)
        initdb = [PROGRAMS / "initdb", "-D", self._data, "-U", "dsaccel", "--auth=trust"]
        # whatever locale the tests are started in, it may be unknown here
        setup = [*initdb, "--no-sync", "--no-locale", "--encoding=UTF8"]
        quiet = {"check": True, "stdout": subprocess.DEVNULL}
        subprocess.run(setup, user=self._user, cwd=folder, **quiet)
        self._log = (folder / "log").open("w")

    def url(self, database: str = "postgres", user: str = "dsaccel") -> str:
        return f"postgresql+psycopg://{user}@/{database}?host={self._folder}&port=5432"

    def start(self) -> None:
        options = ["-D", self._data, "-p", "5432", "-k", self._folder, "-c", "listen_addresses="]
        self._process = subprocess.Popen(
            [PROGRAMS / "postgres", *options], user=self._user, cwd=self._folder, stderr=self._log
        )
        ready = [PROGRAMS / "pg_isready", "-q", "-h", self._folder, "-p", "5432"]
        while subprocess.run(ready, check=False).returncode != 0:
            assert self._process.poll() is None, (self._folder / "log").read_text()
            time.sleep(0.1)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT is "fast": it does not wait for our connections; SIGQUIT is as a crash."""
        self._process.send_signal(how)
        self._process.wait()

    def new_database(self, name: str) -> str:
        with psycopg.connect(self.url().replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return self.url(name)

    def close(self) -> None:
        self.stop()
        self._log.close()


@pytest.fixture(scope="module")
def postgres() -> Iterator[Server]:
    # not in TMPDIR, which may be closed to `nobody`, or too long for the name of a socket
    folder = Path(tempfile.mkdtemp(prefix="dsaccel-postgres-", dir="/tmp"))
    try:
        server = Server(folder)
        server.start()
        try:
            yield server
        finally:
            server.close()
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def server(postgres) -> str:
    return postgres.url()


def test_a_study_in_postgresql_holds_the_same_rows_as_in_sqlite(server):
    budget = {"n_trials": 3}
    remote = searched("remote", storage=server, budget=budget)
    assert rows(remote) == rows(searched("local", budget=budget))
    assert not remote.directory.database.exists()
    again = searching("remote", storage=server, budget=budget)
    assert again.is_finished


PRUNED = {"pruning": {"grace_epochs": 1, "reduction_factor": 2}, "training": {"epochs": 4}}


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT])
def test_training_goes_on_while_the_server_is_away_and_its_reports_follow(
    postgres, monkeypatch, how
):
    monkeypatch.setattr("dsaccel.study.outage.LONGEST_PAUSE_S", 0.5)
    monkeypatch.setattr("dsaccel.study.lease.BEAT_S", 0.2)
    name = f"away-{how.name.lower()}"
    search = searching(name, storage=postgres.url(), **PRUNED)
    run = search.run()
    assert next(run).step == 1
    postgres.stop(how)
    assert [next(run).step for _ in range(2)] == [2, 3]  # one trial is pruned meanwhile
    back = threading.Timer(3.0, postgres.start)
    back.start()
    for _ in run:
        pass
    back.join()
    assert rows(search) == rows(searched(f"{name}-local", **PRUNED))


def finished_rows(search: Search) -> list[Any]:
    """In the order of their cohorts."""
    finished = [row for row in rows(search) if row[0] != "FAIL"]
    return sorted(finished, key=lambda row: (row[4]["cohort"], row[4]["place"]))


def test_a_server_that_stays_away_ends_a_search_in_a_line_and_its_command_goes_on(
    postgres, monkeypatch
):
    monkeypatch.setattr("dsaccel.study.storage.LIMIT_S", 1.0)
    search = searching("stays-away", storage=postgres.url(), **PRUNED)
    run = search.run()
    next(run)
    postgres.stop()
    try:
        with pytest.raises(StorageError, match=r"failed: .*run the command again"):
            for _ in run:
                pass
    finally:
        postgres.start()
    again = searched("stays-away", storage=postgres.url(), **PRUNED)
    local = searched("stays-local", **PRUNED)
    assert finished_rows(again) == finished_rows(local)


WILD: dict[str, Any] = {
    "space": {
        "num_blocks": [[1, 1], [1, 1], [1, 2]],
        "settings": {"learning_rate": {"choices": [2e-2, 1e30]}},
    },
    "references": [],
    "budget": {"n_trials": 4, "cohort_size": 4, "strategy": "exhaustive", "baseline": False},
    "pruning": {"grace_epochs": 2, "reduction_factor": 2},
}
DRIVE = """
import sys
from tiny_study import searching
from test_postgres import WILD
from dsaccel.training import checkpoint

checkpoint.INTERVAL_S = -1.0
run = searching("wild", storage=sys.argv[1], **WILD).run()
print("epoch", next(run).step, flush=True)
sys.stdin.readline()
next(run)
print("epoch", next(run).step, flush=True)
sys.stdin.readline()
"""


def test_a_kill_while_the_server_is_away_forgets_nothing_of_what_diverged(postgres):
    """Two networks diverge, and are pruned when nobody can be told."""
    command = [sys.executable, "-c", DRIVE, postgres.url()]
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen(
        command,
        env=os.environ | {"PYTHONPATH": path},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as driver:
        assert driver.stdin is not None
        assert driver.stdout is not None
        assert driver.stdout.readline() == "epoch 1\n"
        postgres.stop()
        try:
            print(file=driver.stdin, flush=True)
            assert driver.stdout.readline() == "epoch 3\n"
            driver.kill()
        finally:
            postgres.start()
    again = searched("wild", storage=postgres.url(), **WILD)
    told = finished_rows(again)
    assert told == finished_rows(searched("wild-local", **WILD))
    lost = [(row[0], sorted(row[3])) for row in told if "diverged" in row[4]]
    assert lost == [("PRUNED", [1, 2])] * 2


BEGIN = """
import sys, time
from pathlib import Path
from dsaccel.config.study import StudyConfig
from dsaccel.config.toml import parse_config, read_toml
from dsaccel.errors import UserError
from dsaccel.study.folder import StudyDir
from dsaccel.study.storage import beginning

name, folder = sys.argv[1:]
config = parse_config(StudyConfig, read_toml(Path("tiny.toml")), "tiny.toml")
print("ready", flush=True)
while not Path("go").exists():
    time.sleep(0.001)
try:
    with beginning(StudyDir(name, Path(folder)), config) as study:
        print("begun", flush=True)
        time.sleep(8)
except UserError as error:
    print(error)
"""


def begun_at_once(names: list[str], folders: list[str], url: str) -> list[str]:
    """What processes say that begin studies at the same moment."""
    write_study(Path("tiny.toml"), storage=url)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", BEGIN, name, folder], stdout=subprocess.PIPE, text=True
        )
        for name, folder in zip(names, folders, strict=True)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    Path("go").touch()
    return [process.communicate()[0].strip() for process in processes]


def test_eight_studies_that_begin_in_an_empty_database_at_once_all_live(postgres):
    url = postgres.new_database("cold")
    names = [f"s{number}" for number in range(8)]
    assert begun_at_once(names, names, url) == ["begun"] * 8


@pytest.mark.parametrize("where", ["PostgreSQL", "one folder"])
def test_of_those_who_begin_one_study_at_once_one_drives_and_the_others_are_told_who(
    postgres, where
):
    if where == "PostgreSQL":
        said = begun_at_once(["same"] * 3, ["a", "b", "c"], postgres.new_database("same"))
    else:
        said = begun_at_once(["same"] * 3, ["a"] * 3, "sqlite:///same.db")
    assert said.count("begun") == 1
    refused = [text for text in said if text != "begun"]
    assert len(refused) == 2
    for text in refused:
        assert re.search(r"another process is at it: process \d+ on \S+ in .*, since 20", text)


def test_a_password_is_in_no_file_no_row_and_no_line(postgres, monkeypatch, capsys):
    url = postgres.new_database("secret")
    whole = url.replace("dsaccel@", "dsaccel:CANARY%40@")
    monkeypatch.setenv("DSACCEL_STORAGE", whole)
    write_study(Path("studies/tiny.toml"), budget={"n_trials": 1, "baseline": False})
    study = Study.open("tiny")
    for _ in study.search():
        pass
    print(study.record.attributes, study.record.trials, study.config)
    assert "CANARY" not in "".join(capsys.readouterr())
    stored = [path for path in Path("studies").rglob("*") if path.is_file()]
    assert not [path for path in stored if b"CANARY" in path.read_bytes()]
    assert Study.load("tiny").config.storage == url
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        left = connection.execute("SELECT * FROM dsaccel_leases").fetchall()
    assert left == [], "a lease ends with its driver"


def test_a_server_that_is_gone_is_one_line(server):
    with pytest.raises(StorageError, match=r"127\.0"):
        searching("gone", storage="postgresql+psycopg://user@127.0.0.1:1/none")
