"""Import code that the user has named: `mypackage.heads:Mine`, or `./heads.py:Mine` of a folder.

Nothing else is imported: a name that was read from weights, an exported config or a recorded study
is not trusted by itself.
"""

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from dsaccel.errors import ConfigError

_trusted: dict[str, Path] = {}
"""The import paths that the user has named, and the folder that `./` of each stands for."""
_files: dict[tuple[Path, str | None], ModuleType] = {}
"""The imported files, by path and SHA-256."""


def is_foreign(name: str) -> bool:
    """Whether a name is an import path, `mypackage.heads:Mine` or `./heads.py:Mine`."""
    module, _, attribute = name.rpartition(":")
    return bool(module) and attribute.isidentifier() and not set(module) & set(" \t\n=,")


def words_of(tables: Any) -> Iterator[str]:
    """Every text in nested tables and lists, among which are the names of parts."""
    if isinstance(tables, str):
        yield tables
    elif isinstance(tables, Mapping | list | tuple):
        for value in tables.values() if isinstance(tables, Mapping) else tables:
            yield from words_of(value)


def trust(names: Iterable[str], base: Path) -> None:
    """Allow the import of parts that the user has named.

    Args:
        names: import paths; names of shipped parts need no trust and are passed over.
        base: the folder that `./` stands for: that of the study file, or the current one.

    Raises:
        ConfigError: if a name stands for another file already.
    """
    base = base.resolve()
    for name in filter(is_foreign, names):
        known = _trusted.setdefault(name, base)
        if known != base and _is_file(name) and _sha256(known, name) != _sha256(base, name):
            raise ConfigError(
                f"{name} must be one part, but it is another one in {base} than in {known}; "
                f"give one of the files another name"
            )


def trust_as(name: str, base: Path) -> None:
    """Trust what another process trusts, which gives this name to a file of this folder."""
    _trusted[name] = base


def trusted() -> dict[str, Path]:
    """The names that are trusted, for a worker process to trust them too."""
    return dict(_trusted)


def import_attribute(path: str) -> Any:
    """Import what a path names."""
    module, _, attribute = path.rpartition(":")
    if _is_file(path):
        return getattr(_import_file(_trusted[path], path), attribute)
    return getattr(importlib.import_module(module), attribute)


def _is_file(path: str) -> bool:
    return path.rpartition(":")[0].endswith(".py")


def _import_file(base: Path, path: str) -> ModuleType:
    """The module of a file; imported again only if the file has changed."""
    file, sha256 = _file(base, path), _sha256(base, path)
    if (file, sha256) not in _files:
        name = f"dsaccel_part_{file.stem}_{str(sha256)[:16]}"
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses look their module up
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
        _files[file, sha256] = module
    return _files[file, sha256]


def _file(base: Path, path: str) -> Path:
    return base / path.rpartition(":")[0]


def _sha256(base: Path, path: str) -> str | None:
    try:
        return hashlib.sha256(_file(base, path).read_bytes()).hexdigest()
    except OSError:
        return None
