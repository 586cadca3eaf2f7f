"""The hierarchy: how many blocks each stage of a network has, written `1-1-2-4`."""

from dsaccel.errors import ConfigError

Hierarchy = tuple[int, ...]


def parse_hierarchy(text: str) -> Hierarchy:
    """Read `1-1-2-4` as `(1, 1, 2, 4)`.

    Raises:
        ConfigError: if a part is no whole number or a stage has no block.
    """
    parts = text.strip().split("-")
    if not all(part.isascii() and part.isdigit() and int(part) >= 1 for part in parts):
        raise ConfigError(
            "a hierarchy must be whole numbers of at least 1, a block count for each stage, "
            f"joined by '-', but got {text!r}; write for example 1-1-2-2"
        )
    return tuple(int(part) for part in parts)


def format_hierarchy(hierarchy: Hierarchy) -> str:
    """Write `(1, 1, 2, 4)` as `1-1-2-4`."""
    return "-".join(str(num_blocks) for num_blocks in hierarchy)
