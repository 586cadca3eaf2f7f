"""A search on a real PostgreSQL server, which the test starts itself."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_study import rows, searched, searching

from dsaccel.errors import StorageError

PROGRAMS = Path(shutil.which("initdb") or "").resolve().parent
pytestmark = pytest.mark.skipif(
    not (PROGRAMS / "postgres").is_file(), reason="needs PostgreSQL's initdb and postgres"
)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The URL of a server, which listens in a folder of its own: no other one can take its port."""
    # PostgreSQL refuses to run as root
    user = "nobody" if os.geteuid() == 0 else None
    # not in TMPDIR, which may be closed to `nobody`, or too long for the name of a socket
    folder = Path(tempfile.mkdtemp(prefix="dsaccel-postgres-", dir="/tmp"))
    if user is not None:
        os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
    data = folder / "data"
    initdb = [PROGRAMS / "initdb", "-D", data, "-U", "dsaccel", "--auth=trust", "--no-sync"]
    # whatever locale the tests are started in, it may be unknown here
    setup = [*initdb, "--no-locale", "--encoding=UTF8"]
    options = ["-D", data, "-p", "5432", "-k", folder, "-c", "listen_addresses="]
    try:
        subprocess.run(setup, check=True, user=user, cwd=folder, stdout=subprocess.DEVNULL)
        with (
            (folder / "log").open("w") as log,
            subprocess.Popen(
                [PROGRAMS / "postgres", *options], user=user, cwd=folder, stderr=log
            ) as process,
        ):
            try:
                wait_for(process, folder)
                yield f"postgresql+psycopg://dsaccel@/postgres?host={folder}&port=5432"
            finally:
                process.send_signal(signal.SIGINT)  # "fast": it does not wait for our connections
    finally:
        shutil.rmtree(folder)


def wait_for(process: subprocess.Popen[bytes], folder: Path) -> None:
    """As long as it takes to come up, or the time limit of a test."""
    ready = [PROGRAMS / "pg_isready", "-q", "-h", folder, "-p", "5432"]
    while subprocess.run(ready, check=False).returncode != 0:
        assert process.poll() is None, (folder / "log").read_text()
        time.sleep(0.1)


@pytest.fixture(autouse=True)
def working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_study_in_postgresql_holds_the_same_rows_as_in_sqlite(server):
    budget = {"n_trials": 3}
    remote = searched("remote", storage=server, budget=budget)
    assert rows(remote) == rows(searched("local", budget=budget))
    assert not remote.directory.database.exists()
    again = searching("remote", storage=server, budget=budget)
    assert again.is_finished
    for search in (remote, again):
        # or a connection would be found open once the server is gone
        search.study._storage._backend.engine.dispose()  # pyright: ignore


def test_a_server_that_is_gone_is_one_line(server):
    with pytest.raises(StorageError, match=r"127\.0"):
        searching("gone", storage="postgresql+psycopg://user@127.0.0.1:1/none")
