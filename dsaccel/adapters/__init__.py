"""Landscapes for other search tools, as benchmarks: a file each."""
