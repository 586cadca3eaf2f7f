"""Search the hierarchy (blocks per stage) that learns best layer-wise.

Importing the package imports nothing heavy; see the README for the order in which to read it.
"""

__version__ = "0.1.0"
