"""Binary files of our own: each holds the SHA-256 of its other bytes; a damaged one is not read.

A state is what `torch.save` writes, followed by the hash. In a file of weights the hash stands
among its metadata, where every program that reads such files passes over it.
"""

import hashlib
import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from dsaccel.errors import StorageError
from dsaccel.files import open_file

LENGTH = 64
"""The length of a hash in hexadecimal."""
_UNSEALED = "0" * LENGTH
_KEY = b'"sha256":"'


class DamagedError(StorageError):
    """A file does not hold what was written to it, or is not there."""


def write_state(path: Path, state: Any) -> None:
    """Write plain numbers and tensors."""
    with path.open("w+b") as file:
        torch.save(state, file)
        file.seek(0)
        file.write(hashlib.file_digest(file, "sha256").hexdigest().encode())


def read_state(path: Path) -> Any:
    """Read a state back, on the CPU: it is mapped into memory, and read when it is needed.

    Raises:
        DamagedError: if it is not that.
    """
    if not is_whole(path):
        raise DamagedError(f"{path} must hold what was written to it, but is damaged or gone")
    return torch.load(path, map_location="cpu", weights_only=True, mmap=True)


def is_whole(path: Path) -> bool:
    """Whether a state is there as it was written."""
    try:
        with open_file(path) as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as all_:
            return _is_sealed(all_, len(all_) - LENGTH)
    except (OSError, ValueError):  # no file, or an empty one
        return False


def sealed_weights(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """Tensors in the format safetensors."""
    content = safetensors.torch.save(dict(tensors), {**metadata, "sha256": _UNSEALED})
    at = content.index(_KEY) + len(_KEY)
    return content[:at] + _hash_around(content, at) + content[at + LENGTH :]


def are_sealed(content: bytes) -> bool:
    """Whether weights are as they were written."""
    return _is_sealed(content, content.find(_KEY) + len(_KEY))


def _is_sealed(content: "bytes | mmap.mmap", at: int) -> bool:
    return at > 0 and _hash_around(content, at) == content[at : at + LENGTH]


def _hash_around(content: "bytes | mmap.mmap", at: int) -> bytes:
    """The hash of all bytes but those from `at` on that hold it."""
    with memoryview(content) as view:
        digest = hashlib.sha256(view[:at])
        digest.update(view[at + LENGTH :])
    return digest.hexdigest().encode()
