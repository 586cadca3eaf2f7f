"""Search the hierarchy (blocks per stage) that learns best layer-wise.

A study from Python (docs/python.md), and what an export is used with elsewhere (docs/weights.md);
importing the package imports nothing heavy. See the README for the order in which to read it.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dsaccel.analysis.landscape_files import read_landscape
    from dsaccel.api import Study
    from dsaccel.data.sources.arrays import ArraySource
    from dsaccel.nn.network import Network, build_network, load_network

MODULES = {
    "ArraySource": "data.sources.arrays",
    "Network": "nn.network",
    "Study": "api",
    "build_network": "nn.network",
    "load_network": "nn.network",
    "read_landscape": "analysis.landscape_files",
}
__all__ = ["ArraySource", "Network", "Study", "build_network", "load_network", "read_landscape"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"dsaccel.{MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
