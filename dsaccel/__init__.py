"""Search the hierarchy (blocks per stage) that learns best layer-wise.

What an export is used with elsewhere is here (docs/weights.md); importing the package imports
nothing heavy. See the README for the order in which to read it.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dsaccel.nn.network import Network, build_network, load_network

__all__ = ["Network", "build_network", "load_network"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name in __all__:
        from dsaccel.nn import network

        return getattr(network, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
