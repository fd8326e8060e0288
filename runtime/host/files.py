"""Files that are whole or not there: digests, and writing aside before renaming."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from ..errors import SinkError

# What decoding JSON raises on damage: also on bytes that are no UTF-8, and on thousands of open brackets.
NOT_JSON: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def sha256_of(path: Path) -> str:
    """Hex digest of a file's content."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def aside(path: Path) -> Path:
    """Where a file is built before it takes the name ``path``: beside it, hidden, and short enough where
    ``path`` is as long as names may be."""
    digest = hashlib.sha256(path.name.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return path.with_name(f".doppelgan-{digest}-{os.getpid()}.part")


def write_whole(path: Path, data: bytes | memoryview) -> None:
    """Write under another name and rename, so that nobody ever reads half a file. Raises OSError."""
    part = aside(path)
    try:
        part.write_bytes(data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def refuse_to_replace(paths: Iterable[Path], overwrite: bool) -> None:
    """Raise SinkError if a file of ``paths`` is there, unless ``overwrite``; to be called before the work."""
    there = [] if overwrite else [path for path in paths if path.exists() or path.is_symlink()]
    if there:
        more = f" (and {len(there) - 1} more)" if len(there) > 1 else ""
        raise SinkError(f"{there[0]}: already there{more}; choose another output or pass --overwrite")
