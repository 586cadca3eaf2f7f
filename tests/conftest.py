"""What every test runs in, whatever the machine and whoever starts it."""

from functools import cache

import alembic.util.pyfiles
import optuna
import pytest
import torch
from hypothesis import settings

# the same inputs each time, and nothing is written; benchmarks/fuzz.py draws new ones
settings.register_profile("ours", deadline=None, derandomize=True, database=None)
settings.load_profile("ours")

TERMINAL = (
    *("COLUMNS", "LINES", "FORCE_COLOR", "NO_COLOR", "COLORTERM", "TERM"),
    *("TTY_COMPATIBLE", "TTY_INTERACTIVE", "JUPYTER_COLUMNS", "JUPYTER_LINES"),
)
"""What Rich reads of a terminal."""


@pytest.fixture(scope="session", autouse=True)
def own_environment(tmp_path_factory):
    """No terminal's settings, and not the user's cache folder."""
    with pytest.MonkeyPatch.context() as patch:
        for name in TERMINAL:
            patch.delenv(name, raising=False)
        patch.setenv("DSACCEL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def tables_known():
    """Alembic reads the history of Optuna's tables once, not for each of a thousand storages."""
    with pytest.MonkeyPatch.context() as patch:
        read = alembic.util.pyfiles.load_module_py
        patch.setattr("alembic.util.pyfiles.load_module_py", cache(read))
        yield


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def one_thread_again():
    """A command that is given no number of threads takes all cores, for good."""
    yield
    torch.set_num_threads(1)


@pytest.fixture
def own_folder(tmp_path, monkeypatch):
    """A test runs in a folder of its own, and Optuna tells only what is wrong."""
    monkeypatch.chdir(tmp_path)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
