"""The workers of an existing Dask cluster, on as many machines as it has.

Its scheduler unpickles what it is sent and lets everybody in who reaches it, unless it speaks TLS.
So only a scheduler on this machine is taken without.
"""

import ipaddress
import json
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, InvalidStateError
from contextlib import ExitStack, contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from dsaccel.errors import ConfigError, UserError, WorkerError
from dsaccel.executors import Executor
from dsaccel.stopping import LostJobError

if TYPE_CHECKING:
    from distributed import Client

    from dsaccel.training.opening import Facts, Opening
    from dsaccel.training.station import Station
    from dsaccel.training.team import Team
    from dsaccel.training.workbench import Bench

A = TypeVar("A")
R = TypeVar("R")

ANSWER_S = 10.0
"""How long an address may take to answer."""
ANOTHER_S = 30.0
"""How long another worker is waited for in the place of a lost one."""
LOOK_S = 2.0
"""How often it is looked which workers are there."""


class Cluster(Executor):
    """The workers of the Dask scheduler at an address."""

    cluster: str | None = None
    scratch: str | None = None
    cluster_insecure: bool = False
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None

    def folder(self, own: Path) -> Path:
        if self.scratch is None:
            raise ConfigError(
                "runtime.scratch must be a folder that all machines of the cluster share; name it "
                "with --scratch"
            )
        whole = own.resolve()
        id_ = sha256(str(whole).encode()).hexdigest()[:8]
        return Path(self.scratch).expanduser().resolve() / f"{whole.parent.name}-{whole.name}-{id_}"

    @contextmanager
    def team(self, bench: "Bench[Any]", folder: Path) -> "Iterator[Team]":
        from dsaccel.training.opening import Facts, Opening
        from dsaccel.training.team import Team

        with ExitStack() as stack:
            client = stack.enter_context(self._client())
            machines: dict[str, str] = client.run(_machine)  # pyright: ignore[reportAssignmentType]
            if not machines:
                raise WorkerError(
                    f"the cluster at {self.cluster} must have workers, but has none; start some"
                )
            most = max(Counter(machines.values()).values())
            share = 1 / most if bench.device.type == "cpu" else 1.0
            opening = Opening.of(bench, folder, share=share)
            stack.callback(opening.close)
            crowd = Crowd(client, opening.on(bench.device.type), Facts.of(bench), folder)
            workers = [ClusterWorker(crowd, address) for address in sorted(machines)]
            for worker, opened in [(worker, worker.open()) for worker in workers]:
                worker.check(opened)
            for worker in workers:
                stack.callback(worker.stop)
            yield Team(workers, share)

    @contextmanager
    def _client(self) -> "Iterator[Client]":
        """A client of the scheduler.

        Raises:
            ConfigError: an address that must not be used.
            WorkerError: if nobody answers there.
        """
        try:
            from distributed import Client, Security
        except ImportError:
            raise ConfigError(
                "a cluster needs Dask, which is not installed: pip install 'dsaccel[cluster]'"
            ) from None
        address, files = self._address(), (self.tls_ca, self.tls_cert, self.tls_key)
        security = None
        if any(files):
            names = ("tls_ca_file", "tls_client_cert", "tls_client_key")
            given = {name: file for name, file in zip(names, files, strict=True) if file}
            security = Security(require_encryption=True, **given)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what differs and matters is found by ourselves
            try:
                client = Client(address, timeout=ANSWER_S, security=security, set_as_default=False)
            except (OSError, ValueError, TypeError) as error:
                raise WorkerError(
                    f"a Dask scheduler must answer at {address} within {ANSWER_S:.0f} s, but: "
                    f"{str(error).partition(chr(10))[0]}; start one there, or mend the address"
                ) from None
            with client:
                yield client

    def _address(self) -> str:
        """The address of the scheduler, which may be in a file that it has written."""
        if not self.cluster:
            raise ConfigError("runtime.cluster must be the address of a Dask scheduler")
        address, file = self.cluster, Path(self.cluster).expanduser()
        if file.is_file():
            try:
                address = json.loads(file.read_text(encoding="utf-8"))["address"]
            except (ValueError, KeyError, TypeError):
                raise ConfigError(
                    f"{file} must be the file of a Dask scheduler, but holds no address"
                ) from None
        if "://" not in address:
            address = f"tcp://{address}"
        if self.cluster_insecure or address.startswith("tls://") or _is_loopback(address):
            return address
        raise ConfigError(
            f"runtime.cluster = {address} is on the network without TLS: whoever reaches it can "
            "run any code there; give the scheduler TLS (docs/cluster.md) and name its files with "
            "--tls-ca, --tls-cert and --tls-key, or say --cluster-insecure"
        )


class Crowd:
    """The workers of a cluster, of which some are taken."""

    def __init__(self, client: "Client", opening: "Opening", driver: "Facts", folder: Path) -> None:
        self.client, self.opening, self.driver, self.folder = client, opening, driver, folder
        self.taken: set[str] = set()
        self._there: set[str] = set()
        self._looked = 0.0

    def there(self) -> set[str]:
        """The addresses of those that are there."""
        if time.monotonic() - self._looked > LOOK_S:
            self._looked = time.monotonic()
            try:
                self._there = set(self.client.scheduler_info()["workers"])
            except (OSError, KeyError):
                self._there = set()
        return self._there


class ClusterWorker:
    """One of them; its jobs come to it alone."""

    def __init__(self, crowd: Crowd, address: str) -> None:
        from distributed.scheduler import KilledWorker

        self.name = address
        self.lost = (CancelledError, KilledWorker, OSError, LostJobError)
        self._crowd = crowd
        self._inner: Future[Any] | None = None
        crowd.taken.add(address)

    def open(self) -> "Future[Facts]":
        """Have it open the bench."""
        from dsaccel.training.opening import open_station

        return self._ask(open_station, self._crowd.opening)

    def check(self, opened: "Future[Facts]") -> None:
        """
        Raises:
            WorkerError: if it would come to other results.
        """
        crowd = self._crowd
        try:
            facts = opened.result()
        except UserError as error:
            raise WorkerError(f"{self.name}: {error}") from None
        except (ImportError, AttributeError) as error:
            raise WorkerError(
                f"{self.name} must have this version of dsaccel ({crowd.driver.version}), but: "
                f"{error}; install the same one there"
            ) from None
        facts.check(self.name, crowd.driver, crowd.folder)

    def submit(self, function: "Callable[[Station, A], R]", argument: A) -> "Future[R]":
        return self._ask(_at_station, self._crowd.opening.id, function, argument)

    def is_alive(self) -> bool:
        return self.name in self._crowd.there()

    def renew(self) -> bool:
        crowd = self._crowd
        crowd.taken.discard(self.name)
        until = time.monotonic() + ANOTHER_S
        while crowd.client.status == "running" and time.monotonic() < until:
            for address in sorted(crowd.there() - crowd.taken - {self.name}):
                self.name = address
                crowd.taken.add(address)
                with suppress(WorkerError, *self.lost):
                    self.check(self.open())
                    return True
            time.sleep(LOOK_S / 4)
        return False

    def leave(self) -> None:
        if self._inner is not None:
            self._inner.cancel()

    stop = leave

    def _ask(self, function: Callable[..., Any], *arguments: Any) -> "Future[Any]":
        executor = self._crowd.client.get_executor(workers=[self.name], pure=False, retries=0)
        inner = self._inner = executor.submit(function, *arguments)
        outer: Future[Any] = Future()

        def answer(_: "Future[Any]") -> None:
            with suppress(InvalidStateError):  # it was given up meanwhile
                if inner.cancelled():
                    outer.set_exception(CancelledError())
                elif error := inner.exception():
                    outer.set_exception(error)
                else:
                    outer.set_result(inner.result())

        inner.add_done_callback(answer)
        return outer


def _at_station(id_: str, function: Callable[..., R], argument: Any) -> R:
    """Do a job in a worker, which saves it and leaves it when the driver is gone."""
    from distributed import get_worker

    from dsaccel.training.opening import at_station

    worker = get_worker()
    key = worker.get_current_task()

    def is_wanted() -> bool:
        task = worker.state.tasks.get(key)
        return task is not None and task.state == "executing"

    return at_station(id_, function, argument, is_wanted)


def _machine() -> str:
    import platform

    return platform.node()


def _is_loopback(address: str) -> bool:
    host = urlsplit(address).hostname or ""
    if host == "localhost" or address.startswith("inproc://"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
