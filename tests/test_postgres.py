"""A search on a real PostgreSQL server, which the test starts itself."""

import os
import pwd
import shutil
import signal
import socket
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
    """The URL of a server on a free port."""
    # PostgreSQL refuses to run as root
    user = "nobody" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="dsaccel-postgres-"))
    if user is not None:
        os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data = folder / "data"
    setup = [PROGRAMS / "initdb", "-D", data, "-U", "dsaccel", "--auth=trust", "--no-sync"]
    subprocess.run(setup, check=True, user=user, cwd=folder, stdout=subprocess.DEVNULL)
    options = ["-D", data, "-p", str(port), "-k", folder, "-c", "listen_addresses=127.0.0.1"]
    log = (folder / "log").open("w")
    process = subprocess.Popen([PROGRAMS / "postgres", *options], user=user, cwd=folder, stderr=log)
    try:
        wait_for(port)
        yield f"postgresql+psycopg://dsaccel@127.0.0.1:{port}/postgres"
    finally:
        process.send_signal(signal.SIGINT)  # "fast": it does not wait for our connections
        process.wait()
        log.close()
        shutil.rmtree(folder)


def wait_for(port: int) -> None:
    ready = [PROGRAMS / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
    for _ in range(100):
        if subprocess.run(ready, check=False).returncode == 0:
            return
        time.sleep(0.1)
    raise TimeoutError("the server did not come up")


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
    with pytest.raises(StorageError, match=r"127\.0") as caught:
        searching("gone", storage="postgresql+psycopg://user:secret@127.0.0.1:1/none")
    assert "secret" not in str(caught.value)
